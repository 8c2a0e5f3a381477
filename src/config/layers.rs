//! The layers, lowest first: what the environment offers, the file, what the
//! environment orders, flags. `config` merges them; we only hand it values.

use config::{Map, Source, ValueKind};
use serde_json::{Value, json};

use super::{ConfigError, Environment, Flags, Place, include::merge};

/// One layer. `config`'s own sources would change keys, cases and types.
#[derive(Clone, Debug)]
struct Layer {
    name: &'static str,
    tree: Value,
}

impl Source for Layer {
    fn clone_into_box(&self) -> Box<dyn Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Map<String, config::Value>, config::ConfigError> {
        let origin = self.name.to_owned();
        let Value::Object(tree) = &self.tree else { return Ok(Map::new()) };
        // `config` would read such a top-level key as a path.
        let plain = tree.iter().filter(|(key, _)| is_plain(key));
        Ok(plain.map(|(key, value)| (key.clone(), convert(value, &origin))).collect())
    }
}

/// Whether a top-level key can't be taken for a path.
pub(super) fn is_plain(key: &str) -> bool {
    !key.contains(['.', '[', ']'])
}

fn convert(value: &Value, origin: &String) -> config::Value {
    let kind = match value {
        Value::Null => ValueKind::Nil,
        Value::Bool(flag) => ValueKind::Boolean(*flag),
        Value::String(text) => ValueKind::String(text.clone()),
        Value::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(number), _) => ValueKind::I64(number),
            (None, Some(number)) => ValueKind::U64(number),
            (None, None) => number.as_f64().map_or(ValueKind::Nil, ValueKind::Float),
        },
        Value::Array(items) => ValueKind::Array(items.iter().map(|item| convert(item, origin)).collect()),
        Value::Object(map) => {
            ValueKind::Table(map.iter().map(|(key, value)| (key.clone(), convert(value, origin))).collect())
        }
    };
    config::Value::new(Some(origin), kind)
}

/// All layers as one tree.
pub(super) fn stack(
    file: Value,
    place: &Place,
    env: &Environment,
    flags: &Flags,
) -> Result<Value, ConfigError> {
    let layers = [
        Layer { name: "environment (offered)", tree: offered(place, env) },
        Layer { name: "file", tree: file },
        Layer { name: "environment", tree: ordered(env)? },
        Layer { name: "flags", tree: flags.tree() },
    ];
    let mut builder = config::Config::builder();
    for layer in layers {
        builder = builder.add_source(layer);
    }
    let merged = builder.build().and_then(config::Config::try_deserialize);
    merged.map_err(|error| ConfigError::refused(error.to_string()))
}

/// Under the file: keys that many programs share, and what a profile implies.
fn offered(place: &Place, env: &Environment) -> Value {
    let mut tree = json!({});
    if let Some(port) = place.default_port() {
        merge(&mut tree, json!({"gateway": {"port": port}}));
    }
    // The file first, then the environment: gateway and clients resolve the shared secret in the same order.
    if let Some((_, token)) = env.setting("GATEWAY_TOKEN") {
        merge(&mut tree, json!({"gateway": {"auth": {"token": token}}}));
    }
    if let Some((_, password)) = env.setting("GATEWAY_PASSWORD") {
        merge(&mut tree, json!({"gateway": {"auth": {"password": password}}}));
    }
    if let Some(token) = env.get("TELEGRAM_BOT_TOKEN") {
        merge(&mut tree, json!({"channels": {"telegram": {"botToken": token}}}));
    }
    for (provider, prefix) in [("anthropic", "ANTHROPIC"), ("openai", "OPENAI"), ("openrouter", "OPENROUTER")]
    {
        if let Some(key) = env.get(&format!("{prefix}_API_KEY")) {
            merge(&mut tree, json!({"models": {"providers": {provider: {"apiKey": key}}}}));
            if let Some(url) = env.get(&format!("{prefix}_BASE_URL")) {
                merge(&mut tree, json!({"models": {"providers": {provider: {"baseUrl": url}}}}));
            }
        }
    }
    tree
}

/// Over the file: what is meant for this gateway alone.
fn ordered(env: &Environment) -> Result<Value, ConfigError> {
    let mut tree = json!({});
    if let Some((name, port)) = env.setting("GATEWAY_PORT") {
        let port: u16 = port
            .trim()
            .parse()
            .map_err(|_| ConfigError::refused(format!("{name} must be a port number from 0 to 65535")))?;
        merge(&mut tree, json!({"gateway": {"port": port}}));
    }
    if let Some((_, bind)) = env.setting("GATEWAY_BIND") {
        merge(&mut tree, json!({"gateway": {"bind": bind}}));
    }
    for (name, key) in [("TIDEGATE_TAILSCALE", "program"), ("TIDEGATE_TAILSCALE_SOCKET", "socket")] {
        if let Some(value) = env.get(name) {
            merge(&mut tree, json!({"gateway": {"tailscale": {key: value}}}));
        }
    }
    if env.setting("DISABLE_BONJOUR").is_some_and(|(_, value)| is_yes(value)) {
        merge(&mut tree, json!({"discovery": {"mdns": {"mode": "off"}}}));
    }
    for (name, key) in [("MDNS_HOSTNAME", "hostname"), ("CLI_PATH", "cliPath"), ("TAILNET_DNS", "tailnetDns")]
    {
        if let Some((_, value)) = env.setting(name) {
            merge(&mut tree, json!({"discovery": {"mdns": {key: value}}}));
        }
    }
    // What is only shown to others stops nobody from starting.
    if let Some(port) = env.setting("SSH_PORT").and_then(|(_, port)| port.trim().parse::<u16>().ok()) {
        merge(&mut tree, json!({"discovery": {"mdns": {"sshPort": port}}}));
    }
    if let Some((_, model)) = env.setting("MODEL") {
        merge(&mut tree, json!({"agents": {"defaults": {"model": {"primary": model}}}}));
    }
    Ok(tree)
}

fn is_yes(value: &str) -> bool {
    matches!(value.trim().to_ascii_lowercase().as_str(), "1" | "true" | "yes" | "on")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_may_turn_announcing_off_but_not_on() {
        let order = |value: &str| ordered(&Environment::of([("OPENCLAW_DISABLE_BONJOUR", value)])).unwrap();
        for yes in ["1", "true", "YES", "on"] {
            assert_eq!(order(yes)["discovery"]["mdns"]["mode"], "off", "{yes}");
        }
        for no in ["0", "false", "no", "off", "perhaps"] {
            assert_eq!(order(no), json!({}), "{no}");
        }
    }

    #[test]
    fn what_others_are_told_comes_from_the_environment() {
        let env = Environment::of([
            ("OPENCLAW_MDNS_HOSTNAME", "attic"),
            ("TIDEGATE_SSH_PORT", "2222"),
            ("OPENCLAW_TAILNET_DNS", "attic.tail1.ts.net"),
        ]);
        let told = json!({"hostname": "attic", "sshPort": 2222, "tailnetDns": "attic.tail1.ts.net"});
        assert_eq!(ordered(&env).unwrap()["discovery"]["mdns"], told);
        assert_eq!(ordered(&Environment::of([("OPENCLAW_SSH_PORT", "many")])).unwrap(), json!({}));
    }
}
