//! How a value of the file is named.

use serde_json::Value;

/// A text that names no value.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is no key path: write it as gateway.auth.mode or channels.telegram.allowFrom[0]")]
pub struct KeyPathError(pub(super) String);

/// `a.b[0]["c.d"]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyPath(pub(super) Vec<Step>);

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Key(String),
    Index(usize),
}

impl std::str::FromStr for KeyPath {
    type Err = KeyPathError;

    fn from_str(text: &str) -> Result<Self, KeyPathError> {
        let bad = || KeyPathError(text.to_owned());
        let mut steps = Vec::new();
        let mut rest = text.trim();
        while !rest.is_empty() {
            if let Some(inner) = rest.strip_prefix('[') {
                let (step, after) = bracket(inner).ok_or_else(bad)?;
                steps.push(step);
                rest = after;
            } else {
                let end = rest.find(['.', '[']).unwrap_or(rest.len());
                let (key, after) = rest.split_at(end);
                if key.is_empty() {
                    return Err(bad());
                }
                steps.push(Step::Key(key.to_owned()));
                rest = after;
            }
            rest = match rest.strip_prefix('.') {
                Some("") => return Err(bad()),
                Some(after) => after,
                None if rest.is_empty() || rest.starts_with('[') => rest,
                None => return Err(bad()),
            };
        }
        if steps.is_empty() { Err(bad()) } else { Ok(Self(steps)) }
    }
}

/// What is between brackets, and what follows them.
fn bracket(inner: &str) -> Option<(Step, &str)> {
    if let Some(quote) = inner.chars().next().filter(|c| matches!(c, '"' | '\'')) {
        let (key, after) = inner[1..].split_once(quote)?;
        return Some((Step::Key(key.to_owned()), after.strip_prefix(']')?));
    }
    let (number, after) = inner.split_once(']')?;
    Some((Step::Index(number.parse().ok()?), after))
}

impl std::fmt::Display for KeyPath {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (index, step) in self.0.iter().enumerate() {
            match step {
                Step::Key(key) if index == 0 => f.write_str(key)?,
                Step::Key(key) => write!(f, ".{key}")?,
                Step::Index(number) => write!(f, "[{number}]")?,
            }
        }
        Ok(())
    }
}

/// The value at a path of a tree.
pub fn lookup<'a>(tree: &'a Value, path: &KeyPath) -> Option<&'a Value> {
    path.0.iter().try_fold(tree, |value, step| match step {
        Step::Key(key) => value.get(key).or_else(|| value.get(key.parse::<usize>().ok()?)),
        Step::Index(index) => value.get(index),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parsed(text: &str) -> KeyPath {
        text.parse().unwrap()
    }

    #[test]
    fn paths_have_keys_indexes_and_quotes() {
        assert_eq!(parsed("a.b[0]['c.d']").to_string(), "a.b[0].c.d");
        for bad in ["", ".", "a.", "a..b", "a[", "a[x]", "a[0]b"] {
            assert!(bad.parse::<KeyPath>().is_err(), "{bad}");
        }
        assert_eq!(lookup(&json!({"a": [{"b": 1}]}), &parsed("a.0.b")), Some(&json!(1)));
    }
}
