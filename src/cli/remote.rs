//! `tidegate remote`: the gateway elsewhere that this machine's commands talk to.

use clap::{Args as ClapArgs, Subcommand, ValueEnum};
use serde_json::{Map, Value, json};
use tidegate_actors::settings::{ConfigFile, ConfigWriteError};

use super::{Context, Failure, out, target};
use crate::{
    client::{DEFAULT_PORT, Endpoint, Pin},
    config::{ConfigError, DiskConfig},
    gateway,
};

#[derive(ClapArgs, Debug)]
#[command(after_help = "\
Examples:
  tidegate remote set wss://gateway.example --token '${GATEWAY_TOKEN}' --tls-fingerprint SHA256
  tidegate remote set --ssh user@gateway-host --token TOKEN
  tidegate remote show
  tidegate remote clear
A token written as '${NAME}' stays in the environment; the file only names it.")]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Have every command talk to this gateway
    Set(SetArgs),
    /// Which gateway commands talk to, and how; secrets are hidden
    Show,
    /// Talk to the gateway on this machine again
    Clear,
}

/// `--token`, `--password`, `--tls-fingerprint`, `--ssh` and `--ssh-identity` count here too.
#[derive(ClapArgs, Debug)]
struct SetArgs {
    /// ws:// or wss://; with --ssh as the gateway's own machine sees it [default then: ws://127.0.0.1:18789, or wss:// with
    /// --tls-fingerprint]
    #[arg(value_name = "URL")]
    address: Option<String>,
    /// With --ssh: the gateway's port there, when it isn't the one in URL; --port means the same
    #[arg(long, value_name = "PORT")]
    remote_port: Option<u16>,
    /// With --ssh: which host keys to believe
    #[arg(long, value_name = "POLICY")]
    ssh_host_key_policy: Option<Policy>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Policy {
    /// Those in known_hosts
    Strict,
    /// What the ssh config says
    Openssh,
}

/// What belongs to an address and goes with it.
const OF_THE_ADDRESS: [&str; 8] = [
    "tlsFingerprint",
    "transport",
    "sshTarget",
    "sshIdentity",
    "remotePort",
    "sshHostKeyPolicy",
    "token",
    "password",
];

pub(super) fn run(context: &Context, args: Args) -> Result<(), Failure> {
    let disk = DiskConfig::new(context.place()?, context.env.clone());
    match args.command {
        Command::Set(args) => set(context, &disk, &args),
        Command::Show => show(context, &disk),
        Command::Clear => {
            change(&disk, &json!({"gateway": {"mode": "local", "remote": null}}))?;
            show(context, &disk)
        }
    }
}

fn set(context: &Context, disk: &DiskConfig, args: &SetArgs) -> Result<(), Failure> {
    let old = disk.read().parsed.pointer("/gateway/remote").cloned().unwrap_or_default();
    let patch = Value::Object(patch(context, args, &old)?);
    let forgotten: Vec<&str> =
        ["token", "password"].into_iter().filter(|key| patch[key].is_null() && !old[key].is_null()).collect();
    let forgotten = if patch.get("transport").is_some() { forgotten } else { Vec::new() };
    change(disk, &json!({"gateway": {"mode": "remote", "remote": patch}}))?;
    if let Some(gateway::LockHolder { pid, .. }) = gateway::holder(context.place()?.state.root()) {
        out::note(format!(
            "warning: a gateway (pid {pid}) runs with this very config and will not start again in mode \"remote\": give it \
             a profile of its own, or use --ssh and --url instead"
        ));
    }
    if !forgotten.is_empty() {
        out::note(format!(
            "another address: the {} of the former one was removed; pass it again if it is the same gateway",
            forgotten.join(" and ")
        ));
    }
    show(context, disk)
}

/// What to write under `gateway.remote`; `null` removes a key.
fn patch(context: &Context, args: &SetArgs, old: &Value) -> Result<Map<String, Value>, Failure> {
    let globals = &context.globals;
    let target = globals.ssh.as_ref().map(ToString::to_string);
    let url = match (&args.address, &target) {
        (Some(url), _) => url.trim().to_owned(),
        (None, Some(target)) => {
            // A gateway that had a pin doesn't lose it because it isn't given again.
            let pinned = old["sshTarget"] == *target && old["tlsFingerprint"].is_string();
            let scheme = if pinned || globals.tls_fingerprint.is_some() { "wss" } else { "ws" };
            format!("{scheme}://127.0.0.1:{}", args.remote_port.or(globals.port).unwrap_or(DEFAULT_PORT))
        }
        (None, None) => return Err(Failure::usage("name the gateway: its URL, or its host with --ssh")),
    };
    let endpoint = Endpoint::parse(&url)?;
    if globals.tls_fingerprint.is_some() && !endpoint.tls {
        return Err(Failure::usage(format!("--tls-fingerprint is for wss:// addresses; {url} has no TLS")));
    }
    if globals.ssh.is_none() {
        endpoint.check_plaintext()?;
        if args.remote_port.is_some() || args.ssh_host_key_policy.is_some() || globals.ssh_identity.is_some()
        {
            return Err(Failure::usage("these options are for --ssh user@host, which is missing"));
        }
    }
    let remote_port = args.remote_port.or(globals.port.filter(|_| globals.ssh.is_some()));
    let mut patch = Map::new();
    let same_url = old["url"].as_str().is_some_and(|old| old.trim() == url);
    // By SSH the address is the same for every gateway; the host tells them apart.
    let same = same_url && target.as_deref().is_none_or(|target| old["sshTarget"] == target);
    if !same {
        patch.extend(OF_THE_ADDRESS.map(|key| (key.to_owned(), Value::Null)));
    }
    let mut put = |key: &str, value: Value| patch.insert(key.to_owned(), value);
    put("url", json!(url));
    if let Some(target) = target {
        put("transport", json!("ssh"));
        put("sshTarget", json!(target));
    }
    if let Some(pin) = &globals.tls_fingerprint {
        Pin::parse(pin).ok_or_else(|| {
            Failure::usage("a TLS fingerprint is the SHA-256 of the certificate: 64 hexadecimal digits")
        })?;
        put("tlsFingerprint", json!(pin));
    }
    if let Some(port) = remote_port {
        put("remotePort", json!(port));
    }
    if let Some(policy) = args.ssh_host_key_policy {
        put(
            "sshHostKeyPolicy",
            json!(match policy {
                Policy::Strict => "strict",
                Policy::Openssh => "openssh",
            }),
        );
    }
    for (key, value) in
        [("sshIdentity", &globals.ssh_identity), ("token", &globals.token), ("password", &globals.password)]
    {
        if let Some(value) = value {
            put(key, json!(value));
        }
    }
    Ok(patch)
}

fn change(disk: &DiskConfig, patch: &Value) -> Result<(), Failure> {
    let failed = |error| match error {
        ConfigWriteError::Invalid(issues) => Failure::Config(ConfigError::Refused(
            issues.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "),
        )),
        other => Failure::failed(other.to_string()),
    };
    let now = disk.read();
    let text = now.text.as_deref().unwrap_or_default();
    let changed = disk.patched(text, &patch.to_string(), &[]).map_err(failed)?;
    disk.write(&changed, Some(&now.hash)).map_err(failed)?;
    Ok(())
}

fn show(context: &Context, disk: &DiskConfig) -> Result<(), Failure> {
    let shown = disk.shown(&disk.read());
    let remote = shown.parsed.pointer("/gateway/remote").cloned().unwrap_or_default();
    let mode = shown.parsed.pointer("/gateway/mode").and_then(Value::as_str).unwrap_or("local");
    let target = target::find(context);
    // After `remote clear` on a machine that has no gateway, that is no problem of the settings.
    let nobody_home = mode == "local" && matches!(target, Err(Failure::Unreachable(_)));
    let answer = json!({
        "mode": mode,
        "remote": remote,
        "target": target.as_ref().ok().map(|target| target.endpoint.to_string()),
        "source": target.as_ref().ok().map(|target| target.source.as_str()),
        "problem": target.as_ref().err().map(Failure::in_full),
        "path": shown.path,
    });
    if context.globals.json {
        out::json(&answer);
        return Ok(());
    }
    let mut facts = out::Facts::default();
    if nobody_home {
        facts.add("commands talk to", "the gateway of this machine, once one runs");
    } else {
        facts.add("commands talk to", out::string(&answer, "target"));
        facts.add("problem", out::string(&answer, "problem"));
    }
    facts.add("mode", mode);
    for key in
        ["url", "transport", "sshTarget", "sshIdentity", "remotePort", "sshHostKeyPolicy", "tlsFingerprint"]
    {
        facts.add(key, out::string(&remote, key));
    }
    for key in ["token", "password"] {
        if !remote[key].is_null() {
            facts.add(key, "set");
        }
    }
    facts.add("config", out::string(&answer, "path"));
    facts.print();
    Ok(())
}
