//! `${NAME}` in texts and `{source, id}` references, replaced by what they stand for.

use serde_json::{Map, Value};

use super::Environment;

/// A place whose value is not known: the key is left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Unresolved {
    /// `gateway.auth.token`.
    pub(super) path: String,
    pub(super) why: String,
}

/// Replaces every reference in `tree`; keys that can't be resolved are removed and returned.
pub(super) fn substitute(tree: &mut Value, env: &Environment) -> Vec<Unresolved> {
    let secrets = tree.pointer("/secrets").cloned().unwrap_or_default();
    let mut walk = Walk { env, secrets, missing: Vec::new() };
    walk.value(tree, "");
    walk.missing
}

struct Walk<'a> {
    env: &'a Environment,
    /// `secrets` as it is written: `providers` and `defaults`.
    secrets: Value,
    missing: Vec<Unresolved>,
}

impl Walk<'_> {
    /// False when the value must go.
    fn value(&mut self, value: &mut Value, path: &str) -> bool {
        let found = match value {
            Value::String(text) if text.contains("${") => expand(text, self.env).map(Value::String),
            Value::Object(map) => match reference(map) {
                Some(reference) => self.lookup(&reference).map(Value::String),
                None => {
                    self.object(map, path);
                    return true;
                }
            },
            Value::Array(items) => {
                let mut index = 0;
                items.retain_mut(|item| {
                    index += 1;
                    self.value(item, &format!("{path}[{}]", index - 1))
                });
                return true;
            }
            _ => return true,
        };
        match found {
            Ok(found) => {
                *value = found;
                true
            }
            Err(why) => {
                self.missing.push(Unresolved { path: path.to_owned(), why });
                false
            }
        }
    }

    fn object(&mut self, map: &mut Map<String, Value>, path: &str) {
        map.retain(|key, value| {
            let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
            // The providers' own texts are read as they are, above.
            self.value(value, &path)
        });
    }

    fn lookup(&self, reference: &Reference) -> Result<String, String> {
        let Reference { source, provider, id } = reference;
        let usual = self.secrets["defaults"][source].as_str().unwrap_or("default");
        let provider = provider.as_deref().unwrap_or(usual);
        match source.as_str() {
            "env" => self
                .env
                .get(id)
                .map(str::to_owned)
                .ok_or_else(|| format!("environment variable {id} is not set")),
            "file" => self.file_secret(provider, id),
            other => Err(format!("secret references from `{other}` are not supported; use env or file")),
        }
    }

    fn file_secret(&self, provider: &str, id: &str) -> Result<String, String> {
        let settings = &self.secrets["providers"][provider];
        let path = settings["path"]
            .as_str()
            .ok_or_else(|| format!("secrets.providers.{provider}.path is not set"))?;
        let text = std::fs::read_to_string(self.env.expand(path))
            .map_err(|error| format!("can't read the file of secret provider `{provider}`: {error}"))?;
        if settings["mode"] == "singleValue" {
            return Ok(text.trim_end_matches(['\r', '\n']).to_owned());
        }
        let tree: Value = serde_json::from_str(&text)
            .map_err(|_| format!("the file of secret provider `{provider}` is not JSON"))?;
        match tree.pointer(id) {
            Some(Value::String(secret)) => Ok(secret.clone()),
            _ => Err(format!("secret provider `{provider}` has no text at {id}")),
        }
    }
}

struct Reference {
    source: String,
    /// Unset: the one in `secrets.defaults`.
    provider: Option<String>,
    id: String,
}

/// `{ source, provider, id }` and nothing else is a reference to a secret.
fn reference(map: &Map<String, Value>) -> Option<Reference> {
    let text = |key: &str| map.get(key).and_then(Value::as_str).map(str::to_owned);
    if map.keys().any(|key| !matches!(key.as_str(), "source" | "provider" | "id")) {
        return None;
    }
    let source = text("source")?;
    let id = text("id")?;
    Some(Reference { source, provider: text("provider"), id })
}

/// `${NAME}` becomes the variable, `$${NAME}` stays as `${NAME}`; only upper-case names count.
fn expand(text: &str, env: &Environment) -> Result<String, String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find("${") {
        let (before, from) = rest.split_at(start);
        let Some((name, after)) = variable(&from[2..]) else {
            out.push_str(before);
            out.push_str("${");
            rest = &from[2..];
            continue;
        };
        if let Some(before) = before.strip_suffix('$') {
            out.push_str(before);
            out.push_str(&format!("${{{name}}}"));
        } else {
            out.push_str(before);
            out.push_str(env.get(name).ok_or_else(|| format!("environment variable {name} is not set"))?);
        }
        rest = after;
    }
    out.push_str(rest);
    Ok(out)
}

fn variable(text: &str) -> Option<(&str, &str)> {
    let (name, after) = text.split_once('}')?;
    let mut chars = name.chars();
    let first = chars.next().is_some_and(|c| c.is_ascii_uppercase() || c == '_');
    let rest = chars.all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_');
    (first && rest).then_some((name, after))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn variables_are_replaced_and_escapes_are_not() {
        let env = Environment::of([("KEY", "k"), ("BASE", "http://h")]);
        let mut tree =
            json!({"a": "${KEY}", "b": "${BASE}/v1?x=${KEY}", "c": "$${KEY}", "d": "${lower} ${", "e": 1});
        assert!(substitute(&mut tree, &env).is_empty());
        let expected = json!({"a": "k", "b": "http://h/v1?x=k", "c": "${KEY}", "d": "${lower} ${", "e": 1});
        assert_eq!(tree, expected);
    }

    #[test]
    fn a_missing_variable_takes_its_key_along() {
        let mut tree =
            json!({"gateway": {"auth": {"token": "${NOPE}", "mode": "token"}}, "l": ["${NOPE}", "x"]});
        let missing = substitute(&mut tree, &Environment::default());
        assert_eq!(tree, json!({"gateway": {"auth": {"mode": "token"}}, "l": ["x"]}));
        let paths: Vec<_> = missing.iter().map(|gone| gone.path.as_str()).collect();
        assert_eq!(paths, ["gateway.auth.token", "l[0]"]);
        assert!(missing[0].why.contains("NOPE"));
    }

    #[test]
    fn references_come_from_the_environment_or_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("s.json");
        std::fs::write(&file, r#"{"providers":{"x":{"apiKey":"from-file"}}}"#).unwrap();
        let env = Environment::of([("TOKEN", "from-env")]);
        let mut tree = json!({
            "secrets": {
                "providers": {"f": {"source": "file", "path": file, "mode": "json"}},
                "defaults": {"file": "f"},
            },
            "a": {"source": "env", "provider": "default", "id": "TOKEN"},
            "b": {"source": "file", "provider": "f", "id": "/providers/x/apiKey"},
            "d": {"source": "file", "id": "/providers/x/apiKey"},
            "c": {"source": "exec", "provider": "v", "id": "x"},
        });
        let missing = substitute(&mut tree, &env);
        assert_eq!((&tree["a"], &tree["b"]), (&json!("from-env"), &json!("from-file")));
        assert_eq!(tree["d"], "from-file");
        assert_eq!(missing.len(), 1);
        assert_eq!(missing[0].path, "c");
    }
}
