//! Each row of the official "Credential precedence", and where a command goes.

use crate::{
    cli::{Context, Globals},
    client::Credentials,
    config::Environment,
    node_host::NodeRun,
};

use super::*;

/// A state folder with a config, and whatever else a command is run with.
struct Machine {
    folder: tempfile::TempDir,
    globals: Globals,
    env: Vec<(&'static str, &'static str)>,
    /// Keeps the gateway of this machine running.
    running: Option<Box<dyn std::any::Any>>,
}

impl Machine {
    fn with(config: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("tidegate.json"), config).unwrap();
        let state_dir = Some(folder.path().display().to_string());
        Self { folder, globals: Globals { state_dir, ..Globals::default() }, env: Vec::new(), running: None }
    }

    fn env(mut self, name: &'static str, value: &'static str) -> Self {
        self.env.push((name, value));
        self
    }

    fn flags(mut self, change: impl FnOnce(&mut Globals)) -> Self {
        change(&mut self.globals);
        self
    }

    /// With a gateway that runs here, on this port.
    fn running(mut self, port: u16) -> Self {
        self.running = Some(Box::new(crate::gateway::held(self.folder.path(), port)));
        self
    }

    /// The token that a gateway made for itself here.
    fn own_token(self, token: &str) -> Self {
        std::fs::write(self.folder.path().join("gateway-token"), token).unwrap();
        self
    }

    fn context(&self) -> Context {
        let mut env = Environment::default();
        self.env.iter().for_each(|(name, value)| env.fill(name, value));
        Context::with(self.globals.clone(), env)
    }

    fn target(&self) -> Result<Target, Failure> {
        find(&self.context())
    }

    fn node(&self) -> Result<Option<crate::node_host::NodeRoute>, Failure> {
        for_node(&self.context(), &NodeRun::default())
    }

    /// Token and password, as they would be sent.
    fn sent(&self) -> (Option<String>, Option<String>) {
        let Credentials { token, password, .. } = self.target().unwrap().credentials;
        (token, password)
    }

    fn refusal(&self) -> (u8, String) {
        let failure = self.target().unwrap_err();
        (failure.code(), failure.to_string())
    }
}

fn token(text: &str) -> (Option<String>, Option<String>) {
    (Some(text.to_owned()), None)
}

fn password(text: &str) -> (Option<String>, Option<String>) {
    (None, Some(text.to_owned()))
}

const REMOTE: &str = "mode: 'remote', remote: {url: 'wss://g.example'";

#[test]
fn explicit_credentials_always_win() {
    let all = format!("{{gateway: {{auth: {{token: 'a'}}, {REMOTE}, token: 'r', password: 'p'}}}}}}");
    for config in [all.as_str(), "{gateway: {auth: {token: 'a'}}}", "{gateway: {auth: {token: '${NOPE}'}}}"] {
        let machine = Machine::with(config)
            .env("TIDEGATE_GATEWAY_TOKEN", "e")
            .flags(|globals| globals.token = Some("mine".into()));
        assert_eq!(machine.sent(), token("mine"), "{config}");
    }
}

#[test]
fn an_address_on_the_command_line_takes_no_other_credentials() {
    let machine = Machine::with("{gateway: {auth: {token: 'a'}, remote: {token: 'r'}}}")
        .env("TIDEGATE_GATEWAY_TOKEN", "e")
        .flags(|globals| globals.url = Some("ws://10.1.1.1:1".into()));
    let (code, said) = machine.refusal();
    assert_eq!(code, 2);
    assert!(said.contains("explicit credentials") && said.contains("--token or --password"), "{said}");
    let machine = machine.flags(|globals| globals.password = Some("mine".into()));
    assert_eq!(machine.sent(), password("mine"));
}

#[test]
fn an_address_in_the_environment_takes_credentials_from_there_only() {
    for name in ["TIDEGATE_GATEWAY_URL", "OPENCLAW_GATEWAY_URL"] {
        let machine = Machine::with("{gateway: {auth: {token: 'a'}, remote: {token: 'r', password: 'p'}}}")
            .env(name, "ws://10.1.1.1:1");
        let (code, said) = machine.refusal();
        assert_eq!(code, 2);
        assert!(said.contains("TIDEGATE_GATEWAY_TOKEN"), "{said}");
        let machine = machine.env("OPENCLAW_GATEWAY_PASSWORD", "e");
        assert_eq!(machine.sent(), password("e"));
        assert_eq!(machine.target().unwrap().endpoint.to_string(), "ws://10.1.1.1:1");
    }
}

#[test]
fn the_local_token_is_the_configured_then_the_environments_then_the_gateways_own_then_the_remote_one() {
    let config = "{gateway: {auth: {token: 'a'}, remote: {token: 'r'}}}";
    let rest = "{gateway: {auth: {mode: 'token'}, remote: {token: 'r'}}}";
    let home = |config: &str| Machine::with(config).running(18_789);
    let env = |machine: Machine| machine.env("OPENCLAW_GATEWAY_TOKEN", "e");
    assert_eq!(env(home(config)).sent(), token("a"));
    assert_eq!(env(home(rest)).own_token("own").sent(), token("e"));
    assert_eq!(home(rest).own_token("own").sent(), token("own"));
    assert_eq!(home(rest).sent(), token("r"));
}

#[test]
fn the_local_password_is_the_configured_then_the_environments_then_the_remote_one() {
    let config = "{gateway: {auth: {mode: 'password', password: 'a'}, remote: {password: 'r'}}}";
    let rest = "{gateway: {auth: {mode: 'password'}, remote: {password: 'r'}}}";
    let home = |config: &str| Machine::with(config).running(18_789);
    let env = |machine: Machine| machine.env("OPENCLAW_GATEWAY_PASSWORD", "e");
    assert_eq!(env(home(config)).sent(), password("a"));
    assert_eq!(env(home(rest)).sent(), password("e"));
    assert_eq!(home(rest).sent(), password("r"));
    assert_eq!(home("{gateway: {remote: {password: 'r'}}}").sent(), password("r"));
}

#[test]
fn the_remote_token_is_the_remote_one_then_the_environments_then_the_local_one() {
    let config = |remote: &str| format!("{{gateway: {{auth: {{token: 'a'}}, {REMOTE}{remote}}}}}}}");
    let env = |machine: Machine| machine.env("OPENCLAW_GATEWAY_TOKEN", "e");
    let both = |token: &str, password: &str| (Some(token.to_owned()), Some(password.to_owned()));
    assert_eq!(env(Machine::with(&config(", token: 'r'"))).sent(), token("r"));
    // The password has a chain of its own.
    assert_eq!(Machine::with(&config(", password: 'p'")).sent(), both("a", "p"));
    assert_eq!(env(Machine::with(&config(""))).sent(), token("e"));
    assert_eq!(Machine::with(&config("")).sent(), token("a"));
}

#[test]
fn the_remote_password_is_the_environments_then_the_remote_one_then_the_local_one() {
    let config = |remote: &str| format!("{{gateway: {{auth: {{password: 'a'}}, {REMOTE}{remote}}}}}}}");
    let env = |machine: Machine| machine.env("OPENCLAW_GATEWAY_PASSWORD", "e");
    assert_eq!(env(Machine::with(&config(", password: 'r'"))).sent(), password("e"));
    assert_eq!(Machine::with(&config(", password: 'r'")).sent(), password("r"));
    assert_eq!(Machine::with(&config("")).sent(), password("a"));
    let both = (Some("r".to_owned()), Some("a".to_owned()));
    assert_eq!(Machine::with(&config(", token: 'r'")).sent(), both);
    // What can't be had at the end of one chain is no reason to do without the other.
    let config = format!("{{gateway: {{auth: {{password: '${{NOPE}}'}}, {REMOTE}, token: 'r'}}}}}}");
    assert_eq!(Machine::with(&config).sent(), token("r"));
}

#[test]
fn a_secret_that_is_configured_and_can_not_be_had_is_not_made_up_for() {
    let broken = "{source: 'env', provider: 'default', id: 'NOPE'}";
    let rows = [
        (format!("{{gateway: {{auth: {{token: {broken}}}, remote: {{token: 'r'}}}}}}"), "gateway.auth.token"),
        ("{gateway: {auth: {token: '${NOPE}'}, remote: {token: 'r'}}}".to_owned(), "NOPE is not set"),
        (
            format!(
                "{{gateway: {{auth: {{mode: 'password', password: {broken}}}, remote: {{password: 'r'}}}}}}"
            ),
            "gateway.auth.password",
        ),
        (
            format!("{{gateway: {{auth: {{token: 'a'}}, {REMOTE}, token: {broken}}}}}}}"),
            "gateway.remote.token",
        ),
        (format!("{{gateway: {{remote: {{token: {broken}}}}}}}"), "gateway.remote.token"),
        (
            "{gateway: {auth: {token: {source: 'exec', provider: 'v', id: 'x'}}}}".to_owned(),
            "use env or file",
        ),
    ];
    for (config, expected) in rows {
        let home = || Machine::with(&config).running(18_789);
        let machine = home().env("TIDEGATE_GATEWAY_TOKEN", "e").env("TIDEGATE_GATEWAY_PASSWORD", "e");
        // An environment's token ends the search before `gateway.remote` in local mode.
        let machine = if config.starts_with("{gateway: {remote") { home() } else { machine };
        let (code, said) = machine.refusal();
        assert_eq!(code, 78, "{config}: {said}");
        assert!(said.contains(expected), "{config}: {said}");
    }
}

#[test]
fn secrets_come_from_the_environment_or_a_file_by_reference() {
    let machine = Machine::with(
        "{gateway: {mode: 'remote', remote: {url: 'wss://g.example', token: {source: 'env', id: 'MINE'}}}}",
    );
    assert_eq!(machine.env("MINE", "by-reference").sent(), token("by-reference"));
    let machine = Machine::with("{gateway: {auth: {token: '${MINE}'}}}").running(18_789);
    assert_eq!(machine.env("MINE", "filled-in").sent(), token("filled-in"));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("secret");
    std::fs::write(&file, "from-a-file\n").unwrap();
    let config = format!(
        "{{secrets: {{providers: {{f: {{source: 'file', path: '{}', mode: 'singleValue'}}}}}}, gateway: {{auth: \
         {{token: {{source: 'file', provider: 'f', id: 'value'}}}}}}}}",
        file.display()
    );
    assert_eq!(Machine::with(&config).running(18_789).sent(), token("from-a-file"));
}

#[test]
fn a_remote_sibling_that_can_be_had_stays_usable_and_the_environment_stays_out() {
    let config = format!("{{gateway: {{{REMOTE}, token: '${{NOPE}}', password: 'r'}}}}}}");
    let machine = Machine::with(&config).env("TIDEGATE_GATEWAY_TOKEN", "e");
    assert_eq!(machine.sent(), password("r"));
}

#[test]
fn a_node_of_a_machine_in_local_mode_takes_nothing_from_the_remote_settings() {
    let machine = Machine::with("{gateway: {remote: {url: 'wss://g.example', token: 'r'}}}");
    assert!(machine.node().unwrap().is_none());
    let config = format!("{{gateway: {{{REMOTE}, token: 'r'}}}}}}");
    let route = Machine::with(&config).node().unwrap().unwrap();
    assert_eq!(route.endpoint.to_string(), "wss://g.example:443");
    assert_eq!(route.credentials.token.as_deref(), Some("r"));
    let named = NodeRun { host: Some("127.0.0.1".into()), ..NodeRun::default() };
    assert!(for_node(&Machine::with(&config).context(), &named).unwrap().is_none());
}

#[test]
fn a_node_goes_where_the_address_says_and_takes_no_secret_along() {
    let machine = Machine::with("{gateway: {auth: {token: 'a'}, remote: {token: 'r'}}}")
        .env("TIDEGATE_GATEWAY_TOKEN", "e")
        .flags(|globals| globals.url = Some("wss://g.example:1/gw".into()));
    let route = machine.node().unwrap().unwrap();
    assert_eq!(route.endpoint.to_string(), "wss://g.example:1/gw");
    assert!(route.by_url && route.asked_for && route.credentials == Credentials::default());
    let pinned = NodeRun { tls_fingerprint: Some("ab".repeat(32)), ..NodeRun::default() };
    assert!(for_node(&machine.context(), &pinned).unwrap().unwrap().endpoint.pin.is_some());
    for twice in [
        NodeRun { host: Some("h".into()), ..NodeRun::default() },
        NodeRun { port: Some(1), ..NodeRun::default() },
        NodeRun { no_tls: true, ..NodeRun::default() },
    ] {
        assert_eq!(for_node(&machine.context(), &twice).unwrap_err().code(), 2);
    }
    let config = format!("{{gateway: {{{REMOTE}, token: '${{NOPE}}'}}}}}}");
    let machine = Machine::with(&config).flags(|globals| globals.token = Some("mine".into()));
    assert_eq!(machine.node().unwrap().unwrap().credentials.token.as_deref(), Some("mine"));
}

#[test]
fn the_local_gateway_is_found_by_its_config() {
    let machine = Machine::with("{gateway: {port: 4000, auth: {token: 'a'}}}").running(4000);
    assert_eq!(machine.target().unwrap().endpoint.to_string(), "ws://127.0.0.1:4000");
    let machine = machine.env("TIDEGATE_GATEWAY_TOKEN", "e").flags(|globals| globals.port = Some(5000));
    assert_eq!(machine.target().unwrap().endpoint.to_string(), "ws://127.0.0.1:5000");
    // A port alone means this machine, whatever the config's mode.
    let machine = Machine::with(&format!("{{gateway: {{auth: {{token: 'a'}}, {REMOTE}, token: 'r'}}}}}}"));
    let machine = machine.running(4000).flags(|globals| globals.port = Some(5000));
    let (code, said) = machine.refusal();
    assert!(code == 2 && said.contains("port 5000") && said.contains("--token"), "{said}");
}

#[test]
fn this_machines_secret_goes_to_no_port_but_its_gateways() {
    let config = "{gateway: {port: 4000, auth: {token: 'a'}}}";
    let at = |port| {
        let machine = Machine::with(config).own_token("own").running(39_000);
        machine.flags(|globals| globals.port = Some(port))
    };
    assert_eq!(at(39_000).sent(), token("a"));
    for other in [4000, 18_789, 39_877] {
        assert_eq!(at(other).refusal().0, 2, "{other}");
        assert_eq!(at(other).env("TIDEGATE_GATEWAY_TOKEN", "e").sent(), token("e"));
        assert_eq!(at(other).flags(|globals| globals.token = Some("mine".into())).sent(), token("mine"));
    }
    assert_eq!(Machine::with(config).running(39_000).target().unwrap().endpoint.port, 39_000);
}

#[test]
fn this_machines_secret_stays_here_while_its_gateway_does_not_run() {
    let at_rest = |config: &str| Machine::with(config).own_token("own");
    let config = "{gateway: {port: 4000, auth: {token: 'a'}}}";
    let (code, said) = at_rest(config).flags(|globals| globals.profile = Some("rescue".into())).refusal();
    assert_eq!(code, 69, "{said}");
    for word in ["`tidegate --profile rescue ", " gateway run`", "ws://127.0.0.1:4000", "--token"] {
        assert!(said.contains(word), "no {word} in {said}");
    }
    assert_eq!(at_rest(config).env("TIDEGATE_GATEWAY_TOKEN", "e").sent(), token("e"));
    let with_remote =
        |remote: &str| at_rest(&format!("{{gateway: {{port: 4000, remote: {{token: 'r'{remote}}}}}}}"));
    assert_eq!(with_remote("").sent(), token("r"));
    assert_eq!(with_remote(", url: 'ws://127.0.0.1:4000'").sent(), token("r"));
    for other in [", url: 'wss://g.example'", ", sshTarget: 'ann@box'"] {
        assert_eq!(with_remote(other).refusal().0, 69, "{other}");
    }
    assert_eq!(at_rest("{gateway: {auth: {mode: 'none'}}}").sent(), (None, None));
}

#[test]
fn a_machine_without_a_gateway_says_how_to_get_one() {
    let (code, said) = Machine::with("{}").refusal();
    assert_eq!(code, 69);
    assert!(said.contains(" gateway run`"), "{said}");
    let (code, said) = Machine::with("{gateway: {mode: 'remote'}}").refusal();
    assert_eq!(code, 78);
    assert!(said.contains("tidegate remote set"), "{said}");
}

#[test]
fn a_tunnel_leads_to_the_gateways_own_port_and_may_not_take_the_local_secret() {
    let machine = Machine::with("{gateway: {port: 4000, auth: {token: 'a'}}}").own_token("own");
    let machine = machine.flags(|globals| globals.ssh = Some("ann@box:22".parse().unwrap()));
    let target = machine.target().unwrap();
    assert_eq!(target.endpoint.to_string(), "ws://127.0.0.1:18789 through SSH to ann@box:22");
    assert_eq!(target.credentials, Credentials::default());
    assert!(target.is_at_home() && !target.endpoint.is_loopback());
    let machine = machine.flags(|globals| globals.port = Some(19_000)).env("TIDEGATE_GATEWAY_TOKEN", "e");
    assert_eq!(machine.target().unwrap().ssh.unwrap().remote_port, 19_000);
    assert_eq!(machine.sent(), token("e"));
}

#[test]
fn what_the_config_says_about_a_host_holds_for_that_host_only() {
    let config = "{gateway: {remote: {sshTarget: 'ann@box', sshIdentity: '~/k', remotePort: 7, token: 'r', \
                  sshHostKeyPolicy: 'openssh'}}}";
    let to = |host: &str| {
        let host = host.parse().unwrap();
        Machine::with(config).env("HOME", "/home/u").flags(|globals| globals.ssh = Some(host))
    };
    let target = to("ann@box").target().unwrap();
    let ssh = target.ssh.unwrap();
    assert_eq!((ssh.remote_port, ssh.identity), (7, Some("/home/u/k".into())));
    assert_eq!(ssh.host_keys, crate::client::ssh::HostKeys::OpenSsh);
    assert_eq!(target.credentials.token.as_deref(), Some("r"));
    // Who names no user means the same host; its spelling on the line is what `ssh` gets.
    let ssh = to("box").target().unwrap().ssh.unwrap();
    assert_eq!((ssh.target.to_string().as_str(), ssh.identity), ("box", Some("/home/u/k".into())));
    let target = to("bob@box").target().unwrap();
    let ssh = target.ssh.unwrap();
    assert_eq!((ssh.remote_port, ssh.identity), (18_789, None));
    assert_eq!(ssh.host_keys, crate::client::ssh::HostKeys::Strict);
    assert_eq!(target.credentials, Credentials::default());
}

#[test]
fn what_the_config_says_about_no_host_in_particular_holds_for_every_one() {
    let machine = Machine::with("{gateway: {remote: {sshIdentity: '/k', sshHostKeyPolicy: 'openssh'}}}");
    let machine = machine.flags(|globals| globals.ssh = Some("ann@box".parse().unwrap()));
    let ssh = machine.target().unwrap().ssh.unwrap();
    assert_eq!((ssh.identity, ssh.host_keys), (Some("/k".into()), crate::client::ssh::HostKeys::OpenSsh));
}

#[test]
fn the_secret_of_a_remote_address_goes_to_no_other_host() {
    let through = |config: &str| {
        Machine::with(config).flags(|globals| globals.ssh = Some("root@other".parse().unwrap()))
    };
    for mode in ["", "mode: 'remote', "] {
        let machine = through(&format!(
            "{{gateway: {{{mode}remote: {{url: 'wss://gw.example', token: 'r', password: 'p'}}}}}}"
        ));
        assert_eq!(machine.sent(), (None, None));
        assert_eq!(machine.node().unwrap().unwrap().credentials, Credentials::default());
    }
    // Credentials without any address are for whatever gateway is named.
    assert_eq!(through("{gateway: {remote: {token: 'r'}}}").sent(), token("r"));
}

#[test]
fn the_pin_of_the_config_holds_for_its_host_named_on_the_command_line() {
    let pin = "ab".repeat(32);
    let config = |pin: &str| {
        format!(
            "{{gateway: {{mode: 'remote', remote: {{url: 'wss://gw.example:8443', sshTarget: 'ann@box', \
             transport: 'ssh', tlsFingerprint: '{pin}', token: 'r'}}}}}}"
        )
    };
    let to = |config: &str, host: &str| {
        let host = host.parse().unwrap();
        Machine::with(config).flags(|globals| globals.ssh = Some(host))
    };
    let machine = to(&config(&pin), "ann@box");
    for endpoint in [machine.target().unwrap().endpoint, machine.node().unwrap().unwrap().endpoint] {
        assert_eq!(endpoint.to_string(), "wss://127.0.0.1:8443 through SSH to ann@box");
        assert_eq!(endpoint.pin, Pin::parse(&pin));
    }
    assert_eq!(to(&config(&pin), "bob@box").target().unwrap().endpoint.pin, None);
    // A pin that can't be read is not the same as none.
    assert_eq!(to(&config("ab"), "ann@box").refusal().0, 78);
}

#[test]
fn the_ssh_transport_of_the_config_keeps_the_gateways_scheme_and_port() {
    let pin = "ab".repeat(32);
    let remote = |more: &str| {
        format!("{{gateway: {{mode: 'remote', remote: {{transport: 'ssh', token: 'r', {more}}}}}}}")
    };
    let target = Machine::with(&remote("sshTarget: 'box'")).target().unwrap();
    assert_eq!(target.endpoint.to_string(), "ws://127.0.0.1:18789 through SSH to box");
    let more =
        format!("sshTarget: 'box', url: 'wss://127.0.0.1:443', remotePort: 8443, tlsFingerprint: '{pin}'");
    let target = Machine::with(&remote(&more)).target().unwrap();
    assert_eq!(target.endpoint.to_string(), "wss://127.0.0.1:8443 through SSH to box");
    assert!(target.endpoint.pin.is_some());
    let (code, said) = Machine::with(&remote("url: 'ws://127.0.0.1:1'")).refusal();
    assert_eq!(code, 78);
    assert!(said.contains("sshTarget"), "{said}");
    let (code, said) = Machine::with(&remote("sshTarget: '-oProxyCommand=x'")).refusal();
    assert_eq!(code, 78);
    assert!(said.contains("does not begin with `-`"), "{said}");
}

#[test]
fn a_local_gateway_with_tls_is_known_by_its_own_certificate() {
    let machine = Machine::with("{gateway: {auth: {token: 'a'}, tls: {enabled: true}}}").running(18_789);
    let found = || machine.target().unwrap().endpoint;
    assert!(found().tls && found().pin.is_none(), "no gateway has run yet");
    let state = tidegate_actors::settings::StatePaths::new(machine.folder.path());
    let settings = tidegate_actors::settings::gateway::TlsSettings::default();
    let tls = crate::tls::ServerTls::open(TlsFiles::of(&settings, &state)).unwrap();
    assert_eq!(found().pin, Some(tls.pin()));
}

#[test]
fn a_fingerprint_without_tls_is_a_mistake_and_not_ignored() {
    let pin = "ab".repeat(32);
    let pinned = |globals: &mut Globals| globals.tls_fingerprint = Some("ab".repeat(32));
    let machine = Machine::with("{gateway: {auth: {token: 'a'}}}").running(18_789).flags(pinned);
    assert!(machine.target().unwrap().endpoint.tls);
    let machine = machine.flags(|globals| {
        globals.url = Some("ws://10.1.1.1:1".into());
        globals.token = Some("t".into());
    });
    assert_eq!(machine.refusal().0, 2);
    let config =
        format!("{{gateway: {{mode: 'remote', remote: {{url: 'ws://g:1', tlsFingerprint: '{pin}'}}}}}}");
    assert_eq!(Machine::with(&config).refusal().0, 78);
}
