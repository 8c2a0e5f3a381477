//! The options of `tidegate node run`.

use clap::Args;

use super::NodeHostError;
use crate::{
    client::{Credentials, DEFAULT_PORT, Endpoint, Pin, ssh::TunnelOptions},
    config::Environment,
};

/// Run this machine as a node of a gateway
///
/// The secret is --token or --password (which other users of this machine can see in its list of processes), or comes
/// from TIDEGATE_GATEWAY_TOKEN or TIDEGATE_GATEWAY_PASSWORD; without any, it is the token that the gateway gave to this
/// device when it was paired, or the secret of the gateway on this machine. With --url only the first and the third.
///
/// Once an operator has approved this node, it runs every command it is asked to, as this user. What runs without
/// asking is set by exec-approvals.json in the state folder: {"version":1,"defaults":{"security":"deny"}} turns commands
/// off, "security":"allowlist" runs only what agents.NAME.allowlist names, "ask":"on-miss" has the rest approved first.
#[derive(Debug, Clone, Default, Args)]
pub struct NodeRun {
    /// Join with a setup code, as it is or behind `oc-pair://`, or with a join address; `-` reads it from standard input.
    /// Later starts need none: the gateway is remembered. Other options win over what it says
    #[arg(long, value_name = "CODE")]
    pub pair: Option<String>,
    /// Host of the gateway [default: TIDEGATE_NODE_HOST, else the one joined with --pair, else the config's gateway.remote
    /// in mode "remote", else 127.0.0.1]
    #[arg(long)]
    pub host: Option<String>,
    /// Port of the gateway [default: TIDEGATE_NODE_PORT, else that of the gateway's address; on this machine the port of the
    /// gateway that runs here, else 18789]
    #[arg(long)]
    pub port: Option<u16>,
    /// Path of the gateway behind a proxy
    #[arg(long, value_name = "PATH")]
    pub context_path: Option<String>,
    /// Connect with TLS; without a fingerprint the authorities of this machine must vouch for the gateway [default: yes with
    /// TIDEGATE_NODE_TLS=1, for a gateway that --host doesn't name]
    #[arg(long)]
    pub tls: bool,
    /// Connect without TLS even if the gateway of this machine is configured with it
    #[arg(long, conflicts_with_all = ["tls", "tls_fingerprint"])]
    pub no_tls: bool,
    /// SHA-256 of the gateway's certificate, in hex; implies --tls. The pin of a gateway joined with --pair is replaced for
    /// good once that gateway has shown the new certificate [default: TIDEGATE_NODE_TLS_FINGERPRINT, for a gateway that
    /// --host doesn't name]
    #[arg(long, value_name = "SHA256")]
    pub tls_fingerprint: Option<String>,
    /// Name of this node [default: the host name]
    #[arg(long, value_name = "NAME")]
    pub display_name: Option<String>,
    /// Instance id to show instead of the stored one; the identity stays the same
    #[arg(long, value_name = "ID")]
    pub node_id: Option<String>,
    /// Declare only these commands (comma-separated); kept for later runs
    #[arg(long, value_name = "NAMES", value_delimiter = ',', conflicts_with = "all_commands")]
    pub commands: Vec<String>,
    /// Declare all commands again
    #[arg(long)]
    pub all_commands: bool,
    /// Where the gateway is, when it isn't host and port that say so.
    #[arg(skip)]
    pub route: Option<Box<NodeRoute>>,
    /// What the command line gives: nothing else is sent then.
    #[arg(skip)]
    pub given: Option<Box<Credentials>>,
}

/// A gateway that `--url`, `--ssh` or the config names.
#[derive(Debug, Clone)]
pub struct NodeRoute {
    pub endpoint: Endpoint,
    /// The tunnel that has to be open first.
    pub ssh: Option<TunnelOptions>,
    /// On the command line, so it wins over a gateway that this node has joined.
    pub asked_for: bool,
    /// `--url` named it: a mistyped or planted address is never sent a secret that was not meant for it.
    pub by_url: bool,
    /// For a device that this gateway has given no token yet.
    pub credentials: Credentials,
}

impl NodeRun {
    /// Whether options or environment say which gateway.
    pub fn names_a_gateway(&self, env: &Environment) -> bool {
        let named = [&self.pair, &self.host, &self.context_path, &self.tls_fingerprint];
        named.iter().any(|option| option.is_some())
            || self.port.is_some()
            || self.tls
            || self.no_tls
            || ["GATEWAY_PORT", "NODE_HOST", "NODE_PORT", "NODE_TLS", "NODE_TLS_FINGERPRINT"]
                .iter()
                .any(|name| env.setting(name).is_some())
    }

    /// The gateway that `--url` or `--ssh` names, or that the config does where this node has joined no other.
    pub(super) fn route(&self, known: Option<&Endpoint>) -> Option<&NodeRoute> {
        self.route.as_deref().filter(|route| route.asked_for || known.is_none())
    }

    /// Where the gateway is; `known` is the one that this node was invited to, or joined before, and `home` the port of
    /// the gateway on this machine. What goes with an address, TLS and a pin, goes with that one only.
    pub(super) fn endpoint(
        &self,
        env: &Environment,
        known: Option<Endpoint>,
        home: u16,
    ) -> Result<Endpoint, NodeHostError> {
        if let Some(route) = self.route(known.as_ref()) {
            return Ok(route.endpoint.clone());
        }
        let named = self.host.as_deref().or(env.setting("NODE_HOST").map(|(_, host)| host));
        let host = named.map(|host| host.trim().trim_start_matches('[').trim_end_matches(']'));
        if host.is_some_and(|host| host.is_empty() || host.contains("://")) {
            return Err(NodeHostError::Options(
                "--host takes a host name or an address, not a URL".to_owned(),
            ));
        }
        // The port of a gateway on this machine says nothing about one elsewhere.
        let local = env.setting("GATEWAY_PORT").filter(|_| known.is_none());
        let port = match (self.port, env.setting("NODE_PORT").or(local)) {
            (Some(port), _) => Some(port),
            (None, Some((name, value))) => {
                let port = value.parse();
                Some(port.map_err(|_| NodeHostError::Options(format!("{name} is not a port number")))?)
            }
            (None, None) => None,
        };
        // Nor does that one say anything about the port elsewhere.
        let elsewhere = host.is_some_and(|host| !Endpoint::plain(host, home).is_loopback());
        let usual = if elsewhere { DEFAULT_PORT } else { home };
        let known = known.unwrap_or_else(|| Endpoint::plain("127.0.0.1", usual));
        let (host, port) = (host.unwrap_or(&known.host), port.unwrap_or(known.port));
        let mut endpoint = if (host, port) == (known.host.as_str(), known.port) {
            known
        } else {
            Endpoint::plain(host, port)
        };
        // What the environment says about TLS is about the gateway that it names.
        let by_env = |name: &str| env.setting(name).filter(|_| self.host.is_none() && !self.no_tls);
        endpoint.tls |= self.tls || by_env("NODE_TLS").map(switch).transpose()?.unwrap_or(false);
        if self.no_tls {
            (endpoint.tls, endpoint.pin) = (false, None);
        }
        if let Some(path) = &self.context_path {
            endpoint.path = format!("/{}", path.trim_start_matches('/'));
        }
        let option = self.tls_fingerprint.as_deref().map(|text| ("--tls-fingerprint".to_owned(), text));
        if let Some((name, text)) = option.or(by_env("NODE_TLS_FINGERPRINT")) {
            let pin = Pin::parse(text).ok_or_else(|| {
                NodeHostError::Options(format!("{name} takes the SHA-256 of a certificate in hex"))
            })?;
            (endpoint.tls, endpoint.pin) = (true, Some(pin));
        }
        Ok(endpoint)
    }

    /// The commands chosen on the command line.
    pub(super) fn chosen(&self) -> Option<Vec<String>> {
        let names: Vec<String> =
            self.commands.iter().map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()).collect();
        (!names.is_empty()).then_some(names)
    }
}

fn switch((name, value): (String, &str)) -> Result<bool, NodeHostError> {
    match value.trim().to_ascii_lowercase().as_str() {
        "1" | "true" | "yes" => Ok(true),
        "0" | "false" | "no" => Ok(false),
        _ => Err(NodeHostError::Options(format!("{name} is 1 or 0"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Program {
        #[command(flatten)]
        args: NodeRun,
    }

    fn parse(words: &[&str]) -> Result<NodeRun, clap::Error> {
        Program::try_parse_from(std::iter::once(&"x").chain(words)).map(|program| program.args)
    }

    #[test]
    fn the_gateway_is_where_the_options_and_the_environment_say() {
        let env = Environment::of([("OPENCLAW_GATEWAY_PORT", "19000")]);
        let none = Environment::default();
        let plain = parse(&[]).unwrap();
        let of = |args: &NodeRun, env| args.endpoint(env, None, 18_800).unwrap();
        assert_eq!(of(&plain, &none).to_string(), "ws://127.0.0.1:18800");
        assert_eq!(of(&plain, &env).port, 19000);
        assert_eq!(of(&parse(&["--host", "localhost"]).unwrap(), &none).port, 18_800);
        assert_eq!(of(&parse(&["--host", "10.0.0.1"]).unwrap(), &none).port, DEFAULT_PORT);
        let pin = "ab".repeat(32);
        let words = [
            "--host",
            "[::1]",
            "--port",
            "1",
            "--tls-fingerprint",
            &pin,
            "--context-path",
            "oc",
            "--commands",
            "a, b",
        ];
        let full = parse(&words).unwrap();
        let endpoint = of(&full, &env);
        assert_eq!(endpoint.to_string(), "wss://[::1]:1/oc");
        assert_eq!(endpoint.pin.unwrap().to_string(), format!("sha256:{pin}"));
        assert_eq!(full.chosen().unwrap(), ["a", "b"]);
        let unpinned = of(&parse(&["--tls"]).unwrap(), &none);
        assert!(unpinned.tls && unpinned.pin.is_none());
        assert!(parse(&["--commands", "a", "--all-commands"]).is_err());
        assert!(parse(&["--tls-fingerprint", "zz"]).unwrap().endpoint(&none, None, 1).is_err());
    }

    #[test]
    fn a_service_names_its_gateway_and_certificate_in_its_environment() {
        let pin = "ab".repeat(32);
        let host = ("TIDEGATE_NODE_HOST", "gateway.example.net");
        let of = |words: &[&str], env: &Environment| parse(words).unwrap().endpoint(env, None, 1);
        let tls = Environment::of([host, ("TIDEGATE_NODE_TLS", "1")]);
        assert_eq!(of(&[], &tls).unwrap().to_string(), "wss://gateway.example.net:18789");
        assert!(parse(&[]).unwrap().names_a_gateway(&tls));
        let pinned = Environment::of([host, ("TIDEGATE_NODE_TLS_FINGERPRINT", pin.as_str())]);
        let found = of(&[], &pinned).unwrap();
        assert_eq!((found.tls, found.pin), (true, Pin::parse(&pin)));
        let by_option = of(&["--tls-fingerprint", &"cd".repeat(32)], &pinned).unwrap();
        assert_eq!(by_option.pin, Pin::parse(&"cd".repeat(32)));
        // Neither is about a gateway that somebody names instead.
        for words in [&["--host", "10.0.0.1"][..], &["--no-tls"]] {
            let other = of(words, &pinned).unwrap();
            assert_eq!((other.tls, other.pin), (false, None), "{words:?}");
        }
        for (name, value) in [("TIDEGATE_NODE_TLS", "maybe"), ("TIDEGATE_NODE_TLS_FINGERPRINT", "zz")] {
            let error = of(&[], &Environment::of([host, (name, value)])).unwrap_err().to_string();
            assert!(error.contains(name), "{error}");
        }
    }

    #[test]
    fn an_invitation_says_where_and_other_options_win_over_it() {
        let env = Environment::of([("TIDEGATE_GATEWAY_PORT", "19000")]);
        let pin = Pin::parse(&"ab".repeat(32));
        let known = Endpoint { pin, ..Endpoint::parse("wss://gateway.example:8443/gw").unwrap() };
        let found = |words: &[&str]| parse(words).unwrap().endpoint(&env, Some(known.clone()), 1).unwrap();
        assert_eq!(found(&[]), known, "the environment's port is that of a gateway on this machine");
        assert_eq!(found(&["--host", "gateway.example"]), known);
        let elsewhere = found(&["--host", "10.0.0.1"]);
        assert_eq!((elsewhere.to_string().as_str(), elsewhere.pin), ("ws://10.0.0.1:8443", None));
        let other = "cd".repeat(32);
        assert_eq!(found(&["--tls-fingerprint", &other]).pin, Pin::parse(&other));
    }
}
