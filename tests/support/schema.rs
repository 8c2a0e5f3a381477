//! The published JSON schema of the protocol, from the npm package, with what 2026.9.6 puts on the wire beyond it.

use super::official;
use jsonschema::Validator;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::fs;
use std::sync::{Mutex, OnceLock};

/// What recorded frames of 2026.9.6 hold beyond the published schema: definition, the object's pointer in it, property.
const BEYOND: &[(&str, &str, &str)] = &[
    ("HelloOk", "/properties/auth", "method"),
    ("HelloOk", "/properties/snapshot/properties/presence/items", "clientId"),
    ("PresenceEntry", "", "clientId"),
    ("EventFrame", "", "recipientProfileId"),
    ("AgentEvent", "", "sessionKey"),
    ("AgentEvent", "", "agentId"),
    ("AgentEvent", "", "sessionId"),
    ("AgentEvent", "", "session"),
    ("AgentEvent", "", "updatedAt"),
    ("AgentEvent", "", "lane"),
    ("NodeInvokeRequestEvent", "", "sessionKey"),
    ("ChannelsStatusResult", "", "statusIssues"),
];

/// Panics with every violation when `value` is not what `definition` says.
pub fn assert_valid(definition: &str, value: &Value) {
    let validator = validator(definition);
    let violations: Vec<_> =
        validator.iter_errors(value).map(|error| format!("at {}: {error}", error.instance_path())).collect();
    assert!(violations.is_empty(), "not a {definition}:\n{}\n{value:#}", violations.join("\n"));
}

/// Checks a whole frame, and its payload where the schema knows the event.
pub fn assert_frame(frame: &Value) {
    match frame["type"].as_str() {
        Some("res") => assert_valid("ResponseFrame", frame),
        Some("event") => {
            assert_valid("EventFrame", frame);
            let payload = match frame["event"].as_str().unwrap() {
                "tick" => "TickEvent",
                "chat" => "ChatEvent",
                "agent" => "AgentEvent",
                "shutdown" => "ShutdownEvent",
                "device.pair.requested" => "DevicePairRequestedEvent",
                "device.pair.resolved" => "DevicePairResolvedEvent",
                _ => return,
            };
            assert_valid(payload, &frame["payload"]);
        }
        other => panic!("a frame of type {other:?}"),
    }
}

fn validator(definition: &str) -> std::sync::Arc<Validator> {
    static MADE: OnceLock<Mutex<HashMap<String, std::sync::Arc<Validator>>>> = OnceLock::new();
    let mut made = MADE.get_or_init(Mutex::default).lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    made.entry(definition.to_owned())
        .or_insert_with(|| {
            let schema = json!({
                "$schema": published()["$schema"],
                "definitions": needed_by(definition),
                "$ref": format!("#/definitions/{definition}"),
            });
            std::sync::Arc::new(jsonschema::validator_for(&schema).unwrap())
        })
        .clone()
}

/// The definition and those that it refers to, however far: all 877 of them take a minute to compile.
fn needed_by(definition: &str) -> Value {
    let mut needed = serde_json::Map::new();
    let mut open = vec![definition.to_owned()];
    while let Some(name) = open.pop() {
        if !needed.contains_key(&name) {
            let schema = &published()["definitions"][&name];
            assert!(!schema.is_null(), "no definition {name}");
            refer(schema, &mut open);
            needed.insert(name, schema.clone());
        }
    }
    Value::Object(needed)
}

/// Collects the names of the definitions that a schema refers to.
fn refer(schema: &Value, names: &mut Vec<String>) {
    match schema {
        Value::Object(map) => {
            let name =
                map.get("$ref").and_then(Value::as_str).and_then(|path| path.strip_prefix("#/definitions/"));
            names.extend(name.map(str::to_owned));
            map.values().for_each(|value| refer(value, names));
        }
        Value::Array(list) => list.iter().for_each(|value| refer(value, names)),
        _ => {}
    }
}

/// The definitions alone, widened by what is known to come beyond them.
fn published() -> &'static Value {
    static SCHEMA: OnceLock<Value> = OnceLock::new();
    SCHEMA.get_or_init(|| {
        let path = official::package("@openclaw/gateway-protocol").join("protocol.schema.json");
        let mut schema: Value = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
        for (definition, pointer, property) in BEYOND {
            let at = format!("/definitions/{definition}{pointer}/properties");
            let properties = schema.pointer_mut(&at).unwrap_or_else(|| panic!("no {at} in the schema"));
            properties[*property] = json!({});
        }
        json!({"$schema": schema["$schema"], "definitions": schema["definitions"].take()})
    })
}
