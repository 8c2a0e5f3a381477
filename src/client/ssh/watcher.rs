//! Ends a process group when this process is gone, even if nothing could be said any more (`kill -9`).

use std::process::Stdio;

use tokio::process::{Child, ChildStdin, Command};

use super::SshError;

/// Waits for the end of its input, which is our end, then kills.
const SCRIPT: &str = "read _; kill -s TERM -- \"-$1\" 2>/dev/null";

/// A shell that holds one end of a pipe. Dropping this ends the shell, without killing anything else.
#[derive(Debug)]
pub(super) struct Watcher {
    // The order matters: the shell must be gone before its input ends.
    shell: Child,
    _input: Option<ChildStdin>,
}

impl Watcher {
    /// Watches over the process group `group`.
    pub(super) fn over(group: u32) -> Result<Self, SshError> {
        let mut command = Command::new("/bin/sh");
        super::tunnel::without_secrets(&mut command)
            .args(["-c", SCRIPT, "tidegate-ssh-watcher", &group.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // Ctrl-C and a closing terminal are for us; the watcher has to outlive us for a moment.
            .process_group(0)
            .kill_on_drop(true);
        let mut shell = command.spawn().map_err(|source| SshError::Start { program: "/bin/sh", source })?;
        let input = shell.stdin.take();
        Ok(Self { shell, _input: input })
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        let _ = self.shell.start_kill();
    }
}
