//! Everything that a command is run with.

use std::time::Duration;

use tokio::sync::Mutex;

use super::{Failure, Globals};
use crate::{
    client::ssh::Keeper,
    config::{self, Environment, Flags, Loaded, Place, PlaceFlags},
};

/// Flags, environment, and the tunnel that lives as long as the command.
pub(super) struct Context {
    pub globals: Globals,
    pub env: Environment,
    pub(super) tunnel: Mutex<Option<Keeper>>,
}

impl Context {
    pub(super) fn new(globals: Globals) -> Self {
        Self::with(globals, Environment::process())
    }

    pub(super) fn with(globals: Globals, env: Environment) -> Self {
        Self { globals, env, tunnel: Mutex::new(None) }
    }

    pub(super) fn place(&self) -> Result<Place, Failure> {
        let Globals { profile, state_dir, config, .. } = self.globals.clone();
        Ok(Place::find(&PlaceFlags { profile, state_dir, config }, &self.env)?)
    }

    /// How to call this program so that it means this state and config.
    pub(super) fn program(&self, place: &Place) -> String {
        let mut program = "tidegate".to_owned();
        let Globals { state_dir, config, .. } = &self.globals;
        for (flag, value) in [("profile", &place.profile), ("state-dir", state_dir), ("config", config)] {
            if let Some(value) = value {
                program.push_str(&format!(" --{flag} {value}"));
            }
        }
        program
    }

    /// The configuration as it is for commands: no flag of a command changes it.
    pub(super) fn loaded(&self, place: &Place) -> Result<Loaded, Failure> {
        Ok(config::load(place, &self.env, &Flags::default())?)
    }

    /// Waits as long as was asked for, else as long as fits the command.
    pub(super) fn timeout(&self, usual: Duration) -> Duration {
        self.globals.timeout.map_or(usual, |span| span.or_milliseconds())
    }
}
