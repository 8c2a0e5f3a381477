//! `system.run`: decides, runs, and tells what came of it.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    Analysis, environment,
    plan::{MAIN_AGENT, Plan, allow_always, check_argv, check_raw, working_folder},
    process::{self, Cancel, Finished, Launch, Stopped},
    shell,
};
use crate::node_host::{
    approvals::{AllowEntry, Allowed, ApprovalsStore, Verdict, decide},
    failure::Failure,
    host::Host,
    link::Progress,
};

/// The result leaves this much before the gateway stops waiting for it.
const MARGIN: Duration = Duration::from_millis(500);
/// The exit code of a command that took too long, as `timeout` gives it.
const TIMED_OUT: i32 = 124;
/// How much output goes into an event; the result has more.
const EVENT_OUTPUT_BYTES: usize = 20_000;

/// Params of `system.run`. What an approved run is allowed to differ in is nothing: see [`Plan`].
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct RunParams {
    command: Vec<String>,
    raw_command: Option<String>,
    cwd: Option<String>,
    env: Option<BTreeMap<String, String>>,
    timeout_ms: Option<f64>,
    agent_id: Option<String>,
    session_key: Option<String>,
    run_id: Option<String>,
    approved: Option<bool>,
    approval_decision: Option<String>,
    system_run_plan: Option<Plan>,
    suppress_notify_on_exit: Option<bool>,
}

/// Answers `system.run`. `limit` is how long the gateway waits.
pub(crate) async fn run(
    host: &Host,
    params: RunParams,
    limit: Option<Duration>,
    cancel: Cancel,
    progress: Progress,
) -> Result<Value, Failure> {
    let cleared = match clear(host, &params).await {
        Ok(cleared) => cleared,
        Err(NotCleared::Refused { failure, reason }) => {
            if let Some(reason) = reason {
                host.link().event("exec.denied", &about(&params, json!({"reason": reason})));
            }
            return Err(failure);
        }
        Err(NotCleared::NoFolder(problem)) => return Ok(report(host, &params, Err(problem))),
    };
    let launch = launch(cleared, &params, limit);
    tracing::info!(command = shell::command_text(&launch.argv), cwd = %launch.cwd.display(), "command started");
    let program = launch.argv[0].clone();
    let finished = process::run(launch, cancel, |bytes| progress.push(bytes)).await;
    progress.finish().await;
    let finished = match finished {
        Ok(Finished { stopped: Some(Stopped::Cancelled), .. }) => {
            return Err(Failure {
                code: "CANCELLED",
                message: "the command was cancelled and ended".to_owned(),
            });
        }
        Ok(finished) => Ok(finished),
        Err(error) => Err(format!("cannot start `{program}`: {error}")),
    };
    Ok(report(host, &params, finished))
}

/// A command that may run, as it will run.
struct Cleared {
    argv: Vec<String>,
    cwd: PathBuf,
    env: Vec<(String, String)>,
}

enum NotCleared {
    Refused {
        failure: Failure,
        /// The word for the event; absent when the request itself was wrong.
        reason: Option<&'static str>,
    },
    /// There is no such folder to run it in: told as a run that failed, as by the official node host.
    NoFolder(String),
}

impl From<Failure> for NotCleared {
    fn from(failure: Failure) -> Self {
        Self::Refused { failure, reason: None }
    }
}

impl NotCleared {
    fn denied(reason: &'static str, message: impl std::fmt::Display) -> Self {
        Self::Refused { failure: Failure::denied(message), reason: Some(reason) }
    }
}

async fn clear(host: &Host, params: &RunParams) -> Result<Cleared, NotCleared> {
    check_argv(&params.command)?;
    let env = environment::filter(params.env.clone().unwrap_or_default(), shell::is_shell(&params.command))
        .map_err(|rejected| Failure::invalid(format!("SYSTEM_RUN_DENIED: {rejected}")))?;
    if !env.dropped.is_empty() {
        tracing::warn!(names = ?env.dropped, "variables that a shell is not given");
    }
    match &params.system_run_plan {
        Some(plan) => check_plan(plan, params)?,
        None => check_raw(&params.command, params.raw_command.as_deref())?,
    }
    let agent = params.agent_id.clone().unwrap_or_else(|| MAIN_AGENT.to_owned());
    let skills = match host.approvals().policy(&agent) {
        Ok(policy) if policy.auto_allow_skills => host.link().skill_bins().await,
        _ => Vec::new(),
    };
    let request = Request {
        argv: params.command.clone(),
        env: env.kept,
        cwd: params.cwd.clone(),
        default_cwd: host.folder().to_owned(),
        plan: params.system_run_plan.clone(),
        approved: params.approved == Some(true),
        always: params.approval_decision.as_deref() == Some("allow-always"),
        agent,
        skills,
    };
    let approvals = host.approvals().clone();
    // Reads files, hashes them, follows links: not on the thread that serves the connection.
    tokio::task::spawn_blocking(move || request.judge(&approvals))
        .await
        .map_err(|_| NotCleared::from(Failure::unavailable("the command could not be judged")))?
}

/// Whoever decided saw the plan: the request may not differ from it.
fn check_plan(plan: &Plan, params: &RunParams) -> Result<(), NotCleared> {
    let same = |planned: &Option<String>, asked: &Option<String>| asked.is_none() || planned == asked;
    let cwd = params.cwd.as_deref().is_none_or(|cwd| Path::new(cwd) == plan.cwd);
    let agrees = plan.argv == params.command
        && cwd
        && same(&plan.agent_id, &params.agent_id)
        && same(&plan.session_key, &params.session_key);
    if !agrees {
        return Err(NotCleared::denied("plan-mismatch", "the request differs from the prepared plan"));
    }
    Ok(())
}

struct Request {
    argv: Vec<String>,
    env: Vec<(String, String)>,
    cwd: Option<String>,
    default_cwd: PathBuf,
    plan: Option<Plan>,
    approved: bool,
    always: bool,
    agent: String,
    skills: Vec<String>,
}

impl Request {
    fn judge(self, approvals: &ApprovalsStore) -> Result<Cleared, NotCleared> {
        let cwd = self.working_folder()?;
        if let Some(operand) = self.plan.as_ref().and_then(|plan| plan.mutable_file_operand.as_ref())
            && !operand.unchanged()
        {
            let path = operand.path.display();
            return Err(NotCleared::denied(
                "operand-changed",
                format!("{path} changed after the command was prepared"),
            ));
        }
        if self.approved && self.plan.is_none() {
            return Err(NotCleared::denied("plan-required", "an approval needs the plan that was approved"));
        }
        let policy =
            approvals.policy(&self.agent).map_err(|error| NotCleared::denied("approvals-unusable", error))?;
        let analysis = Analysis::of(&self.argv, &cwd);
        let (argv, used) = match decide(&policy, analysis.as_ref(), &cwd, &self.skills, self.approved) {
            Verdict::Run => (self.argv.clone(), Vec::new()),
            Verdict::Listed(used) => {
                (analysis.as_ref().map_or_else(|| self.argv.clone(), Analysis::pinned), used)
            }
            Verdict::Ask => return Err(NotCleared::denied("approval-required", "approval required")),
            Verdict::Deny { reason, message } => return Err(NotCleared::denied(reason, message)),
        };
        self.record(approvals, &used, analysis.as_ref(), &cwd);
        Ok(Cleared { argv, cwd, env: self.env })
    }

    fn working_folder(&self) -> Result<PathBuf, NotCleared> {
        let Some(plan) = &self.plan else {
            let folder = working_folder(self.cwd.as_deref(), &self.default_cwd);
            return folder.map_err(|failure| NotCleared::NoFolder(failure.message));
        };
        match plan.cwd.canonicalize() {
            Ok(real) if real == plan.cwd && real.is_dir() => Ok(real),
            _ => {
                let message =
                    format!("the folder {} changed after the command was prepared", plan.cwd.display());
                Err(NotCleared::denied("cwd-changed", message))
            }
        }
    }

    fn record(&self, approvals: &ApprovalsStore, used: &[Allowed], analysis: Option<&Analysis>, cwd: &Path) {
        let patterns = match analysis {
            Some(analysis) if self.approved && self.always => allow_always(analysis, cwd).unwrap_or_default(),
            _ => Vec::new(),
        };
        let entry = |(pattern, arguments): (String, String)| AllowEntry {
            pattern,
            arg_pattern: Some(arguments),
            source: Some("allow-always".to_owned()),
            ..AllowEntry::default()
        };
        let added = patterns.into_iter().map(entry).collect();
        // The decision stands even when it can't be written down.
        if let Err(error) = approvals.record(used, &shell::command_text(&self.argv), &self.agent, added) {
            tracing::warn!(%error, "exec approvals not updated");
        }
    }
}

fn launch(cleared: Cleared, params: &RunParams, limit: Option<Duration>) -> Launch {
    let asked =
        params.timeout_ms.filter(|ms| *ms >= 1.0).map(|ms| Duration::from_millis(ms.min(1e12) as u64));
    let waits = limit.map(|limit| if limit > MARGIN * 4 { limit - MARGIN } else { limit });
    Launch {
        argv: cleared.argv,
        cwd: cleared.cwd,
        env: cleared.env,
        hidden: environment::OWN_SECRETS.iter().map(|name| (*name).to_owned()).collect(),
        timeout: [asked, waits].into_iter().flatten().min(),
    }
}

fn report(host: &Host, params: &RunParams, finished: Result<Finished, String>) -> Value {
    let (mut error, mut answer) =
        (Value::Null, json!({"exitCode": null, "timedOut": false, "success": false}));
    let (mut stdout, mut stderr) = (String::new(), String::new());
    match finished {
        Ok(done) => {
            let timed_out = done.stopped == Some(Stopped::TimedOut);
            let success = done.exit_code == Some(0) && !timed_out;
            let exit_code = if timed_out { Some(TIMED_OUT) } else { done.exit_code };
            answer = json!({"exitCode": exit_code, "timedOut": timed_out, "success": success});
            if let (Some(signal), false) = (done.signal, timed_out) {
                error = json!(format!("ended by signal {signal}"));
            }
            (stdout, stderr) = (done.stdout, done.stderr);
        }
        Err(problem) => error = json!(problem),
    }
    tracing::info!(exit = %answer["exitCode"], timed_out = %answer["timedOut"], "command ended");
    let output = event_output(&stdout, &stderr, error.as_str());
    let mut event = about(params, answer.clone());
    event["output"] = json!(output);
    event["suppressNotifyOnExit"] = json!(params.suppress_notify_on_exit == Some(true));
    host.link().event("exec.finished", &event);
    answer["stdout"] = json!(stdout);
    answer["stderr"] = json!(stderr);
    answer["error"] = error;
    answer
}

/// What every exec event says about its run, and `more`.
fn about(params: &RunParams, more: Value) -> Value {
    let mut event = json!({
        "sessionKey": params.session_key.as_deref().unwrap_or("node"),
        "runId": params.run_id.as_deref().unwrap_or_default(),
        "host": "node",
        "command": shell::command_text(&params.command),
    });
    if let (Some(event), Value::Object(more)) = (event.as_object_mut(), more) {
        event.extend(more);
    }
    event
}

fn event_output(stdout: &str, stderr: &str, error: Option<&str>) -> String {
    let parts = [stdout.trim(), stderr.trim(), error.unwrap_or_default()];
    let text = parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("\n");
    if text.len() <= EVENT_OUTPUT_BYTES {
        return text;
    }
    let mut start = text.len() - EVENT_OUTPUT_BYTES;
    while !text.is_char_boundary(start) {
        start += 1;
    }
    format!("... (truncated)\n{}", &text[start..])
}
