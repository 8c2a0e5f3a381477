//! The names of conversations, as OpenClaw forms them.

use tidegate_protocol::ErrorShape;

/// The longest key, in bytes.
const MAX: usize = 512;

/// The conversation that direct messages share.
pub const MAIN: &str = "agent:main:main";

/// A key as a client sent it, in full: `main` is `agent:main:main`, and what names no agent belongs to `main`.
///
/// # Errors
/// `INVALID_REQUEST` for what could be mistaken for a path, or is no key at all.
pub fn canonical(key: &str) -> Result<String, ErrorShape> {
    let key = key.trim();
    let plain = |c: char| c.is_alphanumeric() || "_-.:@+=#~".contains(c);
    if key.is_empty() || key.len() > MAX || key.contains("..") || !key.chars().all(plain) {
        return Err(ErrorShape::invalid(
            "invalid session key: letters, digits and _-.:@+=#~ only, such as `main` or `agent:main:work`",
        ));
    }
    let key = key.to_lowercase();
    if key == "main" {
        return Ok(MAIN.to_owned());
    }
    if key.starts_with("agent:") {
        let mut parts = key.splitn(3, ':').skip(1);
        let whole = parts.next().is_some_and(|agent| !agent.is_empty())
            && parts.next().is_some_and(|rest| !rest.is_empty());
        return if whole {
            Ok(key)
        } else {
            Err(ErrorShape::invalid("invalid session key: `agent:` is followed by an agent and a name"))
        };
    }
    Ok(format!("agent:main:{key}"))
}

/// The agent of a canonical key.
pub fn agent_of(key: &str) -> &str {
    key.strip_prefix("agent:").and_then(|rest| rest.split(':').next()).unwrap_or("main")
}

/// `direct`, `group` or `topic`, told by the key alone.
pub fn kind_of(key: &str) -> &'static str {
    if key.contains(":group:") || key.contains(":channel:") { "group" } else { "direct" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_names_are_completed() {
        assert_eq!(canonical("main").unwrap(), MAIN);
        assert_eq!(canonical("work").unwrap(), "agent:main:work");
        assert_eq!(
            canonical("agent:main:telegram:group:-100:topic:3").unwrap(),
            "agent:main:telegram:group:-100:topic:3"
        );
    }

    #[test]
    fn what_looks_like_a_path_is_refused() {
        for key in
            ["../../x", "/etc/passwd", "a\0b", "a%2e%2e", "agent::x", "agent:main:", "", "a/b", "a\\b", "a b"]
        {
            assert!(canonical(key).is_err(), "{key}");
        }
    }
}
