//! What a node host may authenticate with besides the token of its device.

use tidegate_actors::{redaction, settings::Secret};

use super::NodeHostError;
use crate::{
    client::Credentials,
    config::{self, ConfigError, Environment, Flags, Place},
    gateway::is_own_port,
};

/// The shared secrets this host may use.
#[derive(Default)]
pub(super) struct Secrets {
    /// From the command line or the environment: meant for this run.
    given: Option<Credentials>,
    /// What the config has for a remote gateway, or the secret of the gateway on this machine.
    fallback: Option<Credentials>,
    home: Option<Home>,
}

/// The gateway on this machine, whose secret goes to that one only: while it runs, at the port that it runs on.
pub(super) struct Home {
    pub(super) port: u16,
    pub(super) place: Place,
    pub(super) env: Environment,
}

impl Secrets {
    /// What the command line gives, and nothing else.
    pub(super) fn given(credentials: &Credentials) -> Self {
        Self { given: pair_of(credentials), ..Self::default() }
    }

    /// The environment's, else these.
    pub(super) fn of_config(env: &Environment, credentials: &Credentials) -> Self {
        let given = of_environment(env);
        let fallback = if given.is_none() { pair_of(credentials) } else { None };
        Self { given, fallback, home: None }
    }

    /// The environment's, else those of the gateway on this machine.
    ///
    /// # Errors
    /// If one is configured and can't be had: it is not made up for by another one.
    pub(super) fn of_home(env: &Environment, home: Home) -> Result<Self, NodeHostError> {
        let given = of_environment(env);
        if given.is_some() {
            return Ok(Self { given, ..Self::default() });
        }
        let fallback = home.secret()?;
        if fallback.is_none() {
            tracing::info!(
                home.port,
                "no gateway of this machine runs on this port: its secret is not sent there"
            );
        }
        Ok(Self { given, fallback, home: Some(home) })
    }

    /// The environment's, else none.
    pub(super) fn of_environment(env: &Environment) -> Self {
        Self { given: of_environment(env), ..Self::default() }
    }

    /// Looks again whether the gateway of this machine runs; before every attempt, for it may have been started or
    /// stopped. True if there is now something to send that there wasn't.
    pub(super) fn look_again(&mut self) -> bool {
        let Some(home) = &self.home else { return false };
        let before = self.fallback.take();
        match home.secret() {
            Ok(found) => self.fallback = found,
            Err(error) => tracing::warn!(%error, "the secret of this machine's gateway can't be had"),
        }
        self.fallback.is_some() && self.fallback != before
    }

    /// The best that there is; `stored` is the token of this device.
    pub(super) fn choose(&self, stored: Option<&str>) -> Credentials {
        if let Some(given) = &self.given {
            return given.clone();
        }
        match stored {
            Some(token) => Credentials { device_token: Some(token.to_owned()), ..Credentials::default() },
            None => self.fallback.clone().unwrap_or_default(),
        }
    }
}

impl Home {
    /// `gateway.remote` has no say here: a node is told its gateway by host and port.
    fn secret(&self) -> Result<Option<Credentials>, NodeHostError> {
        if !is_own_port(self.port, self.place.state.root()) {
            return Ok(None);
        }
        let configured = match config::load(&self.place, &self.env, &Flags::default()) {
            Ok(loaded) => {
                if let Some(issue) =
                    loaded.missing.iter().find(|issue| issue.path.starts_with("gateway.auth."))
                {
                    return Err(ConfigError::Refused(issue.to_string()).into());
                }
                let auth = &loaded.settings.gateway.auth;
                let text = |secret: &Option<Secret>| secret.as_ref().map(|secret| secret.expose().to_owned());
                pair(text(&auth.token), text(&auth.password))
            }
            Err(error) => {
                tracing::warn!(%error, "configuration not read");
                None
            }
        };
        Ok(configured.or_else(|| {
            let token = config::token::stored(&self.place.state).ok().flatten()?;
            pair(Some(token.expose().to_owned()), None)
        }))
    }
}

fn of_environment(env: &Environment) -> Option<Credentials> {
    let setting = |name: &str| env.setting(name).map(|(_, value)| value.to_owned());
    pair(setting("GATEWAY_TOKEN"), setting("GATEWAY_PASSWORD"))
}

fn pair_of(credentials: &Credentials) -> Option<Credentials> {
    pair(credentials.token.clone(), credentials.password.clone())
}

fn pair(token: Option<String>, password: Option<String>) -> Option<Credentials> {
    // Known as secrets, neither can get into the log.
    [&token, &password].into_iter().flatten().for_each(|secret| redaction::hide(secret));
    (token.is_some() || password.is_some()).then(|| Credentials { token, password, ..Credentials::default() })
}
