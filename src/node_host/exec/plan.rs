//! `system.run.prepare`: what exactly would run, so that a person can decide about exactly that.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{
    Analysis,
    operand::{Dependence, Operand, dependence},
    shell,
};
use crate::node_host::{
    approvals::{ApprovalsStore, Ask, Policy, Security, cwd_argv_hash},
    failure::Failure,
};

/// The agent a request is for when it names none.
pub(super) const MAIN_AGENT: &str = "main";

/// Params of `system.run.prepare`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PrepareParams {
    command: Vec<String>,
    raw_command: Option<String>,
    cwd: Option<String>,
    security: Option<Security>,
    ask: Option<Ask>,
    agent_id: Option<String>,
    session_key: Option<String>,
}

/// A command as it was shown to whoever decided about it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Plan {
    pub(crate) argv: Vec<String>,
    pub(crate) cwd: PathBuf,
    pub(crate) command_text: String,
    /// The script alone, when the command is a shell with a script.
    pub(crate) command_preview: Option<String>,
    pub(crate) agent_id: Option<String>,
    pub(crate) session_key: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) mutable_file_operand: Option<Operand>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) policy_snapshot: Option<Value>,
}

/// Answers `system.run.prepare`. Blocks on the disk.
pub(crate) fn prepare(
    params: PrepareParams,
    approvals: &ApprovalsStore,
    default_cwd: &Path,
) -> Result<Value, Failure> {
    check_argv(&params.command)?;
    check_raw(&params.command, params.raw_command.as_deref())?;
    let cwd = working_folder(params.cwd.as_deref(), default_cwd)?;
    let own = approvals
        .policy(params.agent_id.as_deref().unwrap_or(MAIN_AGENT))
        .map_err(|error| Failure::denied(error.to_string()))?;
    let snapshot = own.snapshot();
    let policy = own.tightened(params.security, params.ask);
    let argv = pinned(&params.command, &cwd);
    let operand = bind(&argv, &cwd, &policy)?;
    let coverage = coverage(&argv, &cwd);
    let plan = Plan {
        command_text: shell::command_text(&argv),
        command_preview: shell::script_index(&argv).map(|index| argv[index].clone()),
        argv,
        cwd,
        agent_id: params.agent_id,
        session_key: params.session_key,
        mutable_file_operand: operand,
        policy_snapshot: Some(snapshot),
    };
    let exec_policy = json!({"security": policy.security, "ask": policy.ask});
    Ok(json!({"plan": plan, "execPolicy": exec_policy, "allowAlwaysCoverage": coverage}))
}

/// A command is a list of words, the first of which names a program.
pub(super) fn check_argv(argv: &[String]) -> Result<(), Failure> {
    if argv.first().is_none_or(|program| program.trim().is_empty()) {
        return Err(Failure::invalid("command required: a list of words that begins with a program"));
    }
    if argv.iter().any(|word| word.contains('\0')) {
        return Err(Failure::invalid("command must not contain NUL"));
    }
    Ok(())
}

/// The text that goes with a command must say what the command says.
pub(super) fn check_raw(argv: &[String], raw: Option<&str>) -> Result<(), Failure> {
    let Some(raw) = raw.map(str::trim).filter(|raw| !raw.is_empty()) else { return Ok(()) };
    let script = shell::script_index(argv).map(|index| argv[index].trim().to_owned());
    let mut by_name = argv.to_vec();
    by_name[0] = shell::file_name(&argv[0]).to_owned();
    let texts = [Some(shell::command_text(argv)), Some(shell::command_text(&by_name)), script];
    if texts.iter().flatten().any(|text| text.trim() == raw) {
        return Ok(());
    }
    Err(Failure::invalid("rawCommand does not match command"))
}

/// The folder a command runs in, with links followed.
pub(super) fn working_folder(asked: Option<&str>, default: &Path) -> Result<PathBuf, Failure> {
    let path =
        asked.filter(|path| !path.is_empty()).map_or_else(|| default.to_owned(), |path| default.join(path));
    match path.canonicalize() {
        Ok(folder) if folder.is_dir() => Ok(folder),
        Ok(_) => Err(Failure::invalid(format!("cwd is not a folder: {}", path.display()))),
        Err(error) => Err(Failure::invalid(format!("cwd {}: {error}", path.display()))),
    }
}

/// A bare program name becomes the file it means now. A shell with a script stays as it is.
fn pinned(argv: &[String], cwd: &Path) -> Vec<String> {
    let mut argv = argv.to_vec();
    if shell::script_index(&argv).is_none()
        && let Some(path) = super::find(&argv[0], cwd)
    {
        argv[0] = path.to_string_lossy().into_owned();
    }
    argv
}

fn bind(argv: &[String], cwd: &Path, policy: &Policy) -> Result<Option<Operand>, Failure> {
    let script = shell::script_index(argv).is_some();
    match dependence(argv, cwd) {
        // Nobody will be asked, so nothing has to hold between asking and running.
        _ if script && !policy.may_ask() => Ok(None),
        Dependence::None => Ok(None),
        Dependence::File(index, path) => Operand::read(index, path)
            .map(Some)
            .or_else(|error| if policy.may_ask() { Err(Failure::denied(error)) } else { Ok(None) }),
        Dependence::Hidden if policy.may_ask() => Err(Failure::denied(
            "it can't be told which file this command would run, so it can't be approved; name one script file",
        )),
        Dependence::Hidden => Ok(None),
    }
}

/// What "always allow" would cover.
fn coverage(argv: &[String], cwd: &Path) -> Value {
    let patterns = Analysis::of(argv, cwd).and_then(|analysis| allow_always(&analysis, cwd));
    let shown: Vec<Value> = patterns
        .iter()
        .flatten()
        .map(|(pattern, arguments)| json!({"pattern": pattern, "argPattern": arguments}))
        .collect();
    json!({"complete": patterns.is_some(), "patterns": shown})
}

/// Patterns that cover exactly these programs with exactly these arguments in this folder.
pub(super) fn allow_always(analysis: &Analysis, cwd: &Path) -> Option<Vec<(String, String)>> {
    let pattern = |program: &super::Program| {
        let args = program.args.as_ref()?;
        Some((program.path.to_string_lossy().into_owned(), cwd_argv_hash(args, cwd)))
    };
    analysis.programs.iter().map(pattern).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn prepared(params: Value) -> Result<Value, Failure> {
        let folder = tempfile::tempdir().unwrap();
        prepare_in(params, &ApprovalsStore::new(folder.path()), folder.path())
    }

    fn prepare_in(params: Value, approvals: &ApprovalsStore, cwd: &Path) -> Result<Value, Failure> {
        prepare(serde_json::from_value(params).unwrap(), approvals, cwd)
    }

    #[test]
    fn a_direct_command_is_pinned_to_its_file() {
        let answer =
            prepared(json!({"command": ["uname", "-a"], "rawCommand": "uname -a", "cwd": "/"})).unwrap();
        let plan: Plan = serde_json::from_value(answer["plan"].clone()).unwrap();
        assert!(plan.argv[0].starts_with('/') && plan.argv[0].ends_with("/uname"));
        assert_eq!(plan.command_text, format!("{} -a", plan.argv[0]));
        assert_eq!((plan.cwd.as_path(), plan.command_preview), (Path::new("/"), None));
        assert_eq!(plan.mutable_file_operand.unwrap().argv_index, 0);
        assert_eq!(answer["execPolicy"], json!({"security": "full", "ask": "off"}));
        assert_eq!(answer["plan"]["policySnapshot"]["askFallback"], "deny");
        assert_eq!(answer["allowAlwaysCoverage"]["complete"], true);
        let pattern = &answer["allowAlwaysCoverage"]["patterns"][0]["argPattern"];
        assert!(pattern.as_str().unwrap().starts_with("sha256:cwd-argv:v1:"));
    }

    #[test]
    fn a_shell_script_keeps_its_words_and_shows_its_text() {
        let answer = prepared(json!({
            "command": ["/bin/sh", "-lc", "ls / # x"], "rawCommand": "ls / # x", "security": "allowlist",
            "ask": "on-miss", "agentId": "main", "sessionKey": "agent:main:wire",
        }))
        .unwrap();
        assert_eq!(answer["plan"]["argv"], json!(["/bin/sh", "-lc", "ls / # x"]));
        assert_eq!(answer["plan"]["commandText"], "/bin/sh -lc \"ls / # x\"");
        assert_eq!(answer["plan"]["commandPreview"], "ls / # x");
        assert_eq!(answer["plan"]["sessionKey"], "agent:main:wire");
        assert_eq!(answer["execPolicy"], json!({"security": "allowlist", "ask": "on-miss"}));
    }

    #[test]
    fn text_that_says_something_else_is_refused() {
        for (command, raw) in [
            (json!(["sh", "-c", "id"]), "echo safe"),
            (json!(["echo", "a "]), "echo a"),
            (json!(["/bin/echo", "a"]), "/usr/bin/echo a"),
        ] {
            let failure = prepared(json!({"command": command, "rawCommand": raw})).unwrap_err();
            assert_eq!(failure, Failure::invalid("rawCommand does not match command"), "{command}");
        }
        for command in [json!([]), json!([" "]), json!(["a\u{0}b"])] {
            assert_eq!(prepared(json!({"command": command})).unwrap_err().code, "INVALID_REQUEST");
        }
        assert!(
            prepared(json!({"command": ["ls"], "cwd": "/no/such"})).unwrap_err().message.contains("/no/such")
        );
    }

    #[test]
    fn where_somebody_is_asked_a_hidden_file_is_refused_and_a_named_one_bound() {
        let folder = tempfile::tempdir().unwrap();
        let approvals = ApprovalsStore::new(folder.path());
        fs::write(folder.path().join("x.py"), "1").unwrap();
        let ask = |command: Value| {
            let params = json!({"command": command, "ask": "always", "cwd": folder.path()});
            prepare_in(params, &approvals, folder.path())
        };
        let failure = ask(json!(["python3", "-m", "x"])).unwrap_err();
        assert!(failure.message.starts_with("SYSTEM_RUN_DENIED: "), "{failure}");
        let bound = ask(json!(["/bin/sh", "-c", "python3 x.py"])).unwrap();
        assert_eq!(bound["plan"]["mutableFileOperand"]["argvIndex"], 2);
    }
}
