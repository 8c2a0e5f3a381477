//! One `ssh -N -L`: from its start until it ends.

use std::{io, net::Ipv4Addr, process::Stdio, time::Duration};

use tidegate_actors::ssh::{ALONE, Leader, STRICT};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    process::{ChildStdout, Command},
    task::JoinHandle,
    time::timeout,
};

use super::{HostKeys, SshError, TunnelOptions, complaint::Complaints};

/// From the start of `ssh` until the tunnel stands.
const UP_WITHIN: Duration = Duration::from_secs(40);
/// How long a listener on the far side may take to show itself.
const REACH_WITHIN: Duration = Duration::from_secs(10);
/// How long `ssh` may take to say why a connection failed.
const REASON_WITHIN: Duration = Duration::from_secs(1);
/// Between the choice of a free port and its use, somebody else may take it.
const PORT_TRIES: usize = 3;
/// What `ssh` prints, through its `LocalCommand`, when it is in and its forwards listen.
const UP: &str = "tidegate-tunnel-up";
/// The program's secrets are none of ssh's business, nor of a `ProxyCommand`.
const SECRETS: [&str; 4] = [
    "TIDEGATE_GATEWAY_TOKEN",
    "TIDEGATE_GATEWAY_PASSWORD",
    "OPENCLAW_GATEWAY_TOKEN",
    "OPENCLAW_GATEWAY_PASSWORD",
];

/// A tunnel that stands, or stood. It ends when this is dropped, and when this process is gone.
#[derive(Debug)]
pub struct Tunnel {
    options: TunnelOptions,
    local_port: u16,
    ssh: Leader,
    complaints: Complaints,
    listening: JoinHandle<()>,
}

impl Tunnel {
    /// Starts `ssh`, and waits until it is let in and listens.
    pub async fn open(options: &TunnelOptions) -> Result<Self, SshError> {
        if let Some(path) = &options.identity
            && let Err(error) = tokio::fs::metadata(path).await
        {
            return Err(SshError::Identity { path: path.clone(), why: error.to_string() });
        }
        let mut tries = 1;
        loop {
            let port = match options.local_port {
                Some(port) => port,
                None => free_port().await?,
            };
            let mut tunnel = Self::start(options, port)?;
            match tunnel.stands().await {
                Err(SshError::LocalPort { .. }) if options.local_port.is_none() && tries < PORT_TRIES => {
                    tries += 1;
                }
                Err(error) => return Err(error),
                Ok(()) => return Ok(tunnel),
            }
        }
    }

    fn start(options: &TunnelOptions, local_port: u16) -> Result<Self, SshError> {
        let mut ssh =
            Leader::start(&mut command(options, local_port)).map_err(|source| match source.kind() {
                io::ErrorKind::NotFound => SshError::Missing,
                _ => SshError::Start { program: "ssh", source },
            })?;
        let complaints = Complaints::default();
        let Some(stderr) = ssh.stderr() else { return Err(complaints.about_end(options, local_port)) };
        let listening = complaints.listen(stderr);
        let options = options.clone();
        Ok(Self { options, local_port, ssh, complaints, listening })
    }

    /// Waits until the tunnel stands.
    async fn stands(&mut self) -> Result<(), SshError> {
        let stdout = self.ssh.stdout();
        match timeout(UP_WITHIN, says_up(stdout)).await {
            Ok(true) => Ok(()),
            Ok(false) => Err(self.ended().await),
            Err(_) => Err(SshError::TimedOut { host: self.options.target.host.clone() }),
        }
    }

    /// Where the tunnel starts on this machine.
    pub fn local_port(&self) -> u16 {
        self.local_port
    }

    /// Whether something listens at the far end. `Err` may also mean that the tunnel has ended.
    pub async fn reaches(&mut self) -> Result<(), SshError> {
        self.complaints.clear();
        let answered = timeout(REACH_WITHIN, knock(self.local_port, self.options.remote_port)).await;
        if matches!(answered, Ok(Ok(true)) | Err(_)) {
            return Ok(());
        }
        // Closed without a word: `ssh` knows why, and may just be saying it.
        let reason = async {
            loop {
                if let Some(error) = self.complaints.about_channel(&self.options) {
                    return error;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        match timeout(REASON_WITHIN, reason).await {
            Ok(error) => Err(error),
            Err(_) if self.is_up() => Ok(()),
            Err(_) => Err(self.ended().await),
        }
    }

    /// Whether `ssh` still runs.
    pub fn is_up(&mut self) -> bool {
        self.ssh.is_up()
    }

    /// Waits until `ssh` ends, and says why.
    pub async fn ended(&mut self) -> SshError {
        let _ = self.ssh.wait().await;
        let _ = timeout(REASON_WITHIN, &mut self.listening).await;
        self.complaints.about_end(&self.options, self.local_port)
    }
}

/// `ssh` as a child that asks nothing, shares nothing and ends when its forward can't be had.
fn command(options: &TunnelOptions, local_port: u16) -> Command {
    let forward = format!("127.0.0.1:{local_port}:127.0.0.1:{}", options.remote_port);
    let local = format!("LocalCommand=echo {UP}");
    let mut settings = ALONE.to_vec();
    settings.extend([
        "ExitOnForwardFailure=yes",
        "ConnectTimeout=15",
        "ServerAliveInterval=15",
        "ServerAliveCountMax=3",
        "PermitLocalCommand=yes",
        &local,
    ]);
    if options.host_keys == HostKeys::Strict {
        settings.extend(STRICT);
    }
    let mut command = Command::new("ssh");
    without_secrets(&mut command).args(["-N", "-T", "-a", "-x", "-L", &forward]);
    for setting in settings {
        command.args(["-o", setting]);
    }
    if let Some(identity) = &options.identity {
        command.args(["-o", "IdentitiesOnly=yes", "-i"]).arg(identity);
    }
    if let Some(port) = options.target.port {
        command.args(["-p", &port.to_string()]);
    }
    if let Some(user) = &options.target.user {
        command.args(["-l", user]);
    }
    command.args(["--", &options.target.host]);
    // `LocalCommand` runs in it; some users have none that works.
    command.env("SHELL", "/bin/sh");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Takes our secrets out of a child's environment.
fn without_secrets(command: &mut Command) -> &mut Command {
    SECRETS.iter().fold(command, |command, name| command.env_remove(name))
}

async fn says_up(stdout: Option<ChildStdout>) -> bool {
    let Some(stdout) = stdout else { return false };
    let mut lines = BufReader::new(stdout).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        if line.trim() == UP {
            return true;
        }
    }
    false
}

async fn free_port() -> Result<u16, SshError> {
    let found = async { TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?.local_addr() };
    Ok(found.await.map_err(|source| SshError::Start { program: "ssh", source })?.port())
}

/// Asks for the health page through the tunnel. True when anything at all comes back.
async fn knock(local_port: u16, remote_port: u16) -> io::Result<bool> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, local_port)).await?;
    let request =
        format!("GET /healthz HTTP/1.1\r\nHost: 127.0.0.1:{remote_port}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    Ok(stream.read(&mut [0; 16]).await? > 0)
}
