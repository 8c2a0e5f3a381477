//! Which keys hold secrets, and how to show a tree without them.

use serde_json::Value;

/// What stands in for a secret, as OpenClaw's clients know it. Sent back in an edit
/// it means "leave the secret as it is".
pub const REDACTED: &str = "__OPENCLAW_REDACTED__";

const WORDS: [&str; 9] = [
    "token",
    "password",
    "passwd",
    "passphrase",
    "secret",
    "apikey",
    "privatekey",
    "credential",
    "serviceaccount",
];

/// Whether the value at this path (`a.b[0].c`) may be a secret.
pub fn is_sensitive(path: &str) -> bool {
    let mut keys = path.split('.').map(|key| key.split('[').next().unwrap_or(key));
    keys.clone().next_back().is_some_and(is_secret_key)
        || keys.any(|key| key == "headers" || key == "proxy")
        || path.starts_with("env.vars.")
}

/// `maxTokens` and `tokenFile` hold no secret; `botToken` and `token` do.
fn is_secret_key(key: &str) -> bool {
    let key: String =
        key.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_ascii_lowercase();
    let harmless =
        key.ends_with("tokens") || key.ends_with("file") || key.ends_with("path") || key.ends_with("env");
    !harmless && WORDS.iter().any(|word| key.contains(word))
}

/// A copy with every secret replaced by [`REDACTED`].
pub fn redacted(tree: &Value) -> Value {
    let mut copy = tree.clone();
    each_leaf(&mut copy, "", &mut |path, value| {
        if is_sensitive(path) && !value.is_null() && !value.is_boolean() && *value != "" {
            *value = Value::from(REDACTED);
        }
    });
    copy
}

/// Visits every value that holds no others, with its path.
pub(super) fn each_leaf(value: &mut Value, path: &str, visit: &mut impl FnMut(&str, &mut Value)) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                each_leaf(value, &path, visit);
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter_mut().enumerate() {
                each_leaf(item, &format!("{path}[{index}]"), visit);
            }
        }
        leaf => visit(path, leaf),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn secrets_go_and_the_rest_stays() {
        let tree = json!({
            "gateway": {"auth": {"token": "t", "mode": "token"}, "port": 1},
            "models": {"providers": {"x": {"apiKey": "k", "maxTokens": 5, "headers": {"X-Team": "a"},
                "models": [{"contextTokens": 9}]}}},
            "channels": {"telegram": {"botToken": 123, "tokenFile": "/f", "accounts": {"b": {"botToken": "q"}}}},
            "env": {"vars": {"ANY": "v"}},
        });
        assert_eq!(
            redacted(&tree),
            json!({
                "gateway": {"auth": {"token": REDACTED, "mode": "token"}, "port": 1},
                "models": {"providers": {"x": {"apiKey": REDACTED, "maxTokens": 5,
                    "headers": {"X-Team": REDACTED}, "models": [{"contextTokens": 9}]}}},
                "channels": {"telegram": {"botToken": REDACTED, "tokenFile": "/f",
                    "accounts": {"b": {"botToken": REDACTED}}}},
                "env": {"vars": {"ANY": REDACTED}},
            })
        );
    }
}
