//! From one tree to [`Settings`]: strict about types, patient with unknown keys.

use serde::Deserialize;
use serde_json::Value;
use tidegate_actors::settings::{ConfigIssue, Settings};

use super::{layers::is_plain, redact::is_sensitive};

/// The settings, and keys that nobody here reads.
pub(super) fn decode(tree: &Value) -> Result<(Settings, Vec<String>), ConfigIssue> {
    if let Some(path) = tree.pointer("/gateway/auth").and_then(|auth| null_in(auth, "gateway.auth")) {
        let message = "invalid type: null; remove the key to leave it unset".to_owned();
        return Err(ConfigIssue { file: None, path, message });
    }
    let mut unknown = Vec::new();
    // It writes `?` for a key that may be absent.
    let mut note = |path: serde_ignored::Path<'_>| unknown.push(path.to_string().replace(".?", ""));
    let mut track = serde_path_to_error::Track::new();
    let deserializer = serde_path_to_error::Deserializer::new(tree, &mut track);
    let settings = Settings::deserialize(serde_ignored::Deserializer::new(deserializer, &mut note));
    match settings {
        Ok(settings) => Ok((settings, unknown)),
        Err(error) => {
            let path = track.path().to_string();
            Err(ConfigIssue { file: None, message: explain(&path, &error.to_string()), path })
        }
    }
}

/// The path of a `null`. Elsewhere it counts as nothing; what guards the door is either set or left out.
fn null_in(value: &Value, path: &str) -> Option<String> {
    match value {
        Value::Null => Some(path.to_owned()),
        Value::Object(map) => map.iter().find_map(|(key, value)| null_in(value, &format!("{path}.{key}"))),
        Value::Array(items) => {
            items.iter().enumerate().find_map(|(at, value)| null_in(value, &format!("{path}[{at}]")))
        }
        _ => None,
    }
}

/// Top-level keys that the layers can't carry.
pub(super) fn odd_keys(file: &Value) -> impl Iterator<Item = String> {
    file.as_object().into_iter().flat_map(|map| map.keys()).filter(|key| !is_plain(key)).cloned()
}

/// serde's words, in the file's terms, and without a secret that was put in the wrong place.
fn explain(path: &str, message: &str) -> String {
    let message = message.replace("expected u16", "expected a whole number from 0 to 65535");
    let message = ["u8", "u32", "u64", "usize"]
        .iter()
        .fold(message, |text, kind| text.replace(&format!("expected {kind}"), "expected a whole number"));
    let message = without_names(&message.replace("expected f64", "expected a number"));
    if is_sensitive(path) { without_quoted(&message) } else { message }
}

/// The name of a struct means nothing outside of this program.
fn without_names(message: &str) -> String {
    match message.split_once("expected struct ") {
        Some((found, _)) => format!("{found}expected an object"),
        None => message
            .replace("expected a map", "expected an object")
            .replace("expected a sequence", "expected a list"),
    }
}

fn without_quoted(message: &str) -> String {
    let mut parts = message.split(['"', '`']);
    let mut out = parts.next().unwrap_or_default().to_owned();
    while let (Some(_), Some(after)) = (parts.next(), parts.next()) {
        out.push_str("[redacted]");
        out.push_str(after);
    }
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_wrong_type_names_path_expectation_and_finding() {
        let issue = decode(&json!({"gateway": {"port": "18789"}})).unwrap_err();
        let text = issue.to_string();
        let expected =
            "gateway.port: invalid type: string \"18789\", expected a whole number from 0 to 65535";
        assert_eq!(text, expected);
        let issue = decode(&json!({"gateway": 5})).unwrap_err();
        assert_eq!(issue.to_string(), "gateway: invalid type: integer `5`, expected an object");
        for auth in [json!(null), json!({"mode": null}), json!({"rateLimit": {"windowMs": null}})] {
            let issue = decode(&json!({"gateway": {"auth": auth, "port": null}})).unwrap_err();
            assert!(issue.path.starts_with("gateway.auth") && issue.message.contains("null"), "{issue}");
        }
        let issue = decode(&json!({"gateway": {"auth": {"mode": "open"}}})).unwrap_err();
        assert_eq!(issue.path, "gateway.auth.mode");
        assert!(issue.message.contains("`trusted-proxy`"), "{issue}");
    }

    #[test]
    fn an_error_never_repeats_a_secret() {
        let key = json!({"models": {"providers": {"x": {"headers": "Bearer sk-12345"}}}});
        let text = decode(&key).unwrap_err().to_string();
        assert!(!text.contains("sk-12345"), "{text}");
        let text = decode(&json!({"gateway": {"auth": {"token": 8675309}}})).unwrap_err().to_string();
        assert!(!text.contains("8675309"), "{text}");
    }

    #[test]
    fn unknown_keys_are_named_and_harmless() {
        let tree = json!({"update": {"channel": "x"}, "gateway": {"roles": 1, "port": 1}});
        let (settings, unknown) = decode(&tree).unwrap();
        assert_eq!(settings.gateway.port(), 1);
        assert_eq!(unknown, ["update", "gateway.roles"]);
    }
}
