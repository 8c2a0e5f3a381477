//! A real OpenSSH server on a free loopback port, with host key, user keys and config in a folder of its own, and an `ssh`
//! that reads its own config instead of this machine's.

use super::patience::eventually;
use super::ports::free_port;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use std::ffi::OsString;
use std::fs::{self, File};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use tempfile::TempDir;

/// Installs the server first if it isn't there yet.
fn installed() {
    static READY: OnceLock<()> = OnceLock::new();
    READY.get_or_init(|| {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sshd/install.sh");
        assert!(Command::new(script).status().unwrap().success(), "tests/sshd/install.sh failed");
    });
}

pub struct Sshd {
    folder: TempDir,
    pub port: u16,
    child: Option<Child>,
}

impl Sshd {
    /// A server that lets this user in with a key that its [`Sshd::path`] knows.
    pub async fn start() -> Self {
        Self::with("").await
    }

    /// The same with more lines in its config.
    pub async fn with(more: &str) -> Self {
        installed();
        let folder = tempfile::tempdir().unwrap();
        let mut sshd = Self { folder, port: free_port(), child: None };
        for key in ["host_key", "user_key", "other_key"] {
            sshd.make_key(key);
        }
        fs::copy(sshd.file("user_key.pub"), sshd.file("authorized_keys")).unwrap();
        let at = |name: &str| sshd.file(name).display().to_string();
        // The first line of its kind counts.
        let config = format!(
            "{more}\nPort {}\nListenAddress 127.0.0.1\nHostKey {}\nAuthorizedKeysFile {}\nPidFile none\nStrictModes \
             no\nUsePAM {}\nPermitRootLogin yes\nPasswordAuthentication no\nKbdInteractiveAuthentication \
             no\nAllowTcpForwarding yes\nMaxStartups 100\n",
            sshd.port,
            at("host_key"),
            at("authorized_keys"),
            if is_locked(&user()) { "yes" } else { "no" },
        );
        fs::write(sshd.file("sshd_config"), config).unwrap();
        sshd.know_host("host_key.pub");
        sshd.write_client(&at("user_key"), "");
        sshd.run().await;
        sshd
    }

    fn make_key(&self, name: &str) {
        let _ = fs::remove_file(self.file(name));
        let mut keygen = Command::new("ssh-keygen");
        keygen.args(["-q", "-t", "ed25519", "-N", "", "-C", name, "-f"]).arg(self.file(name));
        assert!(keygen.status().unwrap().success());
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// `user@127.0.0.1:port`.
    pub fn target(&self) -> String {
        format!("{}@127.0.0.1:{}", user(), self.port)
    }

    /// The client knows this key, and no other, as the server's.
    pub fn know_host(&self, public_key: &str) {
        let key = fs::read_to_string(self.file(public_key)).unwrap();
        fs::write(self.file("known_hosts"), format!("[127.0.0.1]:{} {key}", self.port)).unwrap();
    }

    /// The client knows no host at all.
    pub fn know_nobody(&self) {
        fs::write(self.file("known_hosts"), "").unwrap();
    }

    /// An `ssh` that has this key, no agent, and these lines more in its config.
    pub fn write_client(&self, key: &str, more: &str) {
        let config = format!(
            "{more}\nHost *\n  IdentityFile {key}\n  IdentitiesOnly yes\n  IdentityAgent none\n  UserKnownHostsFile \
             {}\n  GlobalKnownHostsFile /dev/null\n",
            self.file("known_hosts").display()
        );
        fs::write(self.file("ssh_config"), config).unwrap();
        fs::create_dir_all(self.file("bin")).unwrap();
        let script =
            format!("#!/bin/sh\nexec /usr/bin/ssh -F {} \"$@\"\n", self.file("ssh_config").display());
        fs::write(self.file("bin/ssh"), script).unwrap();
        fs::set_permissions(self.file("bin/ssh"), fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// A `PATH` on which that `ssh` comes first.
    pub fn path(&self) -> OsString {
        let mut path = OsString::from(self.file("bin"));
        path.push(":");
        path.push(std::env::var_os("PATH").unwrap_or_default());
        path
    }

    /// That `ssh`, run by hand.
    pub fn ssh(&self, args: &[&str]) -> Command {
        let mut command = Command::new(self.file("bin/ssh"));
        command.args(["-o", "BatchMode=yes", "-p", &self.port.to_string()]).args(args);
        command.arg(format!("{}@127.0.0.1", user()));
        super::gateway::clean_environment(&mut command, self.folder.path());
        command.stdin(Stdio::null()).process_group(0);
        command
    }

    /// The key lets its owner in with these restrictions, as `authorized_keys` writes them.
    pub fn restrict(&self, options: &str) {
        let key = fs::read_to_string(self.file("user_key.pub")).unwrap();
        fs::write(self.file("authorized_keys"), format!("{options} {key}")).unwrap();
    }

    /// Starts the server, again if it was stopped.
    pub async fn run(&mut self) {
        let log = File::options().create(true).append(true).open(self.file("log")).unwrap();
        // It starts itself anew for each connection, and wants its own full path for that.
        let mut command = Command::new("/usr/sbin/sshd");
        command.args(["-D", "-e", "-f"]).arg(self.file("sshd_config"));
        super::gateway::clean_environment(&mut command, self.folder.path());
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).process_group(0);
        self.child = Some(command.spawn().unwrap());
        let port = self.port;
        eventually("sshd to listen", async || {
            if let Some(status) = self.child.as_mut().unwrap().try_wait().unwrap() {
                panic!("sshd ended ({status}): {}", self.log());
            }
            TcpStream::connect(("127.0.0.1", port)).ok()
        })
        .await;
    }

    /// Ends the server and every connection that it serves.
    pub fn stop(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        // Each connection is served by a session of processes of its own.
        for pid in descendants(child.id()) {
            let _ = nix::sys::signal::kill(pid, Signal::SIGKILL);
        }
        let _ = killpg(Pid::from_raw(child.id().cast_signed()), Signal::SIGKILL);
        let _ = child.wait();
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.file("log")).unwrap_or_default()
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        self.stop();
        if std::thread::panicking() {
            eprintln!("--- sshd\n{}", self.log());
        }
    }
}

/// Who runs the tests.
pub fn user() -> String {
    nix::unistd::User::from_uid(nix::unistd::getuid()).unwrap().unwrap().name
}

/// An account without a usable password that is marked so: without PAM sshd lets nobody in there, whatever the key.
fn is_locked(user: &str) -> bool {
    let shadow = fs::read_to_string("/etc/shadow").unwrap_or_default();
    shadow.lines().any(|line| line.starts_with(&format!("{user}:!")))
}

/// Children of a process, and theirs.
fn descendants(pid: u32) -> Vec<Pid> {
    let mut found = Vec::new();
    let mut open = vec![pid];
    while let Some(parent) = open.pop() {
        for child in children(parent) {
            found.push(Pid::from_raw(child.cast_signed()));
            open.push(child);
        }
    }
    found
}

/// Children of a process, by the kernel's own list.
pub fn children(pid: u32) -> Vec<u32> {
    let list = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

/// Whether a process is there and no mere entry of one that ended.
pub fn is_alive(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}
