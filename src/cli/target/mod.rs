//! Which gateway a command talks to, and with what credentials. Nothing is sent yet.
//!
//! In this order: `--url`; `--ssh`; `TIDEGATE_GATEWAY_URL`; the config's `gateway.remote` in mode `remote`; the gateway on
//! this machine. `--port` alone means the last one.

mod credentials;
mod remote;
#[cfg(test)]
mod tests;

use tidegate_actors::settings::{AuthMode, gateway::GatewayMode};

use self::credentials::Purse;
pub(super) use self::remote::{for_node, tunnel_to};
use super::{Context, Failure, Globals};
use crate::{
    client::{Credentials, Endpoint, Pin, ssh::TunnelOptions},
    config::{Loaded, Place},
    tls::TlsFiles,
};

/// A gateway, the way there, and what opens its door.
#[derive(Debug, Clone)]
pub(super) struct Target {
    pub endpoint: Endpoint,
    /// The tunnel that has to be opened first.
    pub ssh: Option<TunnelOptions>,
    pub credentials: Credentials,
    pub source: Source,
}

/// What named the gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    Url,
    Ssh,
    Environment,
    Remote,
    Local,
}

impl Source {
    /// For people and in JSON.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Url => "--url",
            Self::Ssh => "--ssh",
            Self::Environment => "environment",
            Self::Remote => "gateway.remote",
            Self::Local => "local",
        }
    }
}

impl Target {
    /// Whether the gateway takes us for a program of its own machine: it is on this one, or a tunnel ends on its own.
    /// An address that only looks local may be a tunnel that somebody made by hand.
    pub(super) fn is_at_home(&self) -> bool {
        self.ssh.is_some() || (self.source == Source::Local && self.endpoint.is_loopback())
    }
}

/// Finds the gateway of a command.
pub(super) fn find(context: &Context) -> Result<Target, Failure> {
    let globals = &context.globals;
    let target = if let Some(url) = &globals.url {
        explicit(context, url)?
    } else if let Some(host) = &globals.ssh {
        remote::by_ssh(context, host)?
    } else if globals.port.is_none()
        && let Some((_, url)) = context.env.setting("GATEWAY_URL")
    {
        environment(context, url)?
    } else {
        let place = context.place()?;
        let loaded = context.loaded(&place)?;
        if globals.port.is_none() && loaded.settings.gateway.mode == Some(GatewayMode::Remote) {
            remote::configured(context, &loaded)?
        } else {
            local(context, &place, &loaded)?
        }
    };
    with_pin(context, target)
}

fn with_pin(context: &Context, mut target: Target) -> Result<Target, Failure> {
    if let Some(pin) = &context.globals.tls_fingerprint {
        let pin = pinned(pin)?;
        // Here and beyond a tunnel there is no address that could say so.
        if !target.endpoint.tls && !matches!(target.source, Source::Local | Source::Ssh) {
            return Err(Failure::usage(format!(
                "--tls-fingerprint is for wss:// addresses; {} has no TLS",
                target.endpoint
            )));
        }
        target.endpoint = target.endpoint.secured(Some(pin));
    }
    Ok(target)
}

/// Every gateway that this command could talk to, those that its flags name first.
pub(super) fn all(context: &Context) -> Vec<(Source, Result<Target, Failure>)> {
    let Globals { url, ssh, port, .. } = &context.globals;
    if url.is_none() && ssh.is_none() {
        return others(context, port.is_none());
    }
    let named = if url.is_some() { Source::Url } else { Source::Ssh };
    // The flags' credentials are for the gateway that they name.
    let rest = Globals {
        url: None,
        ssh: None,
        port: None,
        token: None,
        password: None,
        tls_fingerprint: None,
        ..context.globals.clone()
    };
    let rest = others(&Context::with(rest, context.env.clone()), true);
    std::iter::once((named, find(context))).chain(rest).collect()
}

fn others(context: &Context, with_remote: bool) -> Vec<(Source, Result<Target, Failure>)> {
    let mut found = Vec::new();
    if with_remote && let Some((_, url)) = context.env.setting("GATEWAY_URL") {
        found.push((Source::Environment, environment(context, url)));
    }
    match context.place().and_then(|place| Ok((context.loaded(&place)?, place))) {
        Ok((loaded, place)) => {
            if with_remote && remote::is_configured(&loaded) {
                found.push((Source::Remote, remote::configured(context, &loaded)));
            }
            found.push((Source::Local, local(context, &place, &loaded)));
        }
        Err(failure) => found.push((Source::Local, Err(failure))),
    }
    found
        .into_iter()
        .map(|(source, target)| (source, target.and_then(|target| with_pin(context, target))))
        .collect()
}

/// An address from the command line goes with a credential from the command line: a mistyped or planted address must
/// never be sent a secret from the config.
fn explicit(context: &Context, url: &str) -> Result<Target, Failure> {
    let credentials = given(&context.globals).ok_or_else(|| {
        Failure::usage(
            "gateway url override requires explicit credentials: pass --token or --password with --url",
        )
    })?;
    Ok(Target { endpoint: Endpoint::parse(url)?, ssh: None, credentials, source: Source::Url })
}

/// The same for an address from the environment.
fn environment(context: &Context, url: &str) -> Result<Target, Failure> {
    let credentials = given(&context.globals).unwrap_or_else(|| credentials::of_environment(&context.env));
    if credentials == none() {
        return Err(Failure::usage(
            "a gateway address from the environment requires a credential from there: set \
             TIDEGATE_GATEWAY_TOKEN or TIDEGATE_GATEWAY_PASSWORD, or pass --token or --password",
        ));
    }
    Ok(Target { endpoint: Endpoint::parse(url)?, ssh: None, credentials, source: Source::Environment })
}

fn local(context: &Context, place: &Place, loaded: &Loaded) -> Result<Target, Failure> {
    let gateway = &loaded.settings.gateway;
    // Whoever names a port means it; else the gateway that runs here knows best.
    let port = match context.globals.port {
        Some(port) => port,
        None if context.env.setting("GATEWAY_PORT").is_some() => gateway.port(),
        None => crate::gateway::own_port(gateway.port(), place.state.root()),
    };
    let mut endpoint = Endpoint::plain("127.0.0.1", port);
    if gateway.tls.enabled {
        // Who can read the certificate's file needs no other proof of it.
        endpoint = endpoint.secured(TlsFiles::of(&gateway.tls, &place.state).pin().ok());
    }
    let credentials = match given(&context.globals) {
        Some(given) => given,
        None if crate::gateway::is_own_port(port, place.state.root()) => {
            Purse::new(&context.env, loaded).local(place)?
        }
        None => stranger(context, place, loaded, &endpoint)?,
    };
    Ok(Target { endpoint, ssh: None, credentials, source: Source::Local })
}

/// Where this machine's own gateway does not listen there may be a tunnel to anybody: what is stored for the own one stays
/// here.
fn stranger(
    context: &Context,
    place: &Place,
    loaded: &Loaded,
    endpoint: &Endpoint,
) -> Result<Credentials, Failure> {
    let credentials = Purse::new(&context.env, loaded).stranger(endpoint)?;
    if credentials != none() || loaded.settings.gateway.auth.mode == Some(AuthMode::None) {
        return Ok(credentials);
    }
    let (root, pass) = (place.state.root(), "pass its --token or --password, or set TIDEGATE_GATEWAY_TOKEN");
    Err(match crate::gateway::holder(root).and_then(|holder| holder.port) {
        Some(own) => Failure::usage(format!(
            "port {} is not that of this machine's gateway, which listens on {own}: if another one is meant, {pass}",
            endpoint.port
        )),
        None => Failure::Unreachable(format!(
            "no gateway of this machine runs (with {}): start one with `{} gateway run`; for another that is reached at \
             {endpoint}, by a tunnel or in a container, {pass}",
            root.display(),
            context.program(place)
        )),
    })
}

/// What the command line gives.
pub(super) fn given(globals: &Globals) -> Option<Credentials> {
    let Globals { token, password, .. } = globals;
    if token.is_none() && password.is_none() {
        return None;
    }
    Some(Credentials { token: token.clone(), password: password.clone(), ..none() })
}

fn none() -> Credentials {
    Credentials::default()
}

fn pinned(text: &str) -> Result<Pin, Failure> {
    Pin::parse(text).ok_or_else(|| {
        Failure::usage("a TLS fingerprint is the SHA-256 of the certificate: 64 hexadecimal digits")
    })
}
