//! `tidegate pairing`: people who write to the bot for the first time.

use clap::{Args as ClapArgs, Subcommand};
use serde_json::{Value, json};

use super::{Context, Failure, channels, out};
use tidegate_actors::channels::TELEGRAM;

#[derive(ClapArgs, Debug)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// People who wait to be let in
    List(ListArgs),
    /// Let somebody in, by the code that the bot gave them
    #[command(after_help = "Example:\n  tidegate pairing approve telegram 7KQ2M9XA")]
    Approve {
        /// The code; the channel may stand before it
        #[arg(required = true, num_args = 1..=2, value_name = "CODE")]
        words: Vec<String>,
        #[command(flatten)]
        place: PlaceArgs,
        /// Tell them, on the channel
        #[arg(long)]
        notify: bool,
    },
}

#[derive(ClapArgs, Debug)]
struct ListArgs {
    /// Only this channel
    #[arg(value_name = "CHANNEL")]
    word: Option<String>,
    #[command(flatten)]
    place: PlaceArgs,
}

#[derive(ClapArgs, Debug)]
struct PlaceArgs {
    /// Which channel
    #[arg(long)]
    channel: Option<String>,
    /// Which of the channel's accounts
    #[arg(long, value_name = "ID")]
    account: Option<String>,
}

pub(super) async fn run(context: &Context, args: Args) -> Result<(), Failure> {
    match args.command {
        Command::List(ListArgs { word, place }) => list(context, word.or(place.channel), place.account).await,
        Command::Approve { mut words, place, notify } => {
            let code = words.pop().unwrap_or_default();
            let channel = words.pop().or(place.channel);
            if channel.is_none() && code.eq_ignore_ascii_case(TELEGRAM) {
                return Err(Failure::usage(format!(
                    "the code is missing: tidegate pairing approve {TELEGRAM} CODE; `tidegate pairing list` shows those \
                     that wait"
                )));
            }
            approve(context, &code, channel, place.account, notify).await
        }
    }
}

async fn requests(context: &Context, channel: Option<&str>, account: Option<&str>) -> Result<Value, Failure> {
    let mut params = json!({});
    if let Some(channel) = channel {
        params["channel"] = json!(channel);
    }
    if let Some(account) = account {
        params["accountId"] = json!(account);
    }
    context.call("channels.pairing.list", params).await
}

async fn list(context: &Context, channel: Option<String>, account: Option<String>) -> Result<(), Failure> {
    let answer = requests(context, channel.as_deref(), account.as_deref()).await?;
    if context.globals.json {
        out::json(&answer);
        return Ok(());
    }
    let waiting = out::list(&answer, "requests");
    if waiting.is_empty() {
        out::line("nobody waits to be let in");
        return Ok(());
    }
    let mut table = out::Table::new(["CHANNEL", "ACCOUNT", "CODE", "WHO", "ID", "SINCE"]);
    for request in waiting {
        table.row([
            out::string(request, "channel"),
            out::string(request, "accountId"),
            out::string(request, "requestId"),
            out::string(request, "senderLabel"),
            out::string(request, "senderId"),
            out::string(request, "createdAt"),
        ]);
    }
    table.print();
    Ok(())
}

async fn approve(
    context: &Context,
    code: &str,
    channel: Option<String>,
    account: Option<String>,
    notify: bool,
) -> Result<(), Failure> {
    let answer = requests(context, channel.as_deref(), account.as_deref()).await?;
    let wanted = code.trim();
    let found = out::list(&answer, "requests").iter().find(|request| {
        ["requestId", "code"].iter().any(|key| out::string(request, key).eq_ignore_ascii_case(wanted))
    });
    let found = found.ok_or_else(|| {
        let place = channel.map(|channel| format!(" on {channel}")).unwrap_or_default();
        Failure::failed(format!(
            "nobody waits{place} with the code {wanted}; `tidegate pairing list` shows those that do"
        ))
    })?;
    let channel = out::string(found, "channel");
    let params = json!({
        "channel": channel,
        "accountId": found["accountId"],
        "requestId": found["requestId"],
        "notify": notify,
        "bootstrapCommandOwner": true,
    });
    let done = context.call("channels.pairing.approve", params).await?;
    if context.globals.json {
        out::json(&done);
        return Ok(());
    }
    out::line(format!("{} may write on {channel} now", out::string(&done, "senderId")));
    if done["commandOwnerBootstrap"] == "configured" {
        out::line("as the first one, they are the owner");
    }
    // An older gateway, or one that lets us see less, has nothing to add.
    let status = context.call("channels.status", json!({"channel": channel})).await.unwrap_or_default();
    for warning in channels::settings_issues(&status) {
        out::note(format!("warning: {warning}"));
    }
    Ok(())
}
