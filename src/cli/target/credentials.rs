//! Which secret goes to which gateway, in the order that OpenClaw documents (`docs/gateway/remote.md`, "Credential
//! precedence"). A secret that is configured and can't be had ends the search: nothing else is sent in its place.

use tidegate_actors::settings::{AuthMode, Secret};

use super::none;
use crate::{
    cli::{Failure, out},
    client::{Credentials, Endpoint},
    config::{ConfigError, Environment, Loaded, Place, token},
};

/// The secrets of the config and of the environment.
pub(super) struct Purse<'a> {
    env: &'a Environment,
    loaded: &'a Loaded,
}

type Found = Result<Option<String>, Failure>;

/// The environment's credentials, for an address from there.
pub(super) fn of_environment(env: &Environment) -> Credentials {
    let setting = |name: &str| env.setting(name).map(|(_, value)| value.to_owned());
    Credentials { token: setting("GATEWAY_TOKEN"), password: setting("GATEWAY_PASSWORD"), ..none() }
}

impl<'a> Purse<'a> {
    pub(super) fn new(env: &'a Environment, loaded: &'a Loaded) -> Self {
        Self { env, loaded }
    }

    /// For the gateway on this machine: `gateway.auth.*`, environment, the gateway's own token, `gateway.remote.*`.
    pub(super) fn local(&self, place: &Place) -> Result<Credentials, Failure> {
        let auth = &self.loaded.settings.gateway.auth;
        self.known("gateway.auth.mode")?;
        if auth.mode.is_none() {
            // Which mode is in force depends on both.
            self.auth_token().and(self.auth_password())?;
        }
        match auth.mode() {
            AuthMode::None => Ok(none()),
            AuthMode::Password | AuthMode::TrustedProxy => {
                let password = or_else(self.auth_password()?, || self.remote_password())?;
                Ok(Credentials { password, ..none() })
            }
            AuthMode::Token => {
                let token = or_else(self.auth_token()?, || {
                    Ok(token::stored(&place.state)?.map(|token| token.expose().to_owned()))
                })?;
                let token = or_else(token, || self.remote_token())?;
                let password =
                    if token.is_none() && auth.mode.is_none() { self.remote_password()? } else { None };
                if token.is_none() && password.is_none() {
                    return Err(Failure::failed(format!(
                        "the token of the gateway that runs with {} is not there: it was started with one from its \
                         environment or command line. Pass --token, or set TIDEGATE_GATEWAY_TOKEN",
                        place.state.root().display()
                    )));
                }
                Ok(Credentials { token, password, ..none() })
            }
        }
    }

    /// For an address of this machine at which its own gateway is not known to listen: the environment, else
    /// `gateway.remote.*` where that is about no other address.
    pub(super) fn stranger(&self, endpoint: &Endpoint) -> Result<Credentials, Failure> {
        let env = of_environment(self.env);
        let remote = &self.loaded.settings.gateway.remote;
        let named = |url: &str| Endpoint::parse(url).is_ok_and(|url| url.authority() == endpoint.authority());
        if env != none() || remote.ssh_target.is_some() || !remote.url.as_deref().is_none_or(named) {
            return Ok(env);
        }
        Ok(Credentials { token: self.remote_token()?, password: self.remote_password()?, ..none() })
    }

    /// For the gateway in `gateway.remote`. Token: `gateway.remote`, environment, `gateway.auth`; password: environment,
    /// `gateway.remote`, `gateway.auth`.
    pub(super) fn remote(&self) -> Result<Credentials, Failure> {
        let found = self.beyond_tunnel(true)?;
        if [self.remote_token(), self.remote_password()].iter().any(Result::is_err) {
            return Ok(found);
        }
        match (or_else(found.token, || self.auth_token()), or_else(found.password, || self.auth_password())) {
            // One of the two is enough.
            (Ok(Some(token)), Err(_)) => Ok(Credentials { token: Some(token), ..none() }),
            (Err(_), Ok(Some(password))) => Ok(Credentials { password: Some(password), ..none() }),
            (token, password) => Ok(Credentials { token: token?, password: password?, ..none() }),
        }
    }

    /// For a gateway beyond `--ssh`: the same without this machine's own `gateway.auth`, and without `gateway.remote`
    /// where that is about another host (`ours` is false).
    pub(super) fn beyond_tunnel(&self, ours: bool) -> Result<Credentials, Failure> {
        let env = of_environment(self.env);
        if !ours {
            return Ok(env);
        }
        match (self.remote_token(), self.remote_password()) {
            // One of two that can't be had leaves the other; the environment stays out of it.
            (Err(problem), Ok(Some(password))) => {
                out::note(format!("warning: going on with gateway.remote.password alone: {problem}"));
                Ok(Credentials { password: Some(password), ..none() })
            }
            (Ok(Some(token)), Err(problem)) => {
                out::note(format!("warning: going on with gateway.remote.token alone: {problem}"));
                Ok(Credentials { token: Some(token), ..none() })
            }
            (token, password) => {
                let (token, password) = (token?, password?);
                Ok(Credentials { token: token.or(env.token), password: env.password.or(password), ..none() })
            }
        }
    }

    fn auth_token(&self) -> Found {
        self.configured("gateway.auth.token", &self.loaded.settings.gateway.auth.token)
    }

    fn auth_password(&self) -> Found {
        self.configured("gateway.auth.password", &self.loaded.settings.gateway.auth.password)
    }

    fn remote_token(&self) -> Found {
        self.configured("gateway.remote.token", &self.loaded.settings.gateway.remote.token)
    }

    fn remote_password(&self) -> Found {
        self.configured("gateway.remote.password", &self.loaded.settings.gateway.remote.password)
    }

    fn configured(&self, path: &str, value: &Option<Secret>) -> Found {
        self.known(path)?;
        Ok(value.as_ref().filter(|secret| !secret.is_blank()).map(|secret| secret.expose().to_owned()))
    }

    fn known(&self, path: &str) -> Result<(), Failure> {
        match self.loaded.missing.iter().find(|issue| issue.path == path) {
            None => Ok(()),
            Some(issue) => Err(Failure::Config(ConfigError::Refused(format!(
                "{issue} (nothing else is taken in its place: set it, or pass --token or --password)"
            )))),
        }
    }
}

fn or_else(found: Option<String>, next: impl FnOnce() -> Found) -> Found {
    match found {
        None => next(),
        found => Ok(found),
    }
}
