//! A LAN of this machine's own: hosts that are network namespaces, joined by a bridge in one more namespace.
//!
//! A process runs on a host through [`Host::command`]; a socket is opened there through [`Host::connect`] and stays
//! there whatever thread uses it. All goes when the [`Lan`] is dropped. Tests that use it are named `lan::…`, so that
//! a machine that can't make namespaces can leave them out by name and say so.

use nix::sched::{CloneFlags, setns};
use std::fs::File;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// In front of the names of all namespaces that tests make; the process id of the test run follows.
const PREFIX: &str = "tidegate-test";

/// The hosts of one test and the switch between them.
pub struct Lan {
    switch: String,
    hosts: Vec<Host>,
}

/// One machine: its own interfaces, its own loopback, the files of the real one.
#[derive(Clone, Debug)]
pub struct Host {
    namespace: String,
    switch: String,
    port: String,
    address: Ipv4Addr,
}

impl Lan {
    /// Hosts of these names in 192.168.77.0/24, the first at .1.
    pub fn new<const N: usize>(names: [&str; N]) -> (Self, [Host; N]) {
        Self::in_network(Ipv4Addr::new(192, 168, 77, 0), names)
    }

    /// The same in another /24.
    pub fn in_network<const N: usize>(network: Ipv4Addr, names: [&str; N]) -> (Self, [Host; N]) {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        remove_stale();
        let stem = format!("{PREFIX}-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let mut lan = Self { switch: format!("{stem}-switch"), hosts: Vec::new() };
        ip(&["netns", "add", &lan.switch]);
        // Without a querier a bridge that snoops would forget who listens to multicast.
        ip(&["-n", &lan.switch, "link", "add", "br0", "type", "bridge", "mcast_snooping", "0"]);
        ip(&["-n", &lan.switch, "link", "set", "br0", "up"]);
        for (name, number) in names.into_iter().zip(1..) {
            let [a, b, c, _] = network.octets();
            let host = Host {
                namespace: format!("{stem}-{name}"),
                switch: lan.switch.clone(),
                port: format!("p{number}"),
                address: Ipv4Addr::new(a, b, c, number),
            };
            ip(&["netns", "add", &host.namespace]);
            lan.hosts.push(host.clone());
            host.plug_in();
        }
        let hosts = lan.hosts.clone();
        (lan, hosts.try_into().unwrap())
    }
}

impl Drop for Lan {
    fn drop(&mut self) {
        let namespaces = self.hosts.iter().map(|host| &host.namespace).chain([&self.switch]);
        for namespace in namespaces {
            let _ = Command::new("ip").args(["netns", "del", namespace]).status();
            let _ = std::fs::remove_dir_all(Path::new("/etc/netns").join(namespace));
        }
    }
}

impl Host {
    fn plug_in(&self) {
        let (own, switch) = (self.namespace.as_str(), self.switch.as_str());
        let wire =
            ["-n", switch, "link", "add", &self.port, "type", "veth", "peer", "name", "eth0", "netns", own];
        ip(&wire);
        ip(&["-n", switch, "link", "set", &self.port, "master", "br0", "up"]);
        ip(&["-n", own, "link", "set", "lo", "up"]);
        self.add_address(self.address);
        ip(&["-n", own, "link", "set", "eth0", "up"]);
    }

    /// The address on the LAN that it started with.
    pub fn address(&self) -> Ipv4Addr {
        self.address
    }

    pub fn add_address(&self, address: Ipv4Addr) {
        ip(&["-n", &self.namespace, "addr", "add", &format!("{address}/24"), "brd", "+", "dev", "eth0"]);
    }

    pub fn drop_address(&self, address: Ipv4Addr) {
        ip(&["-n", &self.namespace, "addr", "del", &format!("{address}/24"), "dev", "eth0"]);
    }

    /// Pulls the plug: packets vanish, as they do when a cable is cut or a laptop leaves.
    pub fn cut(&self) {
        ip(&["-n", &self.switch, "link", "set", &self.port, "nomaster"]);
    }

    pub fn mend(&self) {
        ip(&["-n", &self.switch, "link", "set", &self.port, "master", "br0"]);
    }

    /// Ends every connection over the LAN with this port here and tells the other side nothing: what the kernel does by itself when
    /// nothing has come through for minutes.
    pub fn give_up_on(&self, port: u16) {
        let (lan, port) = (format!("{}/24", self.address), format!(":{port}"));
        for side in ["sport", "dport"] {
            let mut command = self.command("ss");
            let _ = command.args(["-K", "state", "established", "dst", &lan, side, "=", &port]).output();
        }
    }

    /// Gives the other hosts names here, as a hosts file does.
    pub fn knows(&self, names: &[(&str, Ipv4Addr)]) {
        let folder = Path::new("/etc/netns").join(&self.namespace);
        std::fs::create_dir_all(&folder).unwrap();
        let lines = names.iter().map(|(name, address)| format!("{address} {name}\n")).collect::<String>();
        // Written in place: what runs here has this very file in the place of /etc/hosts.
        std::fs::write(folder.join("hosts"), format!("127.0.0.1 localhost\n{lines}")).unwrap();
    }

    /// A command that runs here. It becomes the program itself: its process id and group are the program's.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.namespace]).arg(program);
        command
    }

    /// Opens a connection from here.
    pub fn connect(&self, to: SocketAddr) -> io::Result<TcpStream> {
        let stream = self.inside(|| TcpStream::connect_timeout(&to, Duration::from_secs(20)))?;
        stream.set_nonblocking(true)?;
        Ok(stream)
    }

    /// Listens here.
    pub fn listen(&self, at: SocketAddr) -> io::Result<TcpListener> {
        let listener = self.inside(|| TcpListener::bind(at))?;
        listener.set_nonblocking(true)?;
        Ok(listener)
    }

    /// Runs `work` on a thread of its own that is here.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let path = Path::new("/run/netns").join(&self.namespace);
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                setns(File::open(path).unwrap(), CloneFlags::CLONE_NEWNET).unwrap();
                work()
            });
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    pub fn socket_address(&self, port: u16) -> SocketAddr {
        SocketAddr::new(IpAddr::V4(self.address), port)
    }
}

fn ip(args: &[&str]) {
    let output = Command::new("ip").args(args).output().expect("iproute2 is installed");
    assert!(output.status.success(), "ip {args:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Removes what a test run that was killed could not.
fn remove_stale() {
    let Ok(entries) = std::fs::read_dir("/run/netns") else { return };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let owner = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').nth(1)).unwrap_or_default();
        if owner.parse::<u32>().is_ok_and(|pid| !Path::new(&format!("/proc/{pid}")).exists()) {
            let _ = Command::new("ip").args(["netns", "del", &name]).output();
        }
    }
}
