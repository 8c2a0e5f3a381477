//! Typed parameters out of raw JSON, with errors that name the place.

use crate::error::ErrorShape;
use crate::lenient;
use crate::strict::{Nulls, Strict};
use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_json::value::RawValue;
use serde_path_to_error::{Path, Segment};
use std::borrow::Cow;

/// Problems that one refusal tells of.
const MOST_TOLD: usize = 5;

/// Params of more bytes than this are not read a second time only to say all that is wrong with them.
const MOST_LOOKED_AT: usize = 64 * 1024;

/// Reads the params of `method`; absent or `null` params count as `{}`, and so does each field that may be absent.
pub fn parse<T: DeserializeOwned>(method: &str, raw: Option<&RawValue>) -> Result<T, ErrorShape> {
    read(method, raw, Nulls::AreAbsent)
}

/// As [`parse`], for params of which no field may be `null`.
pub(crate) fn parse_without_nulls<T: DeserializeOwned>(
    method: &str,
    raw: Option<&RawValue>,
) -> Result<T, ErrorShape> {
    read(method, raw, Nulls::AreValues)
}

/// Checks that there are no params, or `null`, or an object: nothing else is ever right.
pub fn check_object(method: &str, raw: Option<&RawValue>) -> Result<(), ErrorShape> {
    match raw.map(RawValue::get) {
        None | Some("null") => Ok(()),
        Some(text) if text.starts_with('{') => Ok(()),
        Some(_) => Err(invalid(method, "root", "must be object")),
    }
}

fn read<T: DeserializeOwned>(method: &str, raw: Option<&RawValue>, nulls: Nulls) -> Result<T, ErrorShape> {
    let text = raw.map_or("{}", RawValue::get);
    let text = if text == "null" { "{}" } else { text };
    let read = read_text(text, nulls).or_else(|problem| match lenient::mended(text) {
        Cow::Owned(mended) => read_text(&mended, nulls),
        Cow::Borrowed(_) => Err(problem),
    });
    read.map_err(|problem| {
        ErrorShape::invalid(format!("invalid {method} params: {}", with_others::<T>(problem, text, nulls)))
    })
}

fn read_text<T: DeserializeOwned>(text: &str, nulls: Nulls) -> Result<T, Problem> {
    let mut reader = serde_json::Deserializer::from_str(text);
    serde_path_to_error::deserialize(Strict::new(&mut reader, nulls))
        .map_err(|error| Problem { place: pointer(error.path()), said: error.inner().to_string() })
}

/// What serde found wrong, and where.
struct Problem {
    place: String,
    said: String,
}

impl Problem {
    fn described(&self) -> String {
        describe(&self.place, &self.said)
    }

    /// A property that is not known, and the place of what has it.
    fn unexpected(&self) -> Option<(&str, &str)> {
        let name = self.said.strip_prefix("unknown field `")?.split('`').next()?;
        let parent = self.place.strip_suffix(name).and_then(|parent| parent.strip_suffix('/'));
        Some((parent.unwrap_or(&self.place), name))
    }

    fn is_missing(&self) -> bool {
        self.said.starts_with("missing field")
    }
}

/// serde stops at the first thing that is wrong. Beside a property that is not known, one that is missing is told as
/// well, and first: often one is the other, misspelt.
fn with_others<T: DeserializeOwned>(first: Problem, text: &str, nulls: Nulls) -> String {
    let mut told = vec![first.described()];
    let mut rest = match first.unexpected() {
        Some(_) if text.len() <= MOST_LOOKED_AT => serde_json::from_str::<Value>(text).unwrap_or_default(),
        _ => Value::Null,
    };
    let mut last = first;
    while told.len() < MOST_TOLD
        && let Some((parent, name)) = last.unexpected()
        && let Some(Value::Object(parent)) = rest.pointer_mut(parent)
        && parent.remove(name).is_some()
        && let Err(next) = read_text::<T>(&rest.to_string(), nulls)
    {
        if next.is_missing() {
            told.insert(0, next.described());
        } else if next.unexpected().is_some() {
            told.push(next.described());
        }
        last = next;
    }
    told.join("; ")
}

/// An error about one place in the params of `method`; `path` is a JSON pointer.
pub fn invalid(method: &str, path: &str, problem: &str) -> ErrorShape {
    ErrorShape::invalid(format!("invalid {method} params: at {path}: {problem}"))
}

/// Says what serde found wrong in the words of the official gateway's validator.
pub(crate) fn describe(pointer: &str, problem: &str) -> String {
    let problem = problem.split(" at line ").next().unwrap_or(problem);
    let quoted = problem.split('`').nth(1);
    let place = if pointer.is_empty() { "root" } else { pointer };
    match quoted {
        Some(number) if problem.starts_with("invalid value: integer") && number.starts_with('-') => {
            format!("at {place}: must be >= 0")
        }
        Some(name) if problem.starts_with("missing field") && pointer.is_empty() => {
            format!("must have required property '{name}'")
        }
        Some(name) if problem.starts_with("missing field") => {
            format!("at {place}: must have required property '{name}'")
        }
        Some(name) if problem.starts_with("unknown field") => {
            let parent = pointer.strip_suffix(&format!("/{name}")).unwrap_or(pointer);
            format!("at {}: unexpected property '{name}'", if parent.is_empty() { "root" } else { parent })
        }
        Some(_) if problem.starts_with("unknown variant") => {
            format!("at {place}: must be equal to one of the allowed values")
        }
        _ => match problem.split_once(", expected ") {
            Some((_, expected)) => format!("at {place}: must be {}", kind(expected)),
            None => format!("at {place}: {problem}"),
        },
    }
}

/// serde's word for a type, as JSON Schema calls it.
fn kind(expected: &str) -> &str {
    match expected {
        "a string" | "string" => "string",
        "a boolean" => "boolean",
        "a sequence" => "array",
        "a map" => "object",
        "u8" | "u16" | "u32" | "u64" | "usize" | "i8" | "i16" | "i32" | "i64" => "integer",
        "f32" | "f64" => "number",
        other if other.starts_with("struct") => "object",
        other => other,
    }
}

fn pointer(path: &Path) -> String {
    let mut pointer = String::new();
    for segment in path.iter() {
        pointer.push('/');
        match segment {
            Segment::Seq { index } => pointer.push_str(&index.to_string()),
            Segment::Map { key } => pointer.push_str(key),
            Segment::Enum { variant } => pointer.push_str(variant),
            Segment::Unknown => pointer.push('?'),
        }
    }
    pointer
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(rename_all = "camelCase", deny_unknown_fields)]
    struct Sample {
        session_key: String,
        #[serde(default)]
        limit: Option<u32>,
        #[serde(default)]
        tags: Vec<String>,
    }

    fn message(text: &str) -> String {
        let raw = RawValue::from_string(text.to_owned()).unwrap();
        parse::<Sample>("x", Some(&raw)).unwrap_err().message
    }

    #[test]
    fn what_is_well_formed_is_taken() {
        let raw = RawValue::from_string(r#"{"sessionKey":"a","limit":3,"tags":["b"]}"#.to_owned()).unwrap();
        let wanted = Sample { session_key: "a".to_owned(), limit: Some(3), tags: vec!["b".to_owned()] };
        assert_eq!(parse::<Sample>("x", Some(&raw)).unwrap(), wanted);
    }

    #[test]
    fn each_problem_names_its_place() {
        assert_eq!(message("{}"), "invalid x params: must have required property 'sessionKey'");
        assert_eq!(
            message(r#"{"sessionKey":"a","nope":1}"#),
            "invalid x params: at root: unexpected property 'nope'"
        );
        assert_eq!(
            message(r#"{"limit":1,"nope":1,"more":2}"#),
            "invalid x params: must have required property 'sessionKey'; at root: unexpected property 'nope'; at root: \
             unexpected property 'more'"
        );
        assert_eq!(message(r#"{"sessionKey":3}"#), "invalid x params: at /sessionKey: must be string");
        assert_eq!(
            message(r#"{"sessionKey":"a","limit":"b"}"#),
            "invalid x params: at /limit: must be integer"
        );
        assert_eq!(
            message(r#"{"sessionKey":"a","tags":["b",1]}"#),
            "invalid x params: at /tags/1: must be string"
        );
    }

    #[test]
    fn a_whole_number_is_an_integer_however_it_is_written() {
        let limit = |number: &str| {
            let raw = RawValue::from_string(format!(r#"{{"sessionKey":"a","limit":{number}}}"#)).unwrap();
            parse::<Sample>("x", Some(&raw)).map(|sample| sample.limit).map_err(|error| error.message)
        };
        for number in ["5000", "5000.0", "5e3", "50000e-1"] {
            assert_eq!(limit(number).unwrap(), Some(5000), "{number}");
        }
        for number in ["5000.5", "1e300", "4294967296", "4294967296.0"] {
            assert_eq!(
                limit(number).unwrap_err(),
                "invalid x params: at /limit: must be integer",
                "{number}"
            );
        }
        for number in ["-1", "-1.0"] {
            assert_eq!(limit(number).unwrap_err(), "invalid x params: at /limit: must be >= 0", "{number}");
        }
    }

    #[test]
    fn half_a_character_is_replaced() {
        let raw = RawValue::from_string(r#"{"sessionKey":"a\ud83d"}"#.to_owned()).unwrap();
        assert_eq!(parse::<Sample>("x", Some(&raw)).unwrap().session_key, "a\u{fffd}");
    }

    #[test]
    fn nothing_but_an_object_is_an_object() {
        #[derive(Debug, Deserialize)]
        struct Nested {
            #[serde(default)]
            first: Option<String>,
            #[serde(default)]
            inner: Option<Box<Nested>>,
            #[serde(default)]
            list: Vec<Nested>,
            #[serde(default)]
            raw: Option<Box<RawValue>>,
            #[serde(default)]
            any: Option<serde_json::Value>,
        }
        let read = |text: &str, nulls| {
            let raw = RawValue::from_string(text.to_owned()).unwrap();
            super::read::<Nested>("x", Some(&raw), nulls).map_err(|error| error.message)
        };
        for (text, place) in [
            (r#"["a"]"#, "root"),
            ("[]", "root"),
            (r#""a""#, "root"),
            ("7", "root"),
            (r#"{"inner":["a"]}"#, "/inner"),
            (r#"{"inner":{"inner":[]}}"#, "/inner/inner"),
            (r#"{"list":[{},["a"]]}"#, "/list/1"),
        ] {
            let expected = format!("invalid x params: at {place}: must be object");
            assert_eq!(read(text, Nulls::AreAbsent).unwrap_err(), expected, "{text}");
        }
        let nulls = r#"{"first":null,"inner":null}"#;
        assert!(read(nulls, Nulls::AreAbsent).is_ok());
        let refused = read(nulls, Nulls::AreValues).unwrap_err();
        assert_eq!(refused, "invalid x params: at /first: must be string");
        let refused = read(r#"{"inner":null}"#, Nulls::AreValues).unwrap_err();
        assert_eq!(refused, "invalid x params: at /inner: must be object");
        let all = r#"{"first":"a","inner":{"first":"b"},"list":[{}],"raw":[1],"any":[null]}"#;
        for nulls in [Nulls::AreAbsent, Nulls::AreValues] {
            let all = read(all, nulls).unwrap();
            assert_eq!(all.list.len(), 1);
            assert_eq!(all.inner.unwrap().first.as_deref(), Some("b"));
            assert_eq!((all.raw.unwrap().get(), all.any.unwrap().to_string().as_str()), ("[1]", "[null]"));
        }
        for (text, ok) in [("{}", true), ("null", true), ("[]", false), ("\"{}\"", false), ("true", false)] {
            let raw = RawValue::from_string(text.to_owned()).unwrap();
            assert_eq!(check_object("x", Some(&raw)).is_ok(), ok, "{text}");
        }
    }

    #[test]
    fn absent_and_null_params_are_empty() {
        #[derive(Deserialize)]
        struct Nothing {}
        assert!(parse::<Nothing>("x", None).is_ok());
        let null = RawValue::from_string("null".to_owned()).unwrap();
        assert!(parse::<Nothing>("x", Some(&null)).is_ok());
    }
}
