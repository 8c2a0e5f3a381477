//! From flags, environment and config to a gateway and a way in.

use std::{sync::Arc, time::Duration};

use serde_json::Value;
use tidegate_actors::settings::{AuthMode, Secret, gateway::GatewayMode};
use tidegate_protocol::Scope;

use super::{Failure, Globals};
use crate::{
    client::{Client, ConnectOptions, Credentials, DeviceIdentity, Endpoint, Events, Pin},
    config::{self, ConfigError, Environment, Flags, Loaded, Place, PlaceFlags, token},
    tls::TlsFiles,
};

/// Everything that a command is run with.
pub(super) struct Context {
    pub globals: Globals,
    pub env: Environment,
}

/// A gateway and what opens its door.
#[derive(Debug)]
pub(super) struct Target {
    pub endpoint: Endpoint,
    pub credentials: Credentials,
    /// Where the address came from, for people.
    pub source: &'static str,
}

impl Context {
    pub(super) fn new(globals: Globals) -> Self {
        Self { globals, env: Environment::process() }
    }

    pub(super) fn place(&self) -> Result<Place, Failure> {
        let Globals { profile, state_dir, config, .. } = self.globals.clone();
        Ok(Place::find(&PlaceFlags { profile, state_dir, config }, &self.env)?)
    }

    /// The configuration as it is for commands: no flag of a command changes it.
    pub(super) fn loaded(&self, place: &Place) -> Result<Loaded, Failure> {
        Ok(config::load(place, &self.env, &Flags::default())?)
    }

    /// Waits as long as was asked for, else as long as fits the command.
    pub(super) fn timeout(&self, usual: Duration) -> Duration {
        self.globals.timeout.map_or(usual, |span| span.or_milliseconds())
    }

    /// Which gateway, and with what credential. Nothing is sent yet.
    pub(super) fn target(&self) -> Result<Target, Failure> {
        let mut target = self.find_target()?;
        if let Some(pin) = &self.globals.tls_fingerprint {
            let pin = pinned(pin)?;
            if !target.endpoint.tls && target.source != "local" {
                return Err(Failure::usage(format!(
                    "--tls-fingerprint is for wss:// addresses; {} has no TLS",
                    target.endpoint
                )));
            }
            target.endpoint = target.endpoint.secured(Some(pin));
        }
        Ok(target)
    }

    fn find_target(&self) -> Result<Target, Failure> {
        if let Some(url) = &self.globals.url {
            return self.explicit(url);
        }
        if self.globals.port.is_none()
            && let Some((_, url)) = self.env.setting("GATEWAY_URL")
        {
            return self.environment_target(url);
        }
        let place = self.place()?;
        let loaded = self.loaded(&place)?;
        let remote = &loaded.settings.gateway.remote;
        if self.globals.port.is_none()
            && loaded.settings.gateway.mode == Some(GatewayMode::Remote)
            && let Some(url) = &remote.url
        {
            let mut endpoint = Endpoint::parse(url)?;
            endpoint.pin = remote.tls_fingerprint.as_deref().map(configured_pin).transpose()?;
            if endpoint.pin.is_some() && !endpoint.tls {
                return Err(ConfigError::remote_pin().into());
            }
            let own =
                Credentials { token: plain(&remote.token), password: plain(&remote.password), ..none() };
            return Ok(Target {
                endpoint,
                credentials: self.given().unwrap_or(own),
                source: "gateway.remote",
            });
        }
        self.local(&place, &loaded)
    }

    /// An address from the command line goes with a credential from the command line: a
    /// mistyped or planted address must never be sent a secret from the config.
    fn explicit(&self, url: &str) -> Result<Target, Failure> {
        let credentials = self.given().ok_or_else(|| {
            Failure::usage(
                "gateway url override requires explicit credentials: pass --token or --password with --url",
            )
        })?;
        Ok(Target { endpoint: Endpoint::parse(url)?, credentials, source: "--url" })
    }

    /// The same for an address from the environment.
    fn environment_target(&self, url: &str) -> Result<Target, Failure> {
        let env = |name: &str| self.env.setting(name).map(|(_, value)| value.to_owned());
        let own = Credentials { token: env("GATEWAY_TOKEN"), password: env("GATEWAY_PASSWORD"), ..none() };
        let credentials = self.given().unwrap_or(own);
        if credentials == none() {
            return Err(Failure::usage(
                "a gateway address from the environment requires a credential from there: set \
                 TIDEGATE_GATEWAY_TOKEN, or pass --token",
            ));
        }
        Ok(Target { endpoint: Endpoint::parse(url)?, credentials, source: "environment" })
    }

    fn local(&self, place: &Place, loaded: &Loaded) -> Result<Target, Failure> {
        let gateway = &loaded.settings.gateway;
        let mut endpoint = Endpoint::plain("127.0.0.1", self.globals.port.unwrap_or_else(|| gateway.port()));
        if gateway.tls.enabled {
            // Who can read the certificate's file needs no other proof of it.
            endpoint = endpoint.secured(TlsFiles::of(&gateway.tls, &place.state).pin().ok());
        }
        let credentials = match (self.given(), gateway.auth.mode()) {
            (Some(given), _) => given,
            (None, AuthMode::Token) => {
                let token = match &gateway.auth.token {
                    Some(token) => Some(token.clone()),
                    None => token::stored(&place.state)?,
                };
                let token = token.ok_or_else(|| {
                    Failure::Unreachable(format!(
                        "no gateway has run with {} yet: start one with `tidegate gateway run`, or pass --token",
                        place.state.root().display()
                    ))
                })?;
                Credentials { token: Some(token.expose().to_owned()), ..none() }
            }
            (None, AuthMode::Password | AuthMode::TrustedProxy) => {
                Credentials { password: plain(&gateway.auth.password), ..none() }
            }
            (None, AuthMode::None) => none(),
        };
        Ok(Target { endpoint, credentials, source: "local" })
    }

    /// What the command line gives.
    fn given(&self) -> Option<Credentials> {
        let Globals { token, password, .. } = &self.globals;
        if token.is_none() && password.is_none() {
            return None;
        }
        Some(Credentials { token: token.clone(), password: password.clone(), ..none() })
    }

    /// Connects as an operator with every scope; the gateway grants what it grants.
    pub(super) async fn connect(&self) -> Result<(Client, Events), Failure> {
        let Target { endpoint, credentials, .. } = self.target()?;
        let scopes = [Scope::Admin, Scope::Read, Scope::Write, Scope::Approvals, Scope::Pairing];
        let mut options = ConnectOptions::operator(endpoint, credentials, scopes);
        if !options.endpoint.is_loopback() {
            // From afar a gateway gives scopes only to a device that it knows.
            let path = self.place()?.state.root().join("cli").join("identity.json");
            options.identity = Some(Arc::new(DeviceIdentity::load_or_create(&path)?));
        }
        options.timeout = self.timeout(options.timeout);
        Ok(Client::connect(&options).await?)
    }

    /// One call over a connection of its own.
    pub(super) async fn call(&self, method: &str, params: Value) -> Result<Value, Failure> {
        let (client, _events) = self.connect().await?;
        let answer = self.call_over(&client, method, params).await;
        client.close().await;
        answer
    }

    /// One of several calls over one connection.
    pub(super) async fn call_over(
        &self,
        client: &Client,
        method: &str,
        params: Value,
    ) -> Result<Value, Failure> {
        Ok(client.call_within(method, &params, self.timeout(crate::client::CALL_TIMEOUT)).await?)
    }
}

fn none() -> Credentials {
    Credentials::default()
}

fn plain(secret: &Option<Secret>) -> Option<String> {
    secret.as_ref().map(|secret| secret.expose().to_owned())
}

fn configured_pin(text: &str) -> Result<Pin, Failure> {
    Pin::parse(text).ok_or_else(|| ConfigError::remote_pin().into())
}

fn pinned(text: &str) -> Result<Pin, Failure> {
    Pin::parse(text).ok_or_else(|| {
        Failure::usage("a TLS fingerprint is the SHA-256 of the certificate: 64 hexadecimal digits")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn context(globals: Globals, env: Environment) -> Context {
        Context { globals, env }
    }

    fn local_state(config: &str) -> (tempfile::TempDir, Globals) {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("tidegate.json"), config).unwrap();
        let state_dir = Some(folder.path().display().to_string());
        (folder, Globals { state_dir, ..Globals::default() })
    }

    #[test]
    fn an_address_of_ones_own_takes_no_other_credentials() {
        let (_folder, globals) = local_state("{gateway: {auth: {token: 'from-config'}}}");
        let env = Environment::of([("TIDEGATE_GATEWAY_TOKEN", "from-env")]);
        let globals = Globals { url: Some("ws://10.1.1.1:1".into()), ..globals };
        let failure = context(globals.clone(), env.clone()).target().unwrap_err();
        assert_eq!(failure.code(), 2);
        assert!(failure.to_string().contains("explicit credentials"));
        let globals = Globals { token: Some("mine".into()), ..globals };
        let target = context(globals, env).target().unwrap();
        assert_eq!(target.credentials, Credentials { token: Some("mine".into()), ..none() });
    }

    #[test]
    fn the_local_gateway_is_found_by_its_config() {
        let (_folder, globals) = local_state("{gateway: {port: 4000, auth: {token: 'from-config'}}}");
        let target = context(globals.clone(), Environment::default()).target().unwrap();
        assert_eq!(target.endpoint.to_string(), "ws://127.0.0.1:4000");
        assert_eq!(target.credentials.token.as_deref(), Some("from-config"));
        let globals = Globals { port: Some(5000), ..globals };
        let target = context(globals, Environment::default()).target().unwrap();
        assert_eq!(target.endpoint.to_string(), "ws://127.0.0.1:5000");
    }

    #[test]
    fn a_local_gateway_with_tls_is_known_by_its_own_certificate() {
        let config = "{gateway: {auth: {token: 'from-config'}, tls: {enabled: true}}}";
        let (folder, globals) = local_state(config);
        let found = || context(globals.clone(), Environment::default()).target().unwrap().endpoint;
        assert!(found().tls && found().pin.is_none(), "no gateway has run yet");
        let state = tidegate_actors::settings::StatePaths::new(folder.path());
        let settings = tidegate_actors::settings::gateway::TlsSettings::default();
        let tls = crate::tls::ServerTls::open(TlsFiles::of(&settings, &state)).unwrap();
        assert_eq!(found().pin, Some(tls.pin()));
    }

    #[test]
    fn a_fingerprint_without_tls_is_a_mistake_and_not_ignored() {
        let pin = "ab".repeat(32);
        let (_folder, globals) = local_state("{gateway: {auth: {token: 'from-config'}}}");
        let globals = Globals { tls_fingerprint: Some(pin.clone()), ..globals };
        assert!(context(globals.clone(), Environment::default()).target().unwrap().endpoint.tls);
        let globals = Globals { url: Some("ws://10.1.1.1:1".into()), token: Some("t".into()), ..globals };
        assert_eq!(context(globals, Environment::default()).target().unwrap_err().code(), 2);
        let config =
            format!("{{gateway: {{mode: 'remote', remote: {{url: 'ws://g:1', tlsFingerprint: '{pin}'}}}}}}");
        let (_folder, globals) = local_state(&config);
        assert_eq!(context(globals, Environment::default()).target().unwrap_err().code(), 78);
    }

    #[test]
    fn a_machine_without_a_gateway_says_how_to_get_one() {
        let (_folder, globals) = local_state("{}");
        let failure = context(globals, Environment::default()).target().unwrap_err();
        assert_eq!(failure.code(), 69);
        assert!(failure.to_string().contains("tidegate gateway run"));
    }

    #[test]
    fn the_remote_gateway_gets_the_remote_credential() {
        let config = "{gateway: {mode: 'remote', auth: {token: 'local-token'}, \
                      remote: {url: 'wss://g.example', token: 'remote-token'}}}";
        let (_folder, globals) = local_state(config);
        let target = context(globals, Environment::default()).target().unwrap();
        assert_eq!(target.endpoint.to_string(), "wss://g.example:443");
        assert_eq!(target.credentials.token.as_deref(), Some("remote-token"));
    }
}
