//! Editing the file as text: comments, order and spelling of what isn't touched stay.

use jsonc_parser::{
    ParseOptions,
    cst::{CstInputValue, CstNode, CstObject, CstRootNode},
};
use serde_json::Value;

use super::{
    key_path::{KeyPath, KeyPathError, Step, lookup},
    redact::REDACTED,
};

/// Why an edit can't be made.
#[derive(Debug, thiserror::Error)]
pub enum EditError {
    #[error(transparent)]
    Path(#[from] KeyPathError),
    #[error("the file can't be edited: {0}")]
    Text(String),
    #[error("`{0}` is not in the file")]
    NotFound(String),
    #[error("`{0}` is inside something that is neither an object nor an array")]
    NoContainer(String),
    #[error("`{0}` comes from an included file: edit it there")]
    Included(String),
}

/// The text with the value at `path` set; objects on the way are made.
pub(super) fn set(text: &str, path: &KeyPath, value: &Value) -> Result<String, EditError> {
    let root = parse(text)?;
    let (last, way) = path.0.split_last().ok_or_else(|| KeyPathError(path.to_string()))?;
    let mut place = CstNode::from(jsonc_parser::cst::CstContainerNode::from(root.object_value_or_set()));
    for step in way {
        place = child(&place, step, path)?;
    }
    put(&place, last, value, path)?;
    Ok(root.to_string())
}

/// The text without the value at `path`.
pub(super) fn unset(text: &str, path: &KeyPath) -> Result<String, EditError> {
    let root = parse(text)?;
    let missing = || EditError::NotFound(path.to_string());
    let (last, way) = path.0.split_last().ok_or_else(missing)?;
    let mut place =
        CstNode::from(jsonc_parser::cst::CstContainerNode::from(root.object_value().ok_or_else(missing)?));
    for step in way {
        place = existing(&place, step).ok_or_else(missing)?;
    }
    match last {
        Step::Key(key) => {
            place.as_object().and_then(|object| object.get(key)).ok_or_else(missing)?.remove();
        }
        Step::Index(index) => {
            let array = place.as_array().ok_or_else(missing)?;
            array.elements().into_iter().nth(*index).ok_or_else(missing)?.remove();
        }
    }
    Ok(root.to_string())
}

/// The text with a merge patch applied: objects merge, `null` removes, the rest replaces.
pub(super) fn patch(text: &str, changes: &Value) -> Result<String, EditError> {
    let root = parse(text)?;
    let Value::Object(_) = changes else { return Err(EditError::Text("a patch is an object".to_owned())) };
    patch_object(&root.object_value_or_set(), changes);
    Ok(root.to_string())
}

fn patch_object(object: &CstObject, changes: &Value) {
    for (key, change) in changes.as_object().into_iter().flatten() {
        match (object.get(key), change) {
            (Some(old), Value::Null) => old.remove(),
            (None, Value::Null) => {}
            (Some(old), Value::Object(_)) if old.object_value().is_some() => {
                if let Some(inner) = old.object_value() {
                    patch_object(&inner, change);
                }
            }
            (Some(old), _) => old.set_value(input(&without_nulls(change))),
            (None, _) => {
                object.append(key, input(&without_nulls(change)));
            }
        }
    }
}

/// A patch that makes a new object has nothing to remove in it.
fn without_nulls(value: &Value) -> Value {
    match value {
        Value::Object(map) => map
            .iter()
            .filter(|(_, value)| !value.is_null())
            .map(|(key, value)| (key.clone(), without_nulls(value)))
            .collect::<serde_json::Map<_, _>>()
            .into(),
        other => other.clone(),
    }
}

/// The text with what its editor was not shown put back: each [`REDACTED`] becomes what
/// `old` has in its place, and so does a text that `shown` had there in place of a reference.
pub(super) fn restore(text: &str, old: &Value, shown: &Value) -> Result<String, EditError> {
    replace_texts(text, &mut |path, value| match lookup(old, path) {
        Some(secret) if value == REDACTED && secret != REDACTED => Ok(Some(secret.clone())),
        _ if value == REDACTED => Err(EditError::NotFound(path.to_string())),
        Some(Value::String(reference)) if reference.contains("${") && value != reference => {
            let seen = lookup(shown, path).is_some_and(|shown| shown == value);
            Ok(seen.then(|| Value::from(reference.clone())))
        }
        _ => Ok(None),
    })
}

/// Arrays that a patch would take entries from.
pub(super) fn shortened(old: &Value, patch: &Value) -> impl Iterator<Item = String> {
    let mut found = Vec::new();
    collect_shortened(old, patch, String::new(), &mut found);
    found.into_iter()
}

fn collect_shortened(old: &Value, patch: &Value, path: String, found: &mut Vec<String>) {
    let under = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
    match (old, patch) {
        (Value::Array(old), Value::Array(new)) if old.iter().all(|entry| new.contains(entry)) => {}
        (Value::Array(_), _) => found.push(path),
        (Value::Object(old), Value::Object(new)) => {
            for (key, change) in new {
                if let Some(old) = old.get(key) {
                    collect_shortened(old, change, under(key), found);
                }
            }
        }
        (Value::Object(old), _) => {
            for (key, old) in old {
                collect_shortened(old, &Value::Null, under(key), found);
            }
        }
        _ => {}
    }
}

/// Every `$include` of a parsed file, in order.
pub(super) fn includes(tree: &Value) -> Vec<&Value> {
    match tree {
        Value::Object(map) => {
            let here = map.get("$include");
            here.into_iter().chain(map.values().flat_map(includes)).collect()
        }
        Value::Array(items) => items.iter().flat_map(includes).collect(),
        _ => Vec::new(),
    }
}

/// The text with every secret replaced by [`REDACTED`].
pub(super) fn redact(text: &str) -> Result<String, EditError> {
    replace_texts(text, &mut |path, value| {
        let hide = super::is_sensitive(&path.to_string()) && !value.is_empty();
        Ok(hide.then(|| Value::from(REDACTED)))
    })
}

type Replacement<'a> = &'a mut dyn FnMut(&KeyPath, &str) -> Result<Option<Value>, EditError>;

fn replace_texts(text: &str, replace: Replacement<'_>) -> Result<String, EditError> {
    let root = parse(text)?;
    if let Some(value) = root.value() {
        replace_in(value, &mut KeyPath(Vec::new()), replace)?;
    }
    Ok(root.to_string())
}

fn replace_in(node: CstNode, path: &mut KeyPath, replace: Replacement<'_>) -> Result<(), EditError> {
    if let Some(object) = node.as_object() {
        for property in object.properties() {
            let (Some(name), Some(value)) = (property.decoded_name(), property.value()) else { continue };
            path.0.push(Step::Key(name));
            replace_in(value, path, replace)?;
            path.0.pop();
        }
    } else if let Some(array) = node.as_array() {
        for (index, value) in array.elements().into_iter().enumerate() {
            path.0.push(Step::Index(index));
            replace_in(value, path, replace)?;
            path.0.pop();
        }
    } else if let Some(literal) = node.as_string_lit() {
        let value = literal.decoded_value().map_err(|error| EditError::Text(error.to_string()))?;
        if let Some(new) = replace(path, &value)? {
            literal.replace_with(input(&new));
        }
    } else if let Some(literal) = node.as_number_lit()
        && let Some(new) = replace(path, &literal.to_string())?
    {
        literal.replace_with(input(&new));
    }
    Ok(())
}

fn parse(text: &str) -> Result<CstRootNode, EditError> {
    let text = if text.trim().is_empty() { "{}\n" } else { text };
    CstRootNode::parse(text, &ParseOptions::default()).map_err(|error| EditError::Text(error.to_string()))
}

fn existing(place: &CstNode, step: &Step) -> Option<CstNode> {
    match step {
        Step::Key(key) => place.as_object()?.get(key)?.value(),
        Step::Index(index) => place.as_array()?.elements().into_iter().nth(*index),
    }
}

/// The container at `step`, made when it isn't there.
fn child(place: &CstNode, step: &Step, path: &KeyPath) -> Result<CstNode, EditError> {
    let wrong = || EditError::NoContainer(path.to_string());
    if let Some(object) = place.as_object()
        && object.get("$include").is_some()
    {
        return Err(EditError::Included(path.to_string()));
    }
    match (existing(place, step), step) {
        (Some(node), _) if node.as_object().is_some() || node.as_array().is_some() => Ok(node),
        (Some(_), _) => Err(wrong()),
        (None, Step::Key(key)) => {
            let property =
                place.as_object().ok_or_else(wrong)?.append(key, CstInputValue::Object(Vec::new()));
            property.value().ok_or_else(wrong)
        }
        (None, Step::Index(_)) => Err(EditError::NotFound(path.to_string())),
    }
}

fn put(place: &CstNode, step: &Step, value: &Value, path: &KeyPath) -> Result<(), EditError> {
    let wrong = || EditError::NoContainer(path.to_string());
    match step {
        Step::Key(key) => {
            let object = place.as_object().ok_or_else(wrong)?;
            if object.get("$include").is_some() {
                return Err(EditError::Included(path.to_string()));
            }
            match object.get(key) {
                Some(property) => property.set_value(input(value)),
                None => {
                    object.append(key, input(value));
                }
            }
        }
        Step::Index(index) => {
            let array = place.as_array().ok_or_else(wrong)?;
            let count = array.elements().len();
            match (*index).cmp(&count) {
                std::cmp::Ordering::Less => {
                    array.insert(*index, input(value));
                    if let Some(old) = array.elements().into_iter().nth(index + 1) {
                        old.remove();
                    }
                }
                std::cmp::Ordering::Equal => {
                    array.append(input(value));
                }
                std::cmp::Ordering::Greater => return Err(EditError::NotFound(path.to_string())),
            }
        }
    }
    Ok(())
}

fn input(value: &Value) -> CstInputValue {
    match value {
        Value::Null => CstInputValue::Null,
        Value::Bool(flag) => CstInputValue::Bool(*flag),
        Value::Number(number) => CstInputValue::Number(number.to_string()),
        Value::String(text) => CstInputValue::String(text.clone()),
        Value::Array(items) => CstInputValue::Array(items.iter().map(input).collect()),
        Value::Object(map) => {
            CstInputValue::Object(map.iter().map(|(key, value)| (key.clone(), input(value))).collect())
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const FILE: &str = "{\n  // who may come in\n  gateway: { auth: { token: 'abc', mode: \"token\" }, port: 1 },\n  list: [1, 2],\n}\n";

    fn path(text: &str) -> KeyPath {
        text.parse().unwrap()
    }

    fn value(text: &str) -> Value {
        json5::from_str(text).unwrap()
    }

    #[test]
    fn an_edit_keeps_the_comments() {
        let text = set(FILE, &path("gateway.port"), &json!(2)).unwrap();
        assert!(text.contains("// who may come in"));
        assert_eq!(value(&text)["gateway"]["port"], 2);
        let text = set(&text, &path("channels.telegram.botToken"), &json!("1:a")).unwrap();
        assert_eq!(value(&text)["channels"]["telegram"]["botToken"], "1:a");
        let text = set(&text, &path("list[1]"), &json!({"x": 1})).unwrap();
        let text = set(&text, &path("list[2]"), &json!(3)).unwrap();
        assert_eq!(value(&text)["list"], json!([1, {"x": 1}, 3]));
        let text = unset(&text, &path("gateway.auth")).unwrap();
        assert_eq!(value(&text)["gateway"], json!({"port": 2}));
        assert!(unset(&text, &path("gateway.auth")).is_err());
    }

    #[test]
    fn an_empty_file_becomes_an_object() {
        assert_eq!(value(&set("", &path("a.b"), &json!(true)).unwrap()), json!({"a": {"b": true}}));
    }

    #[test]
    fn a_patch_merges_and_null_removes() {
        let changes = json!({"gateway": {"auth": {"mode": null}, "port": 5}, "new": {"a": null, "b": 1}});
        let text = patch(FILE, &changes).unwrap();
        let expected =
            json!({"gateway": {"auth": {"token": "abc"}, "port": 5}, "list": [1, 2], "new": {"b": 1}});
        assert_eq!(value(&text), expected);
        assert!(text.contains("// who may come in"));
    }

    #[test]
    fn a_redacted_text_comes_back_with_its_secrets() {
        let shown = redact(FILE).unwrap();
        assert!(!shown.contains("abc") && shown.contains("// who may come in"));
        let edited = set(&shown, &path("gateway.port"), &json!(7)).unwrap();
        let text = restore(&edited, &value(FILE), &value(FILE)).unwrap();
        assert_eq!(value(&text)["gateway"], json!({"auth": {"token": "abc", "mode": "token"}, "port": 7}));
        assert!(restore(&shown, &json!({}), &json!({})).is_err());
    }

    #[test]
    fn an_included_part_is_not_edited_here() {
        let error = set("{agents: {$include: 'a.json'}}", &path("agents.defaults.x"), &json!(1)).unwrap_err();
        assert!(matches!(error, EditError::Included(_)));
    }
}
