//! The foreground claim: the `tailscale` program that holds the route for as long as it runs.

use super::daemon::{DaemonError, one_line};
use super::facts::Owner;
use super::{HTTPS, Managed};
use crate::redaction;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use std::io::ErrorKind;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, Command};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};

/// The program says this once the route stands (`cmd/tailscale/cli/serve_v2.go`).
const STANDS: &str = "Press Ctrl+C to exit.";

/// How long the program may take for it. Where HTTPS has to be enabled first it waits for a person.
const PATIENCE: Duration = Duration::from_secs(15);

/// Between two looks at a daemon that is still starting.
const POLL: Duration = Duration::from_secs(2);

/// How long the claim of a gateway that just ended may take to be released.
const RELEASE: Duration = Duration::from_secs(5);

/// Time for the program to end by itself.
const GOODBYE: Duration = Duration::from_secs(2);

/// Time for what it said last to be read.
const LAST_WORDS: Duration = Duration::from_millis(200);

/// Of what the program prints, so much is kept.
const KEPT_OUTPUT: usize = 64 * 1024;

/// Why there is no route, as a sentence that says what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ClaimError {
    #[error(transparent)]
    Daemon(#[from] DaemonError),
    /// The daemon is in a state that waiting does not change.
    #[error("Tailscale is not connected ({state}): {advice}")]
    State {
        /// `BackendState`.
        state: String,
        /// What its owner has to do.
        advice: &'static str,
    },
    #[error(
        "the Tailscale daemon was still starting after {} s ({state}): see `tailscale status`, then start the \
         gateway again", waited.as_secs()
    )]
    StillStarting {
        /// What it said last.
        state: String,
        /// For how long.
        waited: Duration,
    },
    #[error(
        "Tailscale's HTTPS port {port} is taken{}: {leads_to}. It was not changed. {}",
        if *foreground { " by a program that runs" } else { "" },
        if *foreground {
            "Stop that program (see `tailscale serve status --json`), or set gateway.tailscale.mode to \"off\""
        } else {
            "Free it with `tailscale serve --https=443 off`, or keep it and set gateway.tailscale.mode to \"off\" \
             (gateway.trustedProxies says how a route of your own is let in)"
        }
    )]
    Taken {
        /// The HTTPS port.
        port: u16,
        /// What it leads to.
        leads_to: String,
        /// Whether a running program holds it.
        foreground: bool,
    },
    #[error(
        "Tailscale does not let this user serve: run `sudo tailscale set --operator=$USER` once ({said})"
    )]
    NotPermitted {
        /// By the program.
        said: String,
    },
    #[error("`tailscale {mode}` did not set up the route: {said}")]
    Failed {
        /// `serve` or `funnel`.
        mode: &'static str,
        /// By the program.
        said: String,
    },
}

/// A route that stands. It falls when this is dropped.
pub(super) struct Claim {
    child: Child,
    output: mpsc::Receiver<Vec<u8>>,
}

/// Waits for a daemon that is still starting; `waiting` hears what for. Learns the machine's name on the way.
pub(super) async fn ready(managed: &Managed, mut waiting: impl FnMut(&str)) -> Result<(), ClaimError> {
    let begun = Instant::now();
    let poll = POLL.min(managed.patience);
    let mut announced = String::new();
    loop {
        let pending = match managed.daemon.status().await {
            Ok(status) => {
                if let Some(name) = status.name() {
                    let _ = managed.name.set(name);
                }
                match status.backend_state.as_str() {
                    starting @ ("NoState" | "Starting") => starting.to_owned(),
                    "Running" | "" => return Ok(()),
                    other => return Err(state(other)),
                }
            }
            Err(DaemonError::Unreachable(_)) => "daemon not reachable".to_owned(),
            Err(missing @ DaemonError::Missing { .. }) => return Err(missing.into()),
            // The claim itself will say what is wrong.
            Err(DaemonError::Refused(_) | DaemonError::Unreadable) => return Ok(()),
        };
        let waited = begun.elapsed();
        if waited >= managed.patience {
            return Err(ClaimError::StillStarting { state: pending, waited });
        }
        if announced != pending {
            tracing::info!(state = pending, "waiting for the local Tailscale daemon");
            waiting(&pending);
            announced = pending;
        }
        sleep(poll).await;
    }
}

fn state(state: &str) -> ClaimError {
    let advice = match state {
        "NeedsLogin" => "run `tailscale up` and log in",
        "NeedsMachineAuth" => "approve this machine in the tailnet's admin console",
        "Stopped" => "run `tailscale up`",
        "InUseOtherUser" => "another user of this machine has Tailscale in use",
        _ => "see `tailscale status`",
    };
    ClaimError::State { state: state.to_owned(), advice }
}

impl Claim {
    /// Claims the port for our listener, unless somebody else has it.
    pub(super) async fn take(managed: &Managed) -> Result<Self, ClaimError> {
        let begun = Instant::now();
        loop {
            let found = match owner(managed).await {
                Some(owner) => owner,
                None => match Self::start(managed).await {
                    Err(ClaimError::Taken { leads_to, foreground, .. }) => {
                        owner(managed).await.unwrap_or(Owner { foreground, leads_to, local_port: None })
                    }
                    settled => return settled,
                },
            };
            // A gateway that ended a moment ago: the daemon is about to notice.
            let deserted = found.foreground && found.local_port.is_some_and(nobody_listens);
            if !deserted || begun.elapsed() >= RELEASE {
                let Owner { foreground, leads_to, .. } = found;
                return Err(ClaimError::Taken { port: HTTPS, leads_to, foreground });
            }
            sleep(RELEASE / 20).await;
        }
    }

    async fn start(managed: &Managed) -> Result<Self, ClaimError> {
        let mode = managed.mode.as_str();
        let target = managed.listener.port().to_string();
        let program = managed.daemon.program();
        let words: Vec<_> =
            managed.launcher.iter().map(std::ffi::OsString::as_os_str).chain(program).collect();
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).args([mode, "--yes", "--bg=false", &target]);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // A Ctrl-C is for the gateway, which releases the claim in its own order.
        command.process_group(0).kill_on_drop(true);
        redaction::without_secrets(&mut command);
        let mut child = command.spawn().map_err(|error| match error.kind() {
            ErrorKind::NotFound => managed.daemon.missing().into(),
            _ => ClaimError::Failed { mode, said: error.to_string() },
        })?;
        let (heard, output) = mpsc::channel(16);
        if let Some(out) = child.stdout.take() {
            actix::spawn(pass_on(out, heard.clone()));
        }
        if let Some(err) = child.stderr.take() {
            actix::spawn(pass_on(err, heard));
        }
        let mut claim = Self { child, output };
        let mut said = String::new();
        match timeout(PATIENCE, claim.stands(&mut said)).await {
            Ok(true) => Ok(claim),
            Ok(false) => {
                claim.release().await;
                Err(refusal(mode, &said, managed))
            }
            Err(_) => {
                claim.release().await;
                Err(refusal(
                    mode,
                    &format!("it did not finish within {} s. {said}", PATIENCE.as_secs()),
                    managed,
                ))
            }
        }
    }

    /// Reads until the route stands; false when the program ended first.
    async fn stands(&mut self, said: &mut String) -> bool {
        while let Some(bytes) = self.heard().await {
            if said.len() < KEPT_OUTPUT {
                said.push_str(&String::from_utf8_lossy(&bytes));
            }
            if said.contains(STANDS) {
                return true;
            }
        }
        false
    }

    /// What the program says next; nothing once it has ended, even if something that it started has not.
    async fn heard(&mut self) -> Option<Vec<u8>> {
        tokio::select! {
            biased;
            bytes = self.output.recv() => bytes,
            _ = self.child.wait() => timeout(LAST_WORDS, self.output.recv()).await.ok().flatten(),
        }
    }

    /// Resolves when the program has ended by itself, with its last words.
    pub(super) async fn lost(&mut self) -> String {
        let mut last = String::new();
        while let Some(bytes) = self.heard().await {
            last = String::from_utf8_lossy(&bytes).into_owned();
        }
        let status =
            self.child.wait().await.map_or_else(|error| error.to_string(), |status| status.to_string());
        let last = one_line(&last);
        format!("the program that held the Tailscale route ended ({status}). {last}").trim_end().to_owned()
    }

    /// Ends the program, and with it the route.
    pub(super) async fn release(mut self) {
        self.signal(Signal::SIGTERM);
        // What is left after that ends with the drop.
        let _ = timeout(GOODBYE, self.child.wait()).await;
    }

    /// To the program and to whatever it started. Once it is waited for, its number may be another's.
    fn signal(&self, signal: Signal) {
        if let Some(group) = self.child.id() {
            let _ = killpg(Pid::from_raw(group.cast_signed()), signal);
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.signal(Signal::SIGKILL);
    }
}

async fn pass_on(mut from: impl AsyncRead + Unpin, to: mpsc::Sender<Vec<u8>>) {
    let mut buffer = vec![0; 4096];
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        if to.send(buffer[..count].to_vec()).await.is_err() {
            return;
        }
    }
}

/// Who has the port, as far as the daemon tells. Where it doesn't, the claim itself will.
async fn owner(managed: &Managed) -> Option<Owner> {
    managed.daemon.serve_config().await.ok()?.owner(HTTPS)
}

fn nobody_listens(port: u16) -> bool {
    std::net::TcpListener::bind(("127.0.0.1", port)).is_ok()
}

fn refusal(mode: &'static str, said: &str, managed: &Managed) -> ClaimError {
    let lower = said.to_ascii_lowercase();
    if lower.contains("listener already exists for port") {
        let leads_to = "something that the daemon does not name".to_owned();
        return ClaimError::Taken { port: HTTPS, leads_to, foreground: false };
    }
    if lower.contains("executable file not found")
        || lower.contains("no such file or directory") && said.contains("exec")
    {
        return managed.daemon.missing().into();
    }
    let forbidden = ["access denied", "permission denied", "not permitted", "must be root", "requires root"];
    let said = match one_line(said) {
        nothing if nothing.is_empty() => "it ended without a word".to_owned(),
        line => line,
    };
    if forbidden.iter().any(|sign| lower.contains(sign)) {
        return ClaimError::NotPermitted { said };
    }
    ClaimError::Failed { mode, said }
}
