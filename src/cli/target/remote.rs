//! A gateway elsewhere: `gateway.remote` of the config, and `--ssh`.

use tidegate_actors::settings::gateway::{GatewayMode, RemoteSettings, RemoteTransport, SshHostKeyPolicy};

use super::{Source, Target, credentials::Purse, given, pinned};
use crate::{
    cli::{Context, Failure},
    client::{
        Credentials, DEFAULT_PORT, Endpoint, Pin, Via,
        ssh::{HostKeys, SshTarget, TunnelOptions},
    },
    config::{ConfigError, Loaded},
    node_host::{NodeRoute, NodeRun},
};

/// The gateway that the config names.
pub(super) fn configured(context: &Context, loaded: &Loaded) -> Result<Target, Failure> {
    let (endpoint, ssh) = way(loaded)?;
    let credentials = match given(&context.globals) {
        Some(given) => given,
        None => Purse::new(&context.env, loaded).remote()?,
    };
    Ok(Target { endpoint, ssh, credentials, source: Source::Remote })
}

pub(super) fn is_configured(loaded: &Loaded) -> bool {
    let remote = &loaded.settings.gateway.remote;
    remote.url.is_some() || remote.ssh_target.is_some()
}

/// The gateway of a host that is named on the command line.
pub(super) fn by_ssh(context: &Context, host: &SshTarget) -> Result<Target, Failure> {
    let loaded = context.loaded(&context.place()?)?;
    let (endpoint, ssh) = way_to(context, &loaded, host, context.globals.port)?;
    let credentials = match given(&context.globals) {
        Some(given) => given,
        None => Purse::new(&context.env, &loaded).beyond_tunnel(is_ours(&loaded, host))?,
    };
    Ok(Target { endpoint, ssh: Some(ssh), credentials, source: Source::Ssh })
}

/// Where `tidegate node run` goes when its own options don't say: `--url`, `--ssh`, or the config's remote gateway.
pub(in crate::cli) fn for_node(context: &Context, args: &NodeRun) -> Result<Option<NodeRoute>, Failure> {
    if let Some(url) = &context.globals.url {
        return Ok(Some(by_url(args, url)?));
    }
    if let Some(host) = &context.globals.ssh {
        if args.host.is_some() || args.pair.is_some() {
            return Err(Failure::usage(
                "--ssh goes with neither --host nor --pair: with --ssh the gateway is on that host",
            ));
        }
        let loaded = context.loaded(&context.place()?)?;
        let (mut endpoint, ssh) = way_to(context, &loaded, host, args.port)?;
        if let Some(pin) = &args.tls_fingerprint {
            endpoint.pin = Some(pinned(pin)?);
        }
        endpoint.tls |= args.tls || endpoint.pin.is_some();
        let credentials = match given(&context.globals) {
            Some(given) => given,
            None => Purse::new(&context.env, &loaded).beyond_tunnel(is_ours(&loaded, host))?,
        };
        return Ok(Some(NodeRoute { endpoint, ssh: Some(ssh), asked_for: true, by_url: false, credentials }));
    }
    if args.names_a_gateway(&context.env) {
        return Ok(None);
    }
    let loaded = context.loaded(&context.place()?)?;
    if loaded.settings.gateway.mode != Some(GatewayMode::Remote) {
        return Ok(None);
    }
    let (endpoint, ssh) = way(&loaded)?;
    let credentials = match given(&context.globals) {
        Some(given) => given,
        None => Purse::new(&context.env, &loaded).remote()?,
    };
    Ok(Some(NodeRoute { endpoint, ssh, asked_for: false, by_url: false, credentials }))
}

/// The gateway at an address from the command line, which says everything but the certificate.
fn by_url(args: &NodeRun, url: &str) -> Result<NodeRoute, Failure> {
    let named = [&args.pair, &args.host, &args.context_path].iter().any(|option| option.is_some());
    if named || args.port.is_some() || args.tls || args.no_tls {
        return Err(Failure::usage(
            "--url names the gateway by itself: leave out --pair, --host, --port, --context-path, --tls and --no-tls",
        ));
    }
    let mut endpoint = Endpoint::parse(url)?;
    if let Some(pin) = &args.tls_fingerprint {
        if !endpoint.tls {
            return Err(Failure::usage(format!(
                "--tls-fingerprint is for wss:// addresses; {endpoint} has no TLS"
            )));
        }
        endpoint.pin = Some(pinned(pin)?);
    }
    let credentials = Credentials::default();
    Ok(NodeRoute { endpoint, ssh: None, asked_for: true, by_url: true, credentials })
}

/// The tunnel to a host, or to the one that the config names.
pub(in crate::cli) fn tunnel_to(
    context: &Context,
    host: Option<&SshTarget>,
    port: Option<u16>,
) -> Result<TunnelOptions, Failure> {
    let loaded = context.loaded(&context.place()?)?;
    let named = match (host, &context.globals.ssh, &loaded.settings.gateway.remote.ssh_target) {
        (Some(host), _, _) | (None, Some(host), _) => host.clone(),
        (None, None, Some(text)) => {
            text.parse().map_err(|error| wrong(format!("gateway.remote.sshTarget: {error}")))?
        }
        (None, None, None) => {
            return Err(Failure::usage("name the gateway's host: tidegate tunnel user@host"));
        }
    };
    Ok(way_to(context, &loaded, &named, port)?.1)
}

/// The config's own way to its remote gateway.
fn way(loaded: &Loaded) -> Result<(Endpoint, Option<TunnelOptions>), Failure> {
    let remote = &loaded.settings.gateway.remote;
    let endpoint = endpoint(loaded)?;
    let by_ssh = match remote.transport {
        Some(transport) => transport == RemoteTransport::Ssh,
        None => endpoint.is_none(),
    };
    match (endpoint, &remote.ssh_target) {
        (Some(endpoint), _) if !by_ssh => Ok((endpoint, None)),
        (endpoint, Some(host)) if by_ssh => {
            let host: SshTarget =
                host.parse().map_err(|error| wrong(format!("gateway.remote.sshTarget: {error}")))?;
            let (endpoint, ssh) = tunnel(endpoint, remote, &host);
            Ok((endpoint, Some(ssh)))
        }
        (Some(_), None) => Err(wrong(
            "gateway.remote.transport is \"ssh\": set gateway.remote.sshTarget to user@host, or the transport to \
             \"direct\"",
        )),
        _ => Err(wrong(
            "gateway.mode is \"remote\" and gateway.remote.url is not set: `tidegate remote set URL` sets it, or set \
             gateway.mode to \"local\"",
        )),
    }
}

/// `gateway.remote.url` with its pin.
fn endpoint(loaded: &Loaded) -> Result<Option<Endpoint>, Failure> {
    let remote = &loaded.settings.gateway.remote;
    // Without its pin or its transport an address is another one.
    let secret = |path: &str| matches!(path, "gateway.remote.token" | "gateway.remote.password");
    if let Some(issue) =
        loaded.missing.iter().find(|issue| issue.path.starts_with("gateway.remote.") && !secret(&issue.path))
    {
        return Err(wrong(issue.to_string()));
    }
    let Some(url) = &remote.url else { return Ok(None) };
    let mut endpoint = Endpoint::parse(url).map_err(|error| wrong(format!("gateway.remote.url: {error}")))?;
    if let Some(pin) = &remote.tls_fingerprint {
        endpoint.pin = Some(Pin::parse(pin).ok_or_else(ConfigError::remote_pin)?);
        if !endpoint.tls {
            return Err(ConfigError::remote_pin().into());
        }
    }
    Ok(Some(endpoint))
}

/// The way to a host from the command line. What the config says about this very host holds for it.
fn way_to(
    context: &Context,
    loaded: &Loaded,
    host: &SshTarget,
    port: Option<u16>,
) -> Result<(Endpoint, TunnelOptions), Failure> {
    let remote = &loaded.settings.gateway.remote;
    let (endpoint, mut ssh) = if is_ours(loaded, host) {
        tunnel(endpoint(loaded)?, remote, host)
    } else {
        tunnel(None, &RemoteSettings::default(), host)
    };
    ssh.remote_port = port.unwrap_or(ssh.remote_port);
    if let Some(identity) = &context.globals.ssh_identity {
        ssh.identity = Some(context.env.expand(identity));
    }
    Ok((Endpoint { port: ssh.remote_port, ..endpoint }, ssh))
}

fn tunnel(url: Option<Endpoint>, remote: &RemoteSettings, host: &SshTarget) -> (Endpoint, TunnelOptions) {
    let port = remote.remote_port.or(url.as_ref().map(|url| url.port)).unwrap_or(DEFAULT_PORT);
    let via = Some(Via { host: host.to_string(), port: 0 });
    let endpoint = url.unwrap_or_else(|| Endpoint::plain("127.0.0.1", port));
    let options = TunnelOptions {
        target: host.clone(),
        identity: remote.ssh_identity.as_ref().map(Into::into),
        host_keys: match remote.ssh_host_key_policy {
            SshHostKeyPolicy::Strict => HostKeys::Strict,
            SshHostKeyPolicy::OpenSsh => HostKeys::OpenSsh,
        },
        remote_port: port,
        local_port: None,
    };
    // Whatever name the URL had, at the tunnel's end the gateway is on its own machine.
    (Endpoint { host: "127.0.0.1".to_owned(), port, via, ..endpoint }, options)
}

/// Whether the config names this host. Who doesn't say a user means the one that `ssh` takes.
fn names(remote: &RemoteSettings, host: &SshTarget) -> bool {
    let Some(Ok(named)) = remote.ssh_target.as_ref().map(|named| named.parse::<SshTarget>()) else {
        return false;
    };
    let same_user = named.user.is_none() || host.user.is_none() || named.user == host.user;
    same_user && (&named.host, named.port) == (&host.host, host.port)
}

/// Whether what the config says about a remote gateway is meant for this host: it names this one, or no gateway at all.
fn is_ours(loaded: &Loaded, host: &SshTarget) -> bool {
    let remote = &loaded.settings.gateway.remote;
    names(remote, host) || (remote.ssh_target.is_none() && remote.url.is_none())
}

fn wrong(why: impl Into<String>) -> Failure {
    Failure::Config(ConfigError::Refused(why.into()))
}
