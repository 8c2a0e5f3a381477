//! Text that must never be seen: tokens, passwords, API keys.

use std::{fmt, sync::Arc};

use super::placeholder::is_placeholder;
use aws_lc_rs::{constant_time::verify_slices_are_equal, digest};
use serde::{Deserialize, Deserializer, de};

/// A secret value. It can't be printed, serialised or compared with `==`;
/// the only ways out are [`Secret::expose`] and [`Secret::matches`].
#[derive(Clone)]
pub struct Secret(Arc<str>);

impl Secret {
    /// Makes a secret, and keeps its text out of the logs from now on; but not a word that every line may hold.
    pub fn new(value: impl AsRef<str>) -> Self {
        if !is_placeholder(value.as_ref()) {
            crate::redaction::keep(value.as_ref());
        }
        Self(Arc::from(value.as_ref()))
    }

    /// The value itself: for the one place that sends it, never for a log or an error.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether `given` is this secret. Digests are compared, so the time taken says
    /// nothing about the length or the first differing byte.
    pub fn matches(&self, given: &str) -> bool {
        let mine = digest::digest(&digest::SHA256, self.0.as_bytes());
        let theirs = digest::digest(&digest::SHA256, given.as_bytes());
        verify_slices_are_equal(mine.as_ref(), theirs.as_ref()).is_ok()
    }

    /// Nothing but white space.
    pub fn is_blank(&self) -> bool {
        self.0.trim().is_empty()
    }

    /// Whether it only stands where a secret should be.
    pub fn is_placeholder(&self) -> bool {
        is_placeholder(&self.0)
    }

    /// Whether two settings hold the same secret, for noticing that one was changed.
    pub fn same(left: Option<&Self>, right: Option<&Self>) -> bool {
        match (left, right) {
            (Some(left), Some(right)) => left.matches(right.expose()),
            (None, None) => true,
            _ => false,
        }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(SecretVisitor)
    }
}

/// Refuses other types without repeating what it was given: a token written as a
/// bare number must not end up in the error.
struct SecretVisitor;

impl<'de> de::Visitor<'de> for SecretVisitor {
    type Value = Secret;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<Secret, E> {
        Ok(Secret::new(value))
    }

    fn visit_bool<E: de::Error>(self, _: bool) -> Result<Secret, E> {
        Err(wrong("a boolean"))
    }

    fn visit_i64<E: de::Error>(self, _: i64) -> Result<Secret, E> {
        Err(wrong("a number"))
    }

    fn visit_u64<E: de::Error>(self, _: u64) -> Result<Secret, E> {
        Err(wrong("a number"))
    }

    fn visit_f64<E: de::Error>(self, _: f64) -> Result<Secret, E> {
        Err(wrong("a number"))
    }
}

fn wrong<E: de::Error>(found: &str) -> E {
    E::custom(format_args!("invalid type: {found}, expected a string"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_never_printed() {
        let secret = Secret::new("hunter2");
        assert_eq!(format!("{secret:?} {:?}", Some(&secret)), "[redacted] Some([redacted])");
    }

    #[test]
    fn only_the_whole_value_matches() {
        let secret = Secret::new("hunter2");
        assert!(secret.matches("hunter2"));
        assert!(!secret.matches("hunter"));
        assert!(!secret.matches("hunter22"));
        assert!(!secret.matches(""));
    }

    #[test]
    fn a_wrong_type_is_refused_without_repeating_it() {
        let error = serde_json::from_str::<Secret>("8675309").unwrap_err().to_string();
        assert!(error.contains("expected a string"), "{error}");
        assert!(!error.contains("8675309"), "{error}");
    }
}
