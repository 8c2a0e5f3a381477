//! What a gateway says once it listens: where, and what to do next.

use std::path::PathBuf;

use tidegate_actors::remote::tailscale::Exposure;
use tidegate_actors::settings::gateway::TailscaleMode;
use tidegate_actors::settings::{AuthMode, Settings, SettingsHandle};

use crate::{
    cli::{Context, out},
    config::{Place, Running},
    gateway::Serving,
};

pub(super) struct Banner {
    settings: SettingsHandle,
    config: PathBuf,
    own_token: Option<PathBuf>,
    /// How to call this program so that it finds this gateway.
    program: String,
}

impl Banner {
    pub(super) fn new(context: &Context, place: &Place, running: &Running) -> Self {
        Self {
            settings: running.settings.clone(),
            config: place.config.clone(),
            own_token: running.own_token.clone(),
            program: context.program(place),
        }
    }

    pub(super) fn print(&self, serving: &Serving) {
        let settings = self.settings.get();
        out::line(format!("Tidegate {} is running.", tidegate_actors::VERSION));
        out::line("");
        let scheme = if serving.pin.is_some() { "wss" } else { "ws" };
        for address in &serving.addresses {
            fact("listens on", format!("{scheme}://{address}"));
        }
        if let Some(pin) = &serving.pin {
            fact("fingerprint", pin.to_string());
        }
        match &serving.tailnet {
            Exposure::Active { url: Some(url) } => {
                fact(tailnet(settings.gateway.tailscale.mode), url.clone());
            }
            Exposure::Active { url: None } => {
                fact(tailnet(settings.gateway.tailscale.mode), "yes; the daemon says no name".to_owned());
            }
            Exposure::Waiting { reason } => {
                fact("Tailscale", format!("waiting for the local daemon ({reason})"));
            }
            Exposure::Off | Exposure::Starting | Exposure::Down { .. } => {}
        }
        fact("opens with", self.key(&settings));
        fact("state", self.settings.paths().root().display().to_string());
        fact("config", self.config.display().to_string());
        out::line("");
        for (what, command) in self.next_steps(&settings) {
            out::line(format!("  {what:<22} {command}"));
        }
        out::line("");
    }

    fn key(&self, settings: &Settings) -> String {
        match (&self.own_token, settings.gateway.auth.mode()) {
            (Some(path), _) => format!("the token in {}", path.display()),
            (None, AuthMode::Token) => "the token that was configured".to_owned(),
            (None, AuthMode::Password) => "the password that was configured".to_owned(),
            (None, AuthMode::TrustedProxy) => "the user that the trusted proxy names".to_owned(),
            (None, AuthMode::None) => "nothing: anyone on this machine may come in".to_owned(),
        }
    }

    fn next_steps(&self, settings: &Settings) -> Vec<(&'static str, String)> {
        let program = &self.program;
        let mut steps = vec![
            ("ask the agent", format!("{program} agent --message \"/help\"")),
            ("add this machine", format!("{program} node run")),
            ("let a node in", format!("{program} nodes pending, then {program} nodes approve ID")),
        ];
        if settings.agents.defaults.model.is_none() && settings.models.providers.is_empty() {
            steps.push(("add a model", "set ANTHROPIC_API_KEY or OPENAI_API_KEY and start again".to_owned()));
            steps.push(("", "(a local Ollama is found by itself)".to_owned()));
        }
        if settings.channels.telegram.as_ref().is_none_or(|telegram| telegram.resolved().is_empty()) {
            let command = format!("{program} config set channels.telegram.botToken '\"123456:ABC...\"'");
            steps.push(("add a Telegram bot", command));
        }
        steps.push(("see how it does", format!("{program} status --deep")));
        steps.push(("stop it", "Ctrl-C".to_owned()));
        steps
    }
}

fn tailnet(mode: TailscaleMode) -> &'static str {
    match mode {
        TailscaleMode::Funnel => "on the internet",
        TailscaleMode::Serve | TailscaleMode::Off => "in the tailnet",
    }
}

fn fact(name: &str, value: String) {
    out::line(format!("  {name:<22} {value}"));
}
