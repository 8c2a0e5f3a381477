//! What is checked, added and taken away when somebody asks a node to run a program.
//!
//! The text a person was shown must be the program that runs, and an approval exists only as a record of
//! the gateway: whatever the caller writes about approvals never reaches the node.

use serde_json::{Map, Value};

/// The fields of a `system.run` that a caller may set. Everything else is dropped.
const KEPT: [&str; 11] = [
    "command",
    "rawCommand",
    "systemRunPlan",
    "cwd",
    "env",
    "timeoutMs",
    "needsScreenRecording",
    "agentId",
    "sessionKey",
    "runId",
    "suppressNotifyOnExit",
];

/// Shells whose `-c` text may stand in for the whole command line.
const SHELLS: [&str; 7] = ["sh", "bash", "dash", "zsh", "ksh", "ash", "fish"];

/// Why a run does not leave the gateway. The code goes to the caller in `details.code`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RunRefused {
    #[error("invalid {command} params: {what}")]
    Malformed { command: String, what: &'static str },
    #[error("rawCommand requires params.command")]
    MissingCommand,
    #[error("rawCommand does not match command")]
    RawCommandMismatch { raw: String, inferred: String },
    #[error("approval override requires params.runId")]
    MissingRunId,
    #[error("approval source invalid")]
    InvalidApprovalSource,
    #[error("{message}")]
    Approval { code: String, message: String, run_id: String },
}

/// A checked run, ready to be sent or to be compared with an approval.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct CheckedRun {
    /// Only fields that a caller may set, in the caller's order.
    pub params: Map<String, Value>,
    /// The caller says that a person approved this run.
    pub claims_approval: bool,
}

impl RunRefused {
    /// The code that clients look at.
    pub fn code(&self) -> &str {
        match self {
            Self::Malformed { .. } => "INVALID_COMMAND",
            Self::MissingCommand => "MISSING_COMMAND",
            Self::RawCommandMismatch { .. } => "RAW_COMMAND_MISMATCH",
            Self::MissingRunId => "MISSING_RUN_ID",
            Self::InvalidApprovalSource => "INVALID_APPROVAL_SOURCE",
            Self::Approval { code, .. } => code,
        }
    }

    /// The approval id nobody knows (any more).
    pub fn unknown_approval(run_id: &str) -> Self {
        Self::Approval {
            code: "UNKNOWN_APPROVAL_ID".to_owned(),
            message: "unknown or expired approval id".to_owned(),
            run_id: run_id.to_owned(),
        }
    }
}

/// Whether the command runs a program from an argument list.
pub(super) fn runs_programs(command: &str) -> bool {
    matches!(command, "system.run" | "system.run.prepare")
}

/// Checks the params of a run and drops what a caller may not say. Of a run that claims an approval only the
/// claim is looked at here: what runs then is what was approved, whatever else the caller wrote.
pub(super) fn check(command: &str, params: Option<&str>) -> Result<CheckedRun, RunRefused> {
    let mut given: Map<String, Value> = serde_json::from_str(params.unwrap_or("{}"))
        .map_err(|_| malformed(command, "must be an object with a command"))?;
    let claims_approval = claims_approval(&given)?;
    if !claims_approval {
        check_program(command, &given)?;
    }
    given.retain(|key, _| KEPT.contains(&key.as_str()));
    Ok(CheckedRun { params: given, claims_approval })
}

/// Checks that the params name one program, and that every text about it names the same one.
pub(super) fn check_program(command: &str, given: &Map<String, Value>) -> Result<(), RunRefused> {
    let raw = text(given, "rawCommand");
    let argv = match given.get("command") {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::Array(items)) if items.is_empty() => Vec::new(),
        Some(Value::Array(items)) => {
            strings(items).ok_or_else(|| malformed(command, "at /command: every element must be a string"))?
        }
        Some(_) => return Err(malformed(command, "at /command: must be an array of strings")),
    };
    let Some(program) = argv.first() else {
        return Err(match raw {
            Some(_) => RunRefused::MissingCommand,
            None => malformed(command, "at /command: must be an array with at least one string"),
        });
    };
    if program.trim().is_empty() || argv.iter().any(|word| word.contains('\0')) {
        return Err(malformed(command, "at /command: names no program"));
    }
    if given.get("rawCommand").is_some_and(|raw| !raw.is_string() && !raw.is_null()) {
        return Err(malformed(command, "at /rawCommand: must be a string"));
    }
    if given.get("env").is_some_and(|env| !is_harmless(env)) {
        return Err(malformed(
            command,
            "at /env: must be an object without variables of the loader (LD_*, DYLD_*)",
        ));
    }
    same_text(&argv, raw.as_deref())?;
    same_plan(&argv, given.get("systemRunPlan"))
}

/// Node hosts drop many variables more by a list of their own; those that put code into every program are refused here,
/// for a node that lets them through runs something else than what was asked for.
fn is_harmless(env: &Value) -> bool {
    let of_loader = |name: &String| {
        let name = name.to_ascii_uppercase();
        name.starts_with("LD_") || name.starts_with("DYLD_")
    };
    env.is_null() || env.as_object().is_some_and(|variables| !variables.keys().any(of_loader))
}

fn malformed(command: &str, what: &'static str) -> RunRefused {
    RunRefused::Malformed { command: command.to_owned(), what }
}

/// The argument list as one readable line.
pub fn display(argv: &[String]) -> String {
    let quoted = argv.iter().map(|word| {
        if word.is_empty() {
            "\"\"".to_owned()
        } else if word.chars().any(|letter| letter.is_whitespace() || letter == '"') {
            format!("\"{}\"", word.replace('"', "\\\""))
        } else {
            word.clone()
        }
    });
    quoted.collect::<Vec<_>>().join(" ")
}

fn same_text(argv: &[String], raw: Option<&str>) -> Result<(), RunRefused> {
    let Some(raw) = raw else { return Ok(()) };
    let inferred = display(argv);
    if raw == inferred || shell_text(argv).is_some_and(|script| script == raw) {
        return Ok(());
    }
    Err(RunRefused::RawCommandMismatch { raw: raw.to_owned(), inferred })
}

/// A plan that names another program than the command would run the other program on the node.
fn same_plan(argv: &[String], plan: Option<&Value>) -> Result<(), RunRefused> {
    let planned = match plan.map(|plan| plan.get("argv")) {
        None | Some(None) => return Ok(()),
        Some(Some(Value::Array(items))) => strings(items).unwrap_or_default(),
        Some(Some(_)) => Vec::new(),
    };
    // The node may have replaced the program by its full path while it prepared the plan.
    let same_program = match (planned.first(), argv.first()) {
        (Some(planned), Some(asked)) => planned == asked || planned.ends_with(&format!("/{asked}")),
        _ => false,
    };
    if same_program && planned[1..] == argv[1..] {
        return Ok(());
    }
    Err(RunRefused::RawCommandMismatch { raw: display(&planned), inferred: display(argv) })
}

/// The script of a plain `sh -c SCRIPT`: nothing before the shell, nothing after the script.
pub fn shell_text(argv: &[String]) -> Option<&str> {
    let [shell, flags, script] = argv else { return None };
    let name = shell.rsplit('/').next().unwrap_or_default();
    let runs_text = flags.strip_prefix('-').is_some_and(|letters| {
        letters.contains('c') && letters.chars().all(|letter| letter.is_ascii_alphabetic())
    });
    (SHELLS.contains(&name) && runs_text).then(|| script.trim())
}

fn claims_approval(given: &Map<String, Value>) -> Result<bool, RunRefused> {
    let source = match given.get("approvalSource") {
        None | Some(Value::Null) => false,
        Some(Value::String(source)) if source == "ask-fallback" => true,
        Some(_) => return Err(RunRefused::InvalidApprovalSource),
    };
    let decided = matches!(
        given.get("approvalDecision").and_then(Value::as_str).map(str::trim),
        Some("allow-once" | "allow-always")
    );
    let claims = source || decided || given.get("approved") == Some(&Value::Bool(true));
    if claims && text(given, "runId").is_none() {
        return Err(RunRefused::MissingRunId);
    }
    Ok(claims)
}

fn strings(items: &[Value]) -> Option<Vec<String>> {
    items.iter().map(|item| item.as_str().map(str::to_owned)).collect()
}

/// A field that says something, trimmed.
pub(super) fn text(given: &Map<String, Value>, key: &str) -> Option<String> {
    let value = given.get(key)?.as_str()?.trim();
    (!value.is_empty()).then(|| value.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn run(params: Value) -> Result<CheckedRun, RunRefused> {
        check("system.run", Some(&params.to_string()))
    }

    fn code(params: Value) -> String {
        run(params).expect_err("must be refused").code().to_owned()
    }

    #[test]
    fn only_a_list_of_strings_is_a_command() {
        for command in
            [json!("id"), json!([]), json!([1]), json!({}), json!(["ls", null]), json!([""]), json!(["a\0b"])]
        {
            assert_eq!(code(json!({ "command": command })), "INVALID_COMMAND", "{command}");
        }
        assert_eq!(code(json!({})), "INVALID_COMMAND");
        assert_eq!(check("system.run", None).expect_err("no params").code(), "INVALID_COMMAND");
        assert_eq!(check("system.run", Some("[1]")).expect_err("a list").code(), "INVALID_COMMAND");
        assert!(run(json!({ "command": ["ls", "-l", ""] })).is_ok());
    }

    #[test]
    fn variables_of_the_loader_are_refused() {
        for env in [
            json!({ "LD_PRELOAD": "/x" }),
            json!({ "ld_audit": "/x" }),
            json!({ "DYLD_INSERT_LIBRARIES": "/x" }),
        ] {
            assert_eq!(code(json!({ "command": ["id"], "env": env })), "INVALID_COMMAND");
        }
        assert_eq!(code(json!({ "command": ["id"], "env": ["LD_PRELOAD=/x"] })), "INVALID_COMMAND");
        assert!(run(json!({ "command": ["id"], "env": { "LANG": "C" } })).is_ok());
        assert!(run(json!({ "command": ["id"], "env": null })).is_ok());
    }

    #[test]
    fn the_text_shown_must_be_the_command() {
        for ok in [
            json!({ "command": ["uname", "-a"], "rawCommand": "uname -a" }),
            json!({ "command": ["/bin/sh", "-lc", "uname -a"], "rawCommand": "uname -a" }),
            json!({ "command": ["/bin/sh", "-lc", "uname -a"], "rawCommand": "/bin/sh -lc \"uname -a\"" }),
            json!({ "command": ["id"], "rawCommand": "" }),
        ] {
            assert!(run(ok.clone()).is_ok(), "{ok}");
        }
        for wrong in [
            json!({ "command": ["sh", "-c", "id"], "rawCommand": "echo safe" }),
            json!({ "command": ["id "], "rawCommand": "id" }),
            json!({ "command": ["sh", "-c", "echo $1", "x", "rm"], "rawCommand": "echo $1" }),
            json!({ "command": ["env", "-S", "sh -c id"], "rawCommand": "sh -c id" }),
            json!({ "command": ["cmd.exe", "/c", "dir"], "rawCommand": "dir" }),
        ] {
            assert_eq!(code(wrong.clone()), "RAW_COMMAND_MISMATCH", "{wrong}");
        }
        assert_eq!(code(json!({ "rawCommand": "id" })), "MISSING_COMMAND");
        assert_eq!(code(json!({ "rawCommand": "id", "command": [] })), "MISSING_COMMAND");
    }

    #[test]
    fn a_plan_for_another_program_is_refused() {
        let plan = |argv: Value| json!({ "command": ["uname", "-a"], "systemRunPlan": { "argv": argv } });
        assert!(run(plan(json!(["uname", "-a"]))).is_ok());
        assert!(run(plan(json!(["/usr/bin/uname", "-a"]))).is_ok());
        for argv in [json!(["rm", "-a"]), json!(["uname", "-r"]), json!(["uname"]), json!([]), json!("uname")]
        {
            assert_eq!(code(plan(argv)), "RAW_COMMAND_MISMATCH");
        }
    }

    #[test]
    fn approval_claims_need_a_run_id_and_never_pass_through() {
        assert_eq!(code(json!({ "command": ["id"], "approved": true })), "MISSING_RUN_ID");
        assert_eq!(code(json!({ "command": ["id"], "approvalDecision": "allow-once" })), "MISSING_RUN_ID");
        assert_eq!(code(json!({ "command": ["id"], "approvalSource": "me" })), "INVALID_APPROVAL_SOURCE");
        let claimed =
            run(json!({ "command": ["other"], "rawCommand": "id", "approved": true, "runId": "r1" }));
        let claimed = claimed.unwrap();
        assert!(claimed.claims_approval);
        let plain = run(json!({
            "command": ["id"], "approved": false, "approvalDecision": "deny", "security": "full", "ask": "off", "cwd": "/"
        }))
        .unwrap();
        assert!(!plain.claims_approval);
        assert_eq!(Value::Object(plain.params), json!({ "command": ["id"], "cwd": "/" }));
        assert!(!Value::Object(claimed.params).to_string().contains("approved"));
    }

    #[test]
    fn a_line_quotes_what_has_blanks() {
        assert_eq!(display(&["a".into(), "b c".into(), "".into(), "d\"e".into()]), r#"a "b c" "" "d\"e""#);
    }
}
