//! `tidegate channels`.

use clap::{Args as ClapArgs, Subcommand};
use serde_json::{Value, json};

use super::{Context, Failure, health, out};

#[derive(ClapArgs, Debug)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Each channel account: whether it is connected, and what went wrong
    Status {
        /// Only this channel
        #[arg(long)]
        channel: Option<String>,
        /// Ask each channel's server as well
        #[arg(long)]
        probe: bool,
    },
}

pub(super) async fn run(context: &Context, args: Args) -> Result<(), Failure> {
    let Command::Status { channel, probe } = args.command;
    let mut params = json!({"probe": probe});
    if let Some(channel) = &channel {
        params["channel"] = json!(channel);
    }
    let answer = context.call("channels.status", params).await?;
    let known = out::list(&answer, "channelOrder");
    if let Some(name) = channel.as_deref().filter(|name| !known.iter().any(|known| known == name)) {
        return Err(Failure::failed(format!(
            "no channel called `{name}` is configured; `tidegate channels status` shows those that are"
        )));
    }
    if context.globals.json {
        out::json(&answer);
        return Ok(());
    }
    print(&answer, channel.as_deref());
    Ok(())
}

fn print(answer: &Value, only: Option<&str>) {
    let mut none = true;
    for (channel, accounts) in answer["channelAccounts"].as_object().into_iter().flatten() {
        if only.is_some_and(|only| only != channel) {
            continue;
        }
        for account in accounts.as_array().into_iter().flatten() {
            out::line(health::channel_line(channel, &out::string(account, "accountId"), account));
            none = false;
        }
    }
    for warning in settings_issues(answer) {
        out::note(format!("warning: {warning}"));
    }
    if none {
        out::line("no channel is configured");
        out::note("help: tidegate config set channels.telegram.botToken '\"123456:ABC...\"'");
    }
}

/// What is wrong with the settings of the channels, as far as a `channels.status` answer says.
pub(super) fn settings_issues(answer: &Value) -> Vec<String> {
    let issues = out::list(answer, "statusIssues").iter();
    issues.filter(|issue| issue["kind"] == "config").map(|issue| out::string(issue, "message")).collect()
}
