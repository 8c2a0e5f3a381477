//! What a key that nobody reads was meant to be: the settings themselves say which keys they have.

use serde::{
    Deserialize, Deserializer,
    de::{DeserializeSeed, Error as _, IntoDeserializer, MapAccess, SeqAccess, Visitor, value::Error},
    forward_to_deserialize_any,
};
use tidegate_actors::settings::Settings;

/// How alike two keys are when one may be a slip of the other; 1 is the same.
const SLIP: f64 = 0.7;

/// The key that is spelt most like this one and stands beside it.
pub(super) fn meant(key: &str) -> Option<String> {
    let (parent, last) = key.rsplit_once('.').unwrap_or(("", key));
    let alike = |known: &str| match known.eq_ignore_ascii_case(last) {
        true => 1.0,
        false => strsim::normalized_damerau_levenshtein(known, last),
    };
    let nearest = keys(parent)?.iter().max_by(|left, right| alike(left).total_cmp(&alike(right)))?;
    let whole = if parent.is_empty() { (*nearest).to_owned() } else { format!("{parent}.{nearest}") };
    (alike(nearest) >= SLIP && whole != key).then_some(whole)
}

/// The keys of the object at this path.
fn keys(path: &str) -> Option<&'static [&'static str]> {
    let steps: Vec<&str> = path.split('.').filter(|step| !step.is_empty()).collect();
    let mut found = None;
    // Always an error: a struct says which fields it has before anything is read.
    let _ = Settings::deserialize(Walk { steps: &steps, found: &mut found });
    found
}

/// A file that holds one thing: the object at the end of these steps.
struct Walk<'a> {
    steps: &'a [&'a str],
    found: &'a mut Option<&'static [&'static str]>,
}

impl Walk<'_> {
    fn step(&mut self) -> Option<&str> {
        let (step, rest) = self.steps.split_first()?;
        self.steps = rest;
        Some(step)
    }

    fn further(&mut self) -> Walk<'_> {
        Walk { steps: self.steps, found: self.found }
    }
}

impl<'de> Deserializer<'de> for Walk<'_> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Error> {
        Err(Error::custom("no object with keys of its own"))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        if self.steps.is_empty() {
            *self.found = Some(fields);
            return Err(Error::custom("found"));
        }
        visitor.visit_map(self)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_map(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_seq(self)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 u8 u16 u32 u64 f32 f64 char str string bytes byte_buf unit unit_struct
        tuple tuple_struct enum identifier ignored_any
    }
}

impl<'de> MapAccess<'de> for Walk<'_> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Error> {
        self.step().map(|step| seed.deserialize(step.into_deserializer())).transpose()
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        seed.deserialize(self.further())
    }
}

impl<'de> SeqAccess<'de> for Walk<'_> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Error> {
        if self.step().is_none() {
            return Ok(None);
        }
        seed.deserialize(self.further()).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_traced_to_the_key_beside_it() {
        for (key, expected) in [
            ("gateway.potr", Some("gateway.port")),
            ("gatewya", Some("gateway")),
            ("gateway.Bind", Some("gateway.bind")),
            ("channels.telegram.botTokn", Some("channels.telegram.botToken")),
            ("channels.telegram.accounts.b.botTokn", Some("channels.telegram.accounts.b.botToken")),
            ("agents.list.0.workspce", Some("agents.list.0.workspace")),
            ("gateway.push", None),
            ("gateway.port", None),
            ("plugin.entries", None),
            ("", None),
        ] {
            assert_eq!(meant(key).as_deref(), expected, "{key}");
        }
    }
}
