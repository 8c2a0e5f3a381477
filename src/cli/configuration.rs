//! `tidegate config`: the config file, without a gateway.

use clap::{Args as ClapArgs, Subcommand};
use serde_json::{Value, json};
use tidegate_actors::settings::{ConfigFile, ConfigIssue, ConfigSnapshot, ConfigWriteError};

use super::{Context, Failure, Globals, out, target};
use crate::{
    config::{ConfigError, DiskConfig, KeyPath, KeyPathError, lookup},
    telemetry::chain,
};

#[derive(ClapArgs, Debug)]
#[command(after_help = "\
Examples:
  tidegate config get gateway
  tidegate config set gateway.port 19000
  tidegate config set commands.ownerAllowFrom '[\"telegram:123456789\"]'
  tidegate config validate")]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Print a value; secrets are hidden
    Get {
        // The help shows the brackets as they are typed, so they are no link and no Markdown.
        #[allow(rustdoc::broken_intra_doc_links)]
        /// As in gateway.auth.mode or channels.telegram.allowFrom[0]; everything without it
        path: Option<String>,
    },
    /// Set a value; comments and everything else stay
    Set {
        /// As for `config get`
        path: String,
        /// JSON5; anything that is not is taken as text
        #[arg(allow_hyphen_values = true)]
        value: String,
        /// Refuse a value that is not JSON5
        #[arg(long, visible_alias = "strict-json")]
        strict: bool,
    },
    /// Remove a value
    Unset {
        /// As for `config get`
        path: String,
    },
    /// Check the file: types, references, and whether a gateway would start with it
    Validate,
    /// Print where the file is
    File,
}

pub(super) fn run(context: &Context, args: Args) -> Result<(), Failure> {
    let place = context.place()?;
    let disk = DiskConfig::new(place.clone(), context.env.clone());
    match args.command {
        Command::Get { path } => get(context, &disk, path.as_deref()),
        Command::Set { path, value, strict } => {
            let (key, value) = (key(&path)?, value_of(&value, strict)?);
            changed(context, disk.set(&key, &value), &format!("set {path}"), &key)
        }
        Command::Unset { path } => unset(context, &disk, &path),
        Command::Validate => validate(context, &disk),
        Command::File => {
            show(context, &json!({"path": place.config.display().to_string()}), || {
                place.config.display().to_string()
            });
            Ok(())
        }
    }
}

fn key(path: &str) -> Result<KeyPath, Failure> {
    path.parse().map_err(|error: KeyPathError| Failure::usage(error.to_string()))
}

/// People write `true`, `19000` or `["a"]` and mean them; they also write words and mean text.
fn value_of(text: &str, strict: bool) -> Result<Value, Failure> {
    match json5::from_str(text) {
        Ok(value) => Ok(value),
        Err(error) if strict => Err(Failure::usage(format!("the value is not JSON5: {error}"))),
        Err(_) => Ok(Value::from(text)),
    }
}

fn get(context: &Context, disk: &DiskConfig, path: Option<&str>) -> Result<(), Failure> {
    let snapshot = disk.shown(&disk.read());
    if snapshot.resolved.is_null() {
        return Err(invalid(&snapshot));
    }
    let value = match path {
        Some(path) => lookup(&snapshot.resolved, &key(path)?).ok_or_else(|| not_set(&snapshot, path))?,
        None => &snapshot.resolved,
    };
    match value {
        Value::String(text) if !context.globals.json => out::text(text),
        value => out::json(value),
    }
    Ok(())
}

fn unset(context: &Context, disk: &DiskConfig, path: &str) -> Result<(), Failure> {
    let key = key(path)?;
    let snapshot = disk.read();
    if !snapshot.parsed.is_null() && lookup(&snapshot.parsed, &key).is_none() {
        return Err(match lookup(&snapshot.resolved, &key) {
            Some(_) => Failure::failed(format!("`{path}` comes from an included file: edit it there")),
            None => not_set(&snapshot, path),
        });
    }
    changed(context, disk.unset(&key), &format!("removed {path}"), &key)
}

fn not_set(snapshot: &ConfigSnapshot, path: &str) -> Failure {
    // Left out, it may be, for want of a variable.
    match snapshot.warnings.iter().find(|issue| issue.path == path) {
        Some(why) => Failure::failed(format!("{}: {why}", snapshot.path)),
        None => Failure::failed(format!("`{path}` is not set in {}", snapshot.path)),
    }
}

fn changed(
    context: &Context,
    result: Result<ConfigSnapshot, ConfigWriteError>,
    what: &str,
    key: &KeyPath,
) -> Result<(), Failure> {
    let snapshot = result.map_err(|error| match error {
        ConfigWriteError::Invalid(issues) => Failure::Config(ConfigError::Refused(list(&issues))),
        other => Failure::failed(chain(&other)),
    })?;
    let key = key.to_string();
    let warnings: Vec<_> =
        snapshot.warnings.iter().filter(|issue| is_within(&issue.path, &key)).cloned().collect();
    let answer = json!({
        "ok": true, "path": snapshot.path, "hash": snapshot.hash, "warnings": lines(&warnings),
    });
    show(context, &answer, || format!("{what} in {}", snapshot.path));
    for warning in &warnings {
        out::note(format!("warning: {warning}"));
    }
    for issue in &snapshot.issues {
        out::note(format!("warning: a gateway would not start like this: {issue}"));
    }
    Ok(())
}

/// Whether one key is the other or inside of it.
fn is_within(one: &str, other: &str) -> bool {
    let inside = |inner: &str, outer: &str| {
        inner.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
    };
    inside(one, other) || inside(other, one)
}

fn validate(context: &Context, disk: &DiskConfig) -> Result<(), Failure> {
    let mut snapshot = disk.read();
    let mut notes = Vec::new();
    if !snapshot.exists && context.globals.config.is_some() {
        snapshot.issues.push(whole_file("--config names a file that does not exist"));
    }
    if snapshot.issues.is_empty() && snapshot.resolved["gateway"]["mode"] == "remote" {
        notes.push("gateway.mode is \"remote\": no gateway starts on this machine".to_owned());
        match remote(context) {
            Ok(target) => notes.push(format!("commands talk to {}", target.endpoint)),
            Err(failure) => snapshot.issues.push(whole_file(failure.to_string())),
        }
    }
    if context.globals.json {
        out::json(&json!({
            "valid": snapshot.issues.is_empty(),
            "path": snapshot.path,
            "exists": snapshot.exists,
            "issues": lines(&snapshot.issues),
            "warnings": lines(&snapshot.warnings),
            "notes": notes,
        }));
        // The answer is printed already; only the exit code is missing.
        return if snapshot.issues.is_empty() { Ok(()) } else { std::process::exit(78) };
    }
    for warning in &snapshot.warnings {
        out::note(format!("warning: {warning}"));
    }
    for note in notes {
        out::note(format!("note: {note}"));
    }
    if !snapshot.issues.is_empty() {
        return Err(invalid(&snapshot));
    }
    let state = if snapshot.exists { "is valid" } else { "does not exist, which is fine" };
    out::line(format!("{} {state}", snapshot.path));
    Ok(())
}

/// The gateway that the file alone leads to.
fn remote(context: &Context) -> Result<target::Target, Failure> {
    let Globals { profile, state_dir, config, .. } = context.globals.clone();
    let globals = Globals { profile, state_dir, config, ..Globals::default() };
    target::find(&Context::with(globals, context.env.without(&["GATEWAY_URL"])))
}

fn whole_file(message: impl Into<String>) -> ConfigIssue {
    ConfigIssue { file: None, path: String::new(), message: message.into() }
}

fn lines(issues: &[ConfigIssue]) -> Vec<Value> {
    let line = |issue: &ConfigIssue| {
        let mut line = json!({"path": issue.path, "message": issue.message});
        if let Some(file) = &issue.file {
            line["file"] = json!(file);
        }
        line
    };
    issues.iter().map(line).collect()
}

/// Each issue with its file: that may be one which the config file includes.
fn invalid(snapshot: &ConfigSnapshot) -> Failure {
    let mut issues = snapshot.issues.clone();
    for issue in &mut issues {
        issue.file.get_or_insert_with(|| snapshot.path.clone());
    }
    Failure::Config(ConfigError::Refused(list(&issues)))
}

fn list(issues: &[ConfigIssue]) -> String {
    issues.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

fn show(context: &Context, answer: &Value, text: impl FnOnce() -> String) {
    if context.globals.json {
        out::json(answer);
    } else {
        out::line(text());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_json5_or_text() {
        let value = |text: &str| value_of(text, false).unwrap();
        assert_eq!(value("19000"), json!(19000));
        assert_eq!(value("true"), json!(true));
        assert_eq!(value("['a', 1,]"), json!(["a", 1]));
        assert_eq!(value("\"x\""), json!("x"));
        assert_eq!(value("anthropic/claude-sonnet-4-5"), json!("anthropic/claude-sonnet-4-5"));
        assert_eq!(value("123456:ABC-def"), json!("123456:ABC-def"));
        assert!(value_of("a b", true).is_err());
    }
}
