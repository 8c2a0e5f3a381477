//! Questions to the local Tailscale daemon: by its API socket where there is one, else by the `tailscale` program.

use super::facts::{self, ServeConfig, Status, Whois};
use reqwest::StatusCode;
use serde::de::DeserializeOwned;
use std::io::ErrorKind;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::process::Command;

/// Where tailscaled listens on Linux (`paths.DefaultTailscaledSocket`).
const SOCKET: &str = "/var/run/tailscale/tailscaled.sock";

/// How long one question may take.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Why the daemon did not answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DaemonError {
    #[error(
        "Tailscale was not found on this machine: install it, or set gateway.tailscale.mode to \"off\" (there is no \
         program `{program}` and no socket `{socket}`)"
    )]
    Missing {
        /// As it would be run.
        program: String,
        /// Where the daemon would listen.
        socket: String,
    },
    /// It does not accept yet.
    #[error("the Tailscale daemon can't be reached: {0}")]
    Unreachable(String),
    #[error("the Tailscale daemon refused: {0}")]
    Refused(String),
    #[error("the Tailscale daemon's answer can't be read")]
    Unreadable,
}

/// The daemon of this machine.
pub(super) struct Daemon {
    program: PathBuf,
    socket: PathBuf,
    /// The socket was named by the owner: then the program has to be told too.
    socket_named: bool,
}

impl Daemon {
    pub(super) fn new(program: PathBuf, socket: Option<PathBuf>) -> Self {
        let socket_named = socket.is_some();
        Self { program, socket: socket.unwrap_or_else(|| PathBuf::from(SOCKET)), socket_named }
    }

    pub(super) async fn status(&self) -> Result<Status, DaemonError> {
        self.ask("status?peers=false", &["status", "--json"]).await
    }

    pub(super) async fn serve_config(&self) -> Result<ServeConfig, DaemonError> {
        self.ask("serve-config", &["serve", "status", "--json"]).await
    }

    /// Whose machine has this address in the tailnet.
    pub(super) async fn whois(&self, address: IpAddr) -> Result<Option<Whois>, DaemonError> {
        let text = address.to_string();
        match self.ask(&format!("whois?addr={text}"), &["whois", "--json", &text]).await {
            Ok(answer) => Ok(Some(answer)),
            Err(DaemonError::Refused(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The program, with what tells it which daemon to talk to.
    pub(super) fn program(&self) -> Vec<&std::ffi::OsStr> {
        let mut words = vec![self.program.as_os_str()];
        if self.socket_named {
            words.extend(["--socket".as_ref(), self.socket.as_os_str()]);
        }
        words
    }

    async fn ask<T: DeserializeOwned + Default>(
        &self,
        resource: &str,
        args: &[&str],
    ) -> Result<T, DaemonError> {
        let text = if self.socket.exists() {
            over_socket(&self.socket, resource).await?
        } else {
            self.by_program(args).await?
        };
        facts::parse(&text).ok_or(DaemonError::Unreadable)
    }

    async fn by_program(&self, args: &[&str]) -> Result<String, DaemonError> {
        let words = self.program();
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).args(args).stdin(Stdio::null()).kill_on_drop(true);
        crate::redaction::without_secrets(&mut command);
        let output = match tokio::time::timeout(TIMEOUT, command.output()).await {
            Ok(Ok(output)) => output,
            Ok(Err(error)) if error.kind() == ErrorKind::NotFound => return Err(self.missing()),
            Ok(Err(error)) => return Err(DaemonError::Refused(error.to_string())),
            Err(_) => return Err(DaemonError::Unreachable("no answer in time".to_owned())),
        };
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let said = one_line(&format!(
            "{}\n{}",
            String::from_utf8_lossy(&output.stderr),
            String::from_utf8_lossy(&output.stdout)
        ));
        let lower = said.to_ascii_lowercase();
        let transient =
            ["failed to connect to local tailscale", "connection refused", "503 service unavailable"];
        if transient.iter().any(|sign| lower.contains(sign)) {
            Err(DaemonError::Unreachable(said))
        } else {
            Err(DaemonError::Refused(said))
        }
    }

    pub(super) fn missing(&self) -> DaemonError {
        DaemonError::Missing {
            program: self.program.display().to_string(),
            socket: self.socket.display().to_string(),
        }
    }
}

/// The local API is HTTP on a Unix socket; the host name is part of it (`apitype.LocalAPIHost`).
async fn over_socket(socket: &Path, resource: &str) -> Result<String, DaemonError> {
    let unreachable = |error: reqwest::Error| {
        let source = std::error::Error::source(&error).map_or(String::new(), |source| format!(": {source}"));
        DaemonError::Unreachable(format!("{}{source}", error.without_url()))
    };
    let client =
        reqwest::Client::builder().unix_socket(socket).timeout(TIMEOUT).build().map_err(unreachable)?;
    let url = format!("http://local-tailscaled.sock/localapi/v0/{resource}");
    let answer = client.get(url).send().await.map_err(unreachable)?;
    let status = answer.status();
    let text = answer.text().await.map_err(unreachable)?;
    match status {
        StatusCode::OK => Ok(text),
        StatusCode::SERVICE_UNAVAILABLE => Err(DaemonError::Unreachable(one_line(&text))),
        _ => Err(DaemonError::Refused(one_line(&text))),
    }
}

/// Text for a sentence: no line breaks, no control characters, not too long.
pub(super) fn one_line(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    let line: String = words.join(" ").chars().filter(|letter| !letter.is_control()).collect();
    match line.char_indices().nth(400) {
        Some((cut, _)) => format!("{}…", &line[..cut]),
        None => line,
    }
}
