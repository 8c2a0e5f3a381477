//! What the fake daemon does with a request for the https port: rewrites its head and passes it on.

use super::certificate::Certificate;
use super::daemon::Daemon;
use super::{lock, on_a_thread};
use crate::support::lan::Host;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio_rustls::TlsAcceptor;

/// What the client may not say about itself.
const TAKEN_OUT: [&str; 11] = [
    "forwarded",
    "x-forwarded",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "tailscale-user-login",
    "tailscale-user-name",
    "tailscale-user-profile-pic",
    "tailscale-funnel-request",
    "tailscale-headers-info",
    "tailscale-app-capabilities",
];

/// A port that stands for https on the MagicDNS name, dialled from `from`.
pub(super) fn listen(from: IpAddr, public: bool, daemon: Arc<Mutex<Daemon>>) -> (u16, oneshot::Sender<()>) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    listener.set_nonblocking(true).unwrap();
    let stop = on_a_thread(async move {
        let listener = TcpListener::from_std(listener).unwrap();
        while let Ok((stream, _)) = listener.accept().await {
            let way = Way { from, public, machine: None, daemon: Arc::clone(&daemon) };
            tokio::spawn(async move { way.pass_on(stream).await });
        }
    });
    (port, stop)
}

/// The https port itself, on this machine's address in the tailnet, for whoever dials it there.
pub(super) fn listen_on(
    machine: &Host,
    certificate: &Certificate,
    daemon: Arc<Mutex<Daemon>>,
) -> oneshot::Sender<()> {
    let listener = machine.listen(machine.socket_address(443)).unwrap();
    let (machine, tls) = (machine.clone(), TlsAcceptor::from(certificate.server()));
    on_a_thread(async move {
        let listener = TcpListener::from_std(listener).unwrap();
        while let Ok((stream, from)) = listener.accept().await {
            let (machine, daemon) = (Some(machine.clone()), Arc::clone(&daemon));
            let (way, tls) = (Way { from: from.ip(), public: false, machine, daemon }, tls.clone());
            tokio::spawn(async move { way.pass_on(tls.accept(stream).await.ok()?).await });
        }
    })
}

/// How a connection came to the https port.
struct Way {
    from: IpAddr,
    public: bool,
    /// The machine of the daemon where it is not this one.
    machine: Option<Host>,
    daemon: Arc<Mutex<Daemon>>,
}

impl Way {
    /// `None` when nothing is served there: the connection just ends.
    async fn pass_on(&self, mut client: impl AsyncRead + AsyncWrite + Unpin) -> Option<()> {
        let mut bytes = Vec::new();
        let end = loop {
            if let Some(at) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
                break at;
            }
            (client.read_buf(&mut bytes).await.ok()? > 0).then_some(())?;
        };
        let head = String::from_utf8(bytes[..end].to_vec()).ok()?;
        let (target, head) = {
            let daemon = lock(&self.daemon);
            let handler = daemon.handler(443).filter(|handler| handler.funnel || !self.public)?;
            (handler.proxy, rewritten(&head, self.from, self.public, &daemon))
        };
        let target = target.strip_prefix("http://")?.trim_end_matches('/').parse().ok()?;
        let mut server = self.dial(target).await.ok()?;
        server.write_all(head.as_bytes()).await.ok()?;
        server.write_all(&bytes[end + 4..]).await.ok()?;
        copy_bidirectional(&mut client, &mut server).await.ok()?;
        Some(())
    }

    async fn dial(&self, target: SocketAddr) -> io::Result<TcpStream> {
        match self.machine.clone() {
            None => TcpStream::connect(target).await,
            Some(machine) => {
                let stream = tokio::task::spawn_blocking(move || machine.connect(target)).await?;
                TcpStream::from_std(stream?)
            }
        }
    }
}

fn rewritten(head: &str, from: IpAddr, public: bool, daemon: &Daemon) -> String {
    let mut lines = head.split("\r\n");
    let mut out = format!("{}\r\n", lines.next().unwrap_or_default());
    let mut host = "";
    for line in lines {
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        let name = name.to_ascii_lowercase();
        if name == "host" {
            host = value.trim();
        }
        if !TAKEN_OUT.contains(&name.as_str()) {
            out.push_str(&format!("{line}\r\n"));
        }
    }
    let mut add = |name: &str, value: &str| out.push_str(&format!("{name}: {value}\r\n"));
    add("X-Forwarded-Host", host);
    add("X-Forwarded-Proto", "https");
    add("X-Forwarded-For", &from.to_string());
    if public {
        add("Tailscale-Funnel-Request", "?1");
    } else if let Some(person) = daemon.people.get(&from).filter(|person| person.tags.is_empty()) {
        add("Tailscale-User-Login", &person.login);
        add("Tailscale-User-Name", &person.name);
        add("Tailscale-User-Profile-Pic", &person.picture());
        add("Tailscale-Headers-Info", "https://tailscale.com/s/serve-headers");
    }
    out.push_str("\r\n");
    out
}
