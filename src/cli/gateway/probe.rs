//! `gateway probe`: every gateway that commands could talk to, and what each lets us do.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::{Map, Value, json};

use crate::{
    cli::{
        Context, Failure, out,
        target::{self, Source, Target},
    },
    client::{Client, DeviceIdentity},
};

/// Calls that only read; together they are what `status` and the like need.
const READS: [&str; 4] = ["health", "status", "system-presence", "config.get"];

/// Tries each target in turn. Fails only when none can be reached.
pub(super) async fn probe(context: &Context) -> Result<(), Failure> {
    let started = Instant::now();
    let mut probes = Vec::new();
    for (source, target) in target::all(context) {
        probes.push(Probe::of(context, source, target).await);
    }
    let answer = summary(&probes, started.elapsed());
    if context.globals.json {
        out::json(&answer);
    } else {
        probes.iter().for_each(Probe::print);
    }
    if answer["ok"] == true {
        return Ok(());
    }
    let first = probes.into_iter().find_map(|probe| probe.outcome.err());
    let failure = first.unwrap_or_else(|| Failure::Unreachable("there is no gateway to probe".to_owned()));
    if context.globals.json {
        // The answer is printed already; only the exit code is missing.
        std::process::exit(failure.code().into());
    }
    Err(failure)
}

fn summary(probes: &[Probe], took: Duration) -> Value {
    let reached = || probes.iter().filter(|probe| probe.outcome.is_ok());
    let best = reached().map(Probe::capability).max_by_key(|capability| rank(capability));
    let best =
        best.or_else(|| probes.iter().map(Probe::capability).max_by_key(|capability| rank(capability)));
    json!({
        "ok": reached().next().is_some(),
        "degraded": reached().any(|probe| !probe.reads_all()),
        "capability": best.unwrap_or("unknown"),
        "durationMs": took.as_millis() as u64,
        "primaryTargetId": reached().next().map(|probe| probe.source.id()),
        "targets": probes.iter().map(Probe::json).collect::<Vec<_>>(),
    })
}

/// One target, tried.
struct Probe {
    source: Source,
    url: String,
    by_ssh: Option<String>,
    took: Duration,
    outcome: Result<Reached, Failure>,
}

struct Reached {
    version: String,
    role: Value,
    scopes: Value,
    checks: Map<String, Value>,
}

impl Probe {
    async fn of(context: &Context, source: Source, target: Result<Target, Failure>) -> Self {
        let target = match target {
            Ok(target) => target,
            Err(failure) => {
                let outcome = Err(failure);
                return Self { source, url: String::new(), by_ssh: None, took: Duration::ZERO, outcome };
            }
        };
        let by_ssh = target.ssh.as_ref().map(|ssh| ssh.target.to_string());
        let url = target.endpoint.to_string();
        let started = Instant::now();
        let connected = connect(context, &target).await;
        let took = started.elapsed();
        let outcome = match connected {
            Ok(client) => {
                let reached = Reached::read(context, &client).await;
                client.close().await;
                Ok(reached)
            }
            Err(failure) => Err(failure),
        };
        Self { source, url, by_ssh, took, outcome }
    }

    fn reads_all(&self) -> bool {
        self.outcome.as_ref().is_ok_and(|reached| reached.checks.values().all(|check| *check == "ok"))
    }

    /// In OpenClaw's words.
    fn capability(&self) -> &'static str {
        let reached = match &self.outcome {
            Ok(reached) => reached,
            Err(Failure::Client(error)) if error.detail_code() == Some("PAIRING_REQUIRED") => {
                return "pairing_pending";
            }
            Err(_) => return "unknown",
        };
        let has = |scope: &str| {
            reached.scopes.as_array().is_some_and(|scopes| scopes.iter().any(|have| have == scope))
        };
        if has("operator.admin") {
            "admin_capable"
        } else if has("operator.write") {
            "write_capable"
        } else if has("operator.read") {
            "read_only"
        } else {
            "connected_no_operator_scope"
        }
    }

    fn json(&self) -> Value {
        let mut value = json!({
            "id": self.source.id(),
            "kind": self.source.kind(self.by_ssh.is_some()),
            "source": self.source.as_str(),
            "url": self.url,
            "tunnel": self.by_ssh.as_ref().map(|host| json!({"kind": "ssh", "target": host})),
            "connect": {"ok": self.outcome.is_ok(), "rpcOk": self.reads_all(), "latencyMs": self.took.as_millis() as u64},
            "auth": {"capability": self.capability()},
        });
        match &self.outcome {
            Ok(reached) => {
                value["version"] = json!(reached.version);
                value["auth"]["role"] = reached.role.clone();
                value["auth"]["scopes"] = reached.scopes.clone();
                value["checks"] = json!(reached.checks);
            }
            Err(failure) => value["connect"]["error"] = failure.json()["error"].clone(),
        }
        value
    }

    fn print(&self) {
        out::line(self.source.title());
        let mut facts = out::Facts::default();
        facts.add("  address", self.url.as_str());
        match &self.outcome {
            Ok(reached) => {
                facts.add("  gateway", format!("version {}", reached.version));
                facts.add("  connected in", format!("{} ms", self.took.as_millis()));
                facts.add("  role", reached.role.as_str().unwrap_or_default());
                facts.add("  scopes", super::status::scopes_of(&reached.scopes));
                for (method, result) in reached.checks.iter().filter(|(_, result)| *result != "ok") {
                    facts.add(&format!("  {method}"), result.as_str().unwrap_or_default());
                }
            }
            Err(failure) => {
                facts.add("  not reached", failure.in_full());
                facts.add("  help", failure.advice().unwrap_or_default());
            }
        }
        facts.print();
    }
}

/// With the identity that is there already: a question makes no new device.
async fn connect(context: &Context, target: &Target) -> Result<Client, Failure> {
    let identity = if target.is_at_home() { None } else { DeviceIdentity::load(&context.identity_file()?)? };
    Ok(context.connect_to(target, identity.map(Arc::new)).await?.0)
}

impl Reached {
    async fn read(context: &Context, client: &Client) -> Self {
        let mut checks = Map::new();
        for method in READS {
            let result = match context.call_over(client, method, json!({})).await {
                Ok(_) => json!("ok"),
                Err(failure) => json!(failure.in_full()),
            };
            checks.insert(method.to_owned(), result);
        }
        let auth = serde_json::to_value(&client.hello().auth).unwrap_or_default();
        Self {
            version: client.hello().server.version.clone(),
            role: auth["role"].clone(),
            scopes: auth["scopes"].clone(),
            checks,
        }
    }
}

impl Source {
    fn id(self) -> &'static str {
        match self {
            Self::Url => "explicit",
            Self::Ssh => "sshTunnel",
            Self::Environment => "environment",
            Self::Remote => "configRemote",
            Self::Local => "localLoopback",
        }
    }

    fn kind(self, by_ssh: bool) -> &'static str {
        if by_ssh { Self::Ssh.id() } else { self.id() }
    }

    fn title(self) -> &'static str {
        match self {
            Self::Url => "URL (explicit)",
            Self::Ssh => "SSH tunnel (explicit)",
            Self::Environment => "URL (environment)",
            Self::Remote => "Remote (configured)",
            Self::Local => "Local loopback",
        }
    }
}

fn rank(capability: &str) -> usize {
    let order = [
        "unknown",
        "pairing_pending",
        "connected_no_operator_scope",
        "read_only",
        "write_capable",
        "admin_capable",
    ];
    order.iter().position(|name| *name == capability).unwrap_or(0)
}
