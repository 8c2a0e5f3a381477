//! DNS-SD as others do it: Python's `zeroconf` on the LAN, and a DNS server on `dnspython`.

use super::gateway::clean_environment;
use super::lan::Host;
use super::patience::within;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

/// The service type of gateways on a LAN.
pub const KIND: &str = "_openclaw-gw._tcp.local.";

/// One of the scripts beside this file, running on a host. It is killed when this is dropped.
pub struct Script {
    name: &'static str,
    _child: Child,
    _home: TempDir,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Script {
    /// Lists what is announced on the host's LAN.
    pub async fn browse(host: &Host) -> Self {
        Self::start(host, "browse.py", &[KIND], "browsing").await
    }

    /// Announces `service` on the host's LAN.
    pub async fn announce(host: &Host, service: &Value) -> Self {
        Self::start(host, "announce.py", &[&service.to_string()], "announced").await
    }

    /// Serves a zone on the host.
    pub async fn serve(host: &Host, zone: &Path, port: u16) -> Self {
        let (address, port) = (host.address().to_string(), port.to_string());
        Self::start(host, "serve.py", &[zone.to_str().unwrap(), &address, &port], "serving").await
    }

    async fn start(host: &Host, name: &'static str, args: &[&str], ready: &str) -> Self {
        let home = tempfile::tempdir().unwrap();
        let mut command = host.command("/usr/bin/python3");
        let folder: PathBuf = [env!("CARGO_MANIFEST_DIR"), "tests/support/dns_sd"].iter().collect();
        command.arg(folder.join(name)).args(args);
        clean_environment(&mut command, home.path());
        let mut command = Command::from(command);
        // They wait for the end of their input: it never comes, and with it goes the process.
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut script = Self { name, _child: child, _home: home, lines };
        script.until(ready, |told| told["event"] == ready).await;
        script
    }

    /// Reads on until something is told that fits.
    pub async fn until(&mut self, what: &str, fits: impl Fn(&Value) -> bool) -> Value {
        let mut last = Value::Null;
        let waiting = format!("{} to tell: {what}", self.name);
        let told = within(&waiting, async {
            while let Some(line) = self.lines.next_line().await.unwrap() {
                last = serde_json::from_str(&line).unwrap();
                if fits(&last) {
                    return Some(last.clone());
                }
            }
            None
        });
        match told.await {
            Some(told) => told,
            None => panic!("{} ended without telling: {what}; its last word was {last}", self.name),
        }
    }
}
