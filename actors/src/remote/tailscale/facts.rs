//! What the daemon answers, cut down to what we read: `ipn/ipnstate`, `ipn/serve.go` and `client/tailscale/apitype`.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;

/// `GET status`, and `tailscale status --json`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct Status {
    /// `Running`, or why not.
    pub(super) backend_state: String,
    #[serde(rename = "Self")]
    own: Option<Machine>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Machine {
    #[serde(rename = "DNSName")]
    dns_name: String,
}

impl Status {
    /// The MagicDNS name of this machine, without the dot at its end.
    pub(super) fn name(&self) -> Option<String> {
        let name = self.own.as_ref()?.dns_name.trim_end_matches('.').to_ascii_lowercase();
        (!name.is_empty()).then_some(name)
    }
}

/// `GET serve-config`, and `tailscale serve status --json`. The daemon says `null` when nothing is served.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct ServeConfig {
    #[serde(rename = "TCP")]
    tcp: Option<BTreeMap<String, PortHandler>>,
    #[serde(rename = "Web")]
    web: Option<BTreeMap<String, WebServer>>,
    /// Of programs that run, by their session.
    #[serde(rename = "Foreground")]
    foreground: Option<BTreeMap<String, ServeConfig>>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct PortHandler {
    #[serde(rename = "TCPForward")]
    forward: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct WebServer {
    #[serde(rename = "Handlers")]
    handlers: Option<BTreeMap<String, WebHandler>>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct WebHandler {
    proxy: String,
    path: String,
    text: String,
}

/// Somebody else's claim on a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Owner {
    /// Held by a program that runs; otherwise it was configured to stay.
    pub(super) foreground: bool,
    /// What the port leads to, in words.
    pub(super) leads_to: String,
    /// Where it leads to on this machine, if it does.
    pub(super) local_port: Option<u16>,
}

impl ServeConfig {
    /// Who has `port`.
    pub(super) fn owner(&self, port: u16) -> Option<Owner> {
        let running = self.foreground.iter().flatten().map(|(_, config)| (true, config));
        std::iter::once((false, self)).chain(running).find_map(|(foreground, config)| {
            config.own_handler(port).map(|targets| targets.owner(foreground))
        })
    }

    fn own_handler(&self, port: u16) -> Option<Targets> {
        let handler = self.tcp.as_ref()?.get(&port.to_string())?;
        if !handler.forward.is_empty() {
            return Some(Targets(vec![format!("tcp://{}", handler.forward)]));
        }
        let suffix = format!(":{port}");
        let sites = self.web.iter().flatten().filter(|(site, _)| site.ends_with(&suffix));
        let targets = sites.flat_map(|(site, server)| {
            let name = site.trim_end_matches(&suffix);
            server.handlers.iter().flatten().map(move |(path, handler)| handler.describe(name, path))
        });
        Some(Targets(targets.collect()))
    }
}

struct Targets(Vec<String>);

impl Targets {
    fn owner(self, foreground: bool) -> Owner {
        let local_port = match self.0.as_slice() {
            [only] => only.rsplit_once(" -> ").and_then(|(_, target)| loopback_port(target)),
            _ => None,
        };
        let leads_to = if self.0.is_empty() { "nothing".to_owned() } else { self.0.join(", ") };
        Owner { foreground, leads_to, local_port }
    }
}

impl WebHandler {
    fn describe(&self, name: &str, path: &str) -> String {
        let target = [&self.proxy, &self.path].into_iter().find(|target| !target.is_empty());
        let target = target.map_or(if self.text.is_empty() { "nothing" } else { "a text" }, String::as_str);
        format!("https://{name}{path} -> {target}")
    }
}

fn loopback_port(target: &str) -> Option<u16> {
    target.trim_end_matches('/').strip_prefix("http://127.0.0.1:")?.parse().ok()
}

/// `GET whois`, and `tailscale whois --json`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Whois {
    #[serde(rename = "Node")]
    node: Option<Node>,
    #[serde(rename = "UserProfile")]
    profile: Option<UserProfile>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Node {
    #[serde(rename = "Tags")]
    tags: Option<Vec<String>>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct UserProfile {
    login_name: String,
    display_name: String,
}

impl Whois {
    /// Login and name of the person; a tagged machine is nobody's.
    pub(super) fn person(self) -> Option<(String, Option<String>)> {
        let tagged = self.node.and_then(|node| node.tags).is_some_and(|tags| !tags.is_empty());
        let profile = self.profile.filter(|profile| !tagged && !profile.login_name.trim().is_empty())?;
        let name = Some(profile.display_name).filter(|name| !name.trim().is_empty());
        Some((profile.login_name.trim().to_owned(), name))
    }
}

/// Reads an answer. The program may print warnings around it.
pub(super) fn parse<T: DeserializeOwned + Default>(text: &str) -> Option<T> {
    let text = text.trim();
    if text == "null" {
        return Some(T::default());
    }
    let (start, end) = (text.find('{')?, text.rfind('}')?);
    serde_json::from_str(text.get(start..=end)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claimed_port_names_what_it_leads_to() {
        let config = r#"{"TCP":{"443":{"HTTPS":true},"22":{"TCPForward":"127.0.0.1:22"}},
            "Web":{"gw.tail1.ts.net:443":{"Handlers":{"/":{"Proxy":"http://127.0.0.1:3000"}}}}}"#;
        let config: ServeConfig = parse(config).unwrap();
        let owner = config.owner(443).unwrap();
        assert_eq!(owner.leads_to, "https://gw.tail1.ts.net/ -> http://127.0.0.1:3000");
        assert_eq!((owner.foreground, owner.local_port), (false, Some(3000)));
        assert_eq!(config.owner(22).unwrap().leads_to, "tcp://127.0.0.1:22");
        assert_eq!(config.owner(8443), None);
        let nested = r#"warning {"Foreground":{"s1":{"TCP":{"443":{"HTTPS":true}},"Web":null}}}"#;
        let owner = parse::<ServeConfig>(nested).unwrap().owner(443).unwrap();
        assert_eq!((owner.foreground, owner.leads_to.as_str()), (true, "nothing"));
        assert!(parse::<ServeConfig>("null").unwrap().owner(443).is_none());
        assert!(parse::<ServeConfig>("No serve config").is_none());
    }

    #[test]
    fn a_tagged_machine_is_nobody() {
        let person = |text: &str| parse::<Whois>(text).and_then(Whois::person);
        let owner =
            r#"{"Node":{"Tags":null},"UserProfile":{"LoginName":"owner@example.com","DisplayName":"O"}}"#;
        assert_eq!(person(owner), Some(("owner@example.com".to_owned(), Some("O".to_owned()))));
        let tagged = r#"{"Node":{"Tags":["tag:ci"]},"UserProfile":{"LoginName":"tagged-devices"}}"#;
        assert_eq!(person(tagged), None);
        assert_eq!(person("{}"), None);
    }

    #[test]
    fn the_name_has_no_dot_at_its_end() {
        let status: Status =
            parse(r#"{"BackendState":"Running","Self":{"DNSName":"GW.tail1.ts.net."}}"#).unwrap();
        assert_eq!(status.name().as_deref(), Some("gw.tail1.ts.net"));
        assert_eq!(parse::<Status>("{}").unwrap().name(), None);
    }
}
