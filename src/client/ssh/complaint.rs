//! From what `ssh` writes on its standard error to an [`SshError`]. The texts are OpenSSH's own; it doesn't translate
//! them, and its exit code is 255 for all of them.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::{
    io::{AsyncBufReadExt, AsyncRead, BufReader},
    task::JoinHandle,
};

use super::{SshError, TunnelOptions};

/// No more lines than this are kept: the last ones.
const LINES: usize = 40;
/// A line is cut here.
const WIDTH: usize = 300;

/// What `ssh` has said so far.
#[derive(Debug, Clone, Default)]
pub(super) struct Complaints(Arc<Mutex<Vec<String>>>);

impl Complaints {
    /// Reads until the end; so `ssh` never waits for a reader.
    pub(super) fn listen(&self, stderr: impl AsyncRead + Unpin + Send + 'static) -> JoinHandle<()> {
        let complaints = self.clone();
        tokio::spawn(async move {
            let mut lines = BufReader::new(stderr).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                tracing::debug!(line, "ssh");
                complaints.add(&line);
            }
        })
    }

    fn add(&self, line: &str) {
        let line: String = line.trim().chars().take(WIDTH).collect();
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() == LINES {
            lines.remove(0);
        }
        if !line.is_empty() {
            lines.push(line);
        }
    }

    /// Forgets what was said.
    pub(super) fn clear(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    fn text(&self) -> String {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).join("\n")
    }

    /// Why a connection through the tunnel got nowhere, if it was the far end of the tunnel that refused it.
    pub(super) fn about_channel(&self, options: &TunnelOptions) -> Option<SshError> {
        let text = self.text();
        let host = options.target.host.clone();
        if text.contains("administratively prohibited") {
            Some(SshError::ForwardingForbidden { host, port: options.remote_port })
        } else if text.contains("open failed") {
            Some(SshError::NothingListens { host, port: options.remote_port })
        } else {
            None
        }
    }

    /// Why `ssh` ended.
    pub(super) fn about_end(&self, options: &TunnelOptions, local_port: u16) -> SshError {
        let text = self.text();
        let said = |any: &[&str]| any.iter().any(|words| text.contains(words));
        let (target, host) = (options.target.to_string(), options.target.host.clone());
        let by_hand = options.target.by_hand();
        if said(&["REMOTE HOST IDENTIFICATION HAS CHANGED", "POSSIBLE DNS SPOOFING"]) {
            return SshError::HostKeyChanged { host, known_as: options.target.known_as(), by_hand };
        }
        if said(&["Host key verification failed", "host key is known for"]) {
            return SshError::HostKeyUnknown { host, by_hand };
        }
        if let Some(path) = options.identity.clone()
            && let Some(why) = text.lines().find(|line| is_about_identity(line))
        {
            return SshError::Identity { path, why: why.to_owned() };
        }
        if said(&["Permission denied (", "Too many authentication failures", "No supported authentication"]) {
            return SshError::AuthRefused { target };
        }
        if said(&["Could not resolve hostname"]) {
            return SshError::NameNotFound { host };
        }
        if said(&["Address already in use", "cannot listen to port", "Could not request local forwarding"]) {
            return SshError::LocalPort { port: local_port };
        }
        if said(&["Connection refused"]) {
            return SshError::Refused { target };
        }
        if said(&["No route to host", "Network is unreachable", "Host is down"]) {
            return SshError::NoRoute { host };
        }
        if said(&["timed out", "Timeout, server"]) {
            return SshError::TimedOut { host };
        }
        if said(&[
            "kex_exchange_identification",
            "Connection closed by",
            "Connection reset by",
            "banner exchange",
        ]) {
            return SshError::BrokenOff { target };
        }
        let said = text.lines().next_back().unwrap_or("it gave no reason").to_owned();
        SshError::Ended { target, said }
    }
}

fn is_about_identity(line: &str) -> bool {
    line.contains("are too open") || line.starts_with("Load key") || line.contains("not accessible")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::ssh::HostKeys;

    fn options() -> TunnelOptions {
        TunnelOptions {
            target: "ann@box:2222".parse().unwrap(),
            identity: None,
            host_keys: HostKeys::Strict,
            remote_port: 18_789,
            local_port: None,
        }
    }

    #[test]
    fn what_ssh_says_becomes_a_sentence_that_helps() {
        let rows = [
            (
                "No ED25519 host key is known for [box]:2222 and you have requested strict checking.\nHost key \
              verification failed.",
                "accept it once with `ssh -p 2222 ann@box`",
            ),
            (
                "@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @\nHost key verification failed.",
                "ssh-keygen -R '[box]:2222'",
            ),
            ("ann@box: Permission denied (publickey).", "authorized_keys"),
            ("ssh: connect to host box port 2222: Connection refused", "its SSH server runs"),
            ("ssh: connect to host box port 2222: No route to host", "no route to box"),
            ("ssh: connect to host box port 2222: Connection timed out", "does not answer"),
            ("ssh: Could not resolve hostname box: Name or service not known", "check its spelling"),
            (
                "bind [127.0.0.1]:9: Address already in use\nchannel_setup_fwd_listener_tcpip: cannot listen to port: \
              9\nCould not request local forwarding.",
                "port 9 of this machine is in use",
            ),
            ("kex_exchange_identification: Connection closed by remote host", "broke off"),
            ("something new", "something new"),
            ("", "it gave no reason"),
        ];
        for (said, expected) in rows {
            let complaints = Complaints::default();
            said.lines().for_each(|line| complaints.add(line));
            let text = complaints.about_end(&options(), 9).to_string();
            assert!(text.contains(expected), "{said:?}: {text}");
            assert!(!text.contains('\n'));
        }
    }

    #[test]
    fn what_the_far_end_refuses_is_told_apart() {
        let complaints = Complaints::default();
        assert!(complaints.about_channel(&options()).is_none());
        complaints.add("channel 2: open failed: connect failed: Connection refused");
        let text = complaints.about_channel(&options()).unwrap().to_string();
        assert!(text.starts_with("nothing listens on port 18789 of box"), "{text}");
        complaints.clear();
        complaints.add("channel 2: open failed: administratively prohibited: open failed");
        assert!(!complaints.about_channel(&options()).unwrap().may_pass());
    }
}
