//! The system's `ssh` as a child: what it must not take from its owner's config, and its end.

use crate::redaction;
use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use std::io;
use std::process::{ExitStatus, Stdio};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};

/// Keeps a run to itself: it asks nobody, shares no connection, which would outlive it, and runs nothing but what it
/// was started for. What it says can be read.
pub const ALONE: [&str; 6] = [
    "BatchMode=yes",
    "ControlMaster=no",
    "ControlPath=none",
    "ControlPersist=no",
    "RemoteCommand=none",
    "LogLevel=INFO",
];

/// Believes the host keys in `known_hosts` and no others.
pub const STRICT: [&str; 4] = [
    "StrictHostKeyChecking=yes",
    "UpdateHostKeys=no",
    "VerifyHostKeyDNS=no",
    "NoHostAuthenticationForLocalhost=no",
];

/// Waits for the end of its input, which is our end, then kills.
const WATCH: &str = "read _; kill -s TERM -- \"-$1\" 2>/dev/null";

/// A child that leads a process group of its own, which also holds what it starts to get through, such as a
/// `ProxyCommand`. The group ends when this is dropped, and when this process is gone.
#[derive(Debug)]
pub struct Leader {
    child: Child,
    _watcher: Watcher,
}

impl Leader {
    pub fn start(command: &mut Command) -> io::Result<Self> {
        // Ctrl-C is for us: we end it in our own time.
        let child = command.process_group(0).kill_on_drop(true).spawn()?;
        let group = child.id().ok_or_else(|| io::Error::other("it ended at once"))?;
        Ok(Self { _watcher: Watcher::over(group)?, child })
    }

    pub fn stdout(&mut self) -> Option<ChildStdout> {
        self.child.stdout.take()
    }

    pub fn stderr(&mut self) -> Option<ChildStderr> {
        self.child.stderr.take()
    }

    pub fn is_up(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    pub async fn wait(&mut self) -> io::Result<ExitStatus> {
        self.child.wait().await
    }

    /// Once the child is waited for, its number may be another's.
    fn signal(&mut self) {
        if self.is_up()
            && let Some(group) = self.child.id()
        {
            let _ = killpg(Pid::from_raw(group.cast_signed()), Signal::SIGTERM);
        }
    }
}

impl Drop for Leader {
    fn drop(&mut self) {
        self.signal();
    }
}

/// Ends a process group when this process is gone, even if nothing could be said any more (`kill -9`): a shell that
/// holds one end of a pipe. Dropping this ends the shell, without killing anything else.
#[derive(Debug)]
struct Watcher {
    // The order matters: the shell must be gone before its input ends.
    shell: Child,
    _input: Option<ChildStdin>,
}

impl Watcher {
    fn over(group: u32) -> io::Result<Self> {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", WATCH, "tidegate-ssh-watcher", &group.to_string()]);
        redaction::without_secrets(&mut command);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        // Ctrl-C and a closing terminal are for us; the watcher has to outlive us for a moment.
        let mut shell = command.process_group(0).kill_on_drop(true).spawn()?;
        let input = shell.stdin.take();
        Ok(Self { shell, _input: input })
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        let _ = self.shell.start_kill();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncBufReadExt, BufReader};

    #[tokio::test]
    async fn what_the_child_started_ends_with_it() {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "sleep 600 & echo $!; wait"]).stdout(Stdio::piped());
        let mut leader = Leader::start(&mut command).unwrap();
        let mut lines = BufReader::new(leader.stdout().unwrap()).lines();
        let sleeper = lines.next_line().await.unwrap().unwrap();
        drop(leader);
        for _ in 0..500 {
            let stat = std::fs::read_to_string(format!("/proc/{sleeper}/stat")).unwrap_or_default();
            if stat.is_empty() || stat.contains(") Z ") {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        panic!("{sleeper} is still there");
    }
}
