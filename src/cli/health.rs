//! `tidegate health`.

use clap::Args as ClapArgs;
use serde_json::{Value, json};

use super::{Context, Failure, out};

#[derive(ClapArgs, Debug)]
pub(super) struct Args {
    /// Ask each channel's server as well
    #[arg(long)]
    probe: bool,
}

pub(super) async fn run(context: &Context, args: Args) -> Result<(), Failure> {
    let params = if args.probe { json!({"probe": true}) } else { json!({}) };
    let health = context.call("health", params).await?;
    if context.globals.json {
        out::json(&health);
    } else {
        print(&health);
    }
    if health["ok"] == true { Ok(()) } else { Err(Failure::Told) }
}

fn print(health: &Value) {
    let failing = out::joined(health, "failing");
    out::line(match (health["ok"] == true, failing.as_str()) {
        (true, _) => "ok".to_owned(),
        (false, "") => "not ok".to_owned(),
        (false, failing) => format!("not ok: {failing}"),
    });
    for line in channels(health) {
        out::line(line);
    }
    let sessions = health["sessions"]["count"].as_u64().unwrap_or(0);
    out::line(out::count(sessions as usize, "session"));
}

/// One line for each channel account of a `health` or `channels.status` answer.
pub(super) fn channels(answer: &Value) -> Vec<String> {
    let mut lines = Vec::new();
    for (channel, state) in answer["channels"].as_object().into_iter().flatten() {
        let accounts = state["accounts"].as_object();
        for (account, state) in accounts.into_iter().flatten() {
            lines.push(channel_line(channel, account, state));
        }
        if accounts.is_none() {
            lines.push(channel_line(channel, "default", state));
        }
    }
    lines
}

pub(super) fn channel_line(channel: &str, account: &str, state: &Value) -> String {
    let lifecycle = out::string(state, "lifecycle");
    let lifecycle = if lifecycle.is_empty() { "unknown".to_owned() } else { lifecycle };
    let mut line = format!("{channel} {account}: {lifecycle}");
    let name = out::string(state, "name");
    if !name.is_empty() {
        line.push_str(&format!(", {name}"));
    }
    let heard = out::ago(state, "lastTransportActivityAt");
    if !heard.is_empty() {
        line.push_str(&format!(", heard from its server {heard}"));
    }
    for (key, noun) in [("unknownDeliveries", "delivery"), ("failedDeliveries", "delivery")] {
        let number = state[key].as_u64().unwrap_or(0);
        let what = if key.starts_with("unknown") { "of unknown outcome" } else { "failed" };
        if number > 0 {
            line.push_str(&format!(", {number} {noun}{} {what}", if number == 1 { "" } else { "(s)" }));
        }
    }
    let error = out::string(state, "lastError");
    if !error.is_empty() {
        line.push_str(&format!(", last error: {error}"));
    }
    line
}
