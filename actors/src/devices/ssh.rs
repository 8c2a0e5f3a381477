//! Asking a machine over SSH which node identities it has.
//!
//! Nothing but keys opens the door, on both sides: the machine's host key must be known already, nothing is asked of
//! a person, nothing is forwarded. The address is an argument of its own, never part of a shell's line.

use super::proof::{Identity, ProbeError, Target};
use crate::ssh::{ALONE, Leader, STRICT};
use futures_util::future::LocalBoxFuture;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::Command;

/// What the machine is asked: a login shell, so that the programs are found where its owner installed them. It may
/// have a node of ours, an official one, or both.
const QUESTION: &str =
    "sh -lc 'tidegate node identity --json 2>/dev/null; openclaw node identity --json 2>/dev/null; true'";

/// Of each of ssh's outputs.
const MAX_OUTPUT: u64 = 64 * 1024;

/// What ssh may know of this process: where things are, and the agent that holds the owner's keys.
const ENVIRONMENT: [&str; 5] = ["PATH", "HOME", "USER", "LOGNAME", "SSH_AUTH_SOCK"];

/// Asks `target`, on a thread of its own: starting a process must hold up no connection.
pub(super) fn probe(target: Target) -> LocalBoxFuture<'static, Result<Vec<Identity>, ProbeError>> {
    Box::pin(async move {
        let ask = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.map_err(|error| ProbeError::NoSsh(error.to_string()))?.block_on(ask(&target))
        };
        let asked = tokio::task::spawn_blocking(ask).await;
        asked.unwrap_or_else(|error| Err(ProbeError::NoSsh(error.to_string())))
    })
}

fn arguments(target: &Target) -> Vec<String> {
    let options = [
        "ConnectTimeout=5",
        "NumberOfPasswordPrompts=0",
        "PreferredAuthentications=publickey",
        "ForwardAgent=no",
        "ForwardX11=no",
        "ClearAllForwardings=yes",
        "PermitLocalCommand=no",
        "RequestTTY=no",
    ];
    let mut arguments: Vec<String> = vec!["-T".into(), "-a".into(), "-x".into()];
    let options = ALONE.into_iter().chain(STRICT).chain(options);
    arguments.extend(options.flat_map(|option| ["-o".to_owned(), option.to_owned()]));
    if let Some(file) = &target.proof.identity {
        arguments.extend(["-i".into(), file.clone(), "-o".into(), "IdentitiesOnly=yes".into()]);
    }
    if let Some(user) = &target.proof.user {
        arguments.extend(["-l".into(), user.clone()]);
    }
    arguments.extend(["--".into(), target.host.to_string(), QUESTION.into()]);
    arguments
}

async fn ask(target: &Target) -> Result<Vec<Identity>, ProbeError> {
    let mut ssh = Command::new("ssh");
    ssh.args(arguments(target)).env_clear().env("LC_ALL", "C");
    ssh.envs(ENVIRONMENT.iter().filter_map(|name| Some((name, std::env::var_os(name)?))));
    ssh.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut ssh = Leader::start(&mut ssh).map_err(|error| ProbeError::NoSsh(error.to_string()))?;
    let (stdout, stderr) = (ssh.stdout(), ssh.stderr());
    let work = async { tokio::join!(text(stdout), text(stderr), ssh.wait()) };
    let ended = within(target.proof.timeout, work).await;
    let (stdout, stderr, status) = ended.ok_or(ProbeError::TimedOut)?;
    let identities = identities(&stdout);
    if !identities.is_empty() {
        return Ok(identities);
    }
    match status {
        Ok(status) if status.success() => Err(ProbeError::NoIdentity),
        _ => Err(ProbeError::Failed(last_words(&stderr))),
    }
}

async fn within<T>(time: Duration, work: impl Future<Output = T>) -> Option<T> {
    tokio::time::timeout(time, work).await.ok()
}

/// All that is read of an output; the rest of it is let go.
async fn text(output: Option<impl AsyncRead + Unpin>) -> String {
    let mut bytes = Vec::new();
    if let Some(output) = output {
        let mut output = output.take(MAX_OUTPUT);
        let _ = output.read_to_end(&mut bytes).await;
        let _ = tokio::io::copy(&mut output.into_inner(), &mut tokio::io::sink()).await;
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A login shell may greet before it answers: every line that is an identity counts.
fn identities(stdout: &str) -> Vec<Identity> {
    let objects = stdout.lines().map(str::trim).filter(|line| line.starts_with('{'));
    objects.filter_map(|line| serde_json::from_str(line).ok()).collect()
}

/// ssh says why it failed last.
fn last_words(stderr: &str) -> String {
    let mut lines = stderr.lines().map(str::trim).filter(|line| !line.is_empty());
    lines.next_back().map_or_else(|| "it said nothing".to_owned(), |line| line.chars().take(200).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::AuthPolicy;
    use crate::settings::Settings;

    fn target(ssh_verify: serde_json::Value) -> Target {
        let settings = serde_json::json!({"gateway": {"nodes": {"pairing": {"sshVerify": ssh_verify}}}});
        let settings: Settings = serde_json::from_value(settings).unwrap();
        let proof = AuthPolicy::from_settings(&settings).ssh_proof.unwrap();
        Target { host: "192.168.1.7".parse().unwrap(), proof }
    }

    #[test]
    fn ssh_asks_nobody_trusts_no_new_host_and_forwards_nothing() {
        let line = arguments(&target(serde_json::json!({"user": "me", "identity": "/keys/probe"})));
        for option in [
            "BatchMode=yes",
            "StrictHostKeyChecking=yes",
            "RemoteCommand=none",
            "ForwardAgent=no",
            "ClearAllForwardings=yes",
        ] {
            assert!(line.windows(2).any(|pair| pair == ["-o", option]), "{option}: {line:?}");
        }
        assert!(
            line.windows(2).any(|pair| pair == ["-l", "me"])
                && line.windows(2).any(|pair| pair == ["-i", "/keys/probe"])
        );
        assert_eq!(line[line.len() - 3..line.len() - 1], ["--", "192.168.1.7"]);
        let plain = arguments(&target(serde_json::json!(true)));
        assert!(!plain.iter().any(|word| word == "-l" || word == "-i"), "{plain:?}");
    }

    #[test]
    fn an_identity_is_found_behind_a_greeting() {
        let found = identities("Welcome!\n{\"motd\":1}\n {\"deviceId\":\"d\",\"publicKey\":\"k\"}\n");
        assert_eq!(found, [Identity { device_id: "d".into(), public_key: "k".into() }]);
        assert_eq!(
            last_words("debug\nPermission denied (publickey).\r\n\n"),
            "Permission denied (publickey)."
        );
    }
}
