//! `tidegate message`: write to a chat by hand.

use clap::{Args as ClapArgs, Subcommand};
use serde_json::json;

use super::{Context, Failure, out};

#[derive(ClapArgs, Debug)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Send a message
    #[command(
        after_help = "Example:\n  tidegate message send --target 123456789 --message \"dinner is ready\""
    )]
    Send(SendArgs),
}

#[derive(ClapArgs, Debug)]
struct SendArgs {
    /// Which channel
    #[arg(long, default_value = "telegram")]
    channel: String,
    /// Which of the channel's accounts
    #[arg(long, value_name = "ID")]
    account: Option<String>,
    /// The chat
    #[arg(long, short, allow_hyphen_values = true)]
    target: String,
    /// What to say
    #[arg(long, short, required_unless_present = "media")]
    message: Option<String>,
    /// A file to send, by its path on the gateway's machine or its address
    #[arg(long, value_name = "FILE")]
    media: Option<String>,
    /// The message that this answers
    #[arg(long, value_name = "ID")]
    reply_to: Option<String>,
    /// The topic
    #[arg(long, value_name = "ID")]
    thread_id: Option<String>,
    /// Without a sound
    #[arg(long)]
    silent: bool,
}

pub(super) async fn run(context: &Context, args: Args) -> Result<(), Failure> {
    let Command::Send(args) = args.command;
    let mut params = json!({
        "channel": args.channel,
        "action": "send",
        "params": {"channel": args.channel, "target": args.target, "to": args.target, "silent": args.silent},
        "senderIsOwner": true,
        "agentId": "main",
        "idempotencyKey": uuid::Uuid::new_v4().to_string(),
    });
    if let Some(account) = &args.account {
        params["accountId"] = json!(account);
    }
    let given = [
        ("message", &args.message),
        ("media", &args.media),
        ("replyTo", &args.reply_to),
        ("threadId", &args.thread_id),
    ];
    for (key, value) in given {
        if let Some(value) = value {
            params["params"][key] = json!(value);
        }
    }
    let answer = context.call("message.action", params).await?;
    let queued = out::string(&answer, "status") == "queued";
    if context.globals.json {
        out::json(&answer);
        return if queued { Err(Failure::Told) } else { Ok(()) };
    }
    if queued {
        let error = out::string(&answer, "lastError");
        let error =
            if error.is_empty() { "no error so far".to_owned() } else { format!("last error: {error}") };
        return Err(Failure::failed(format!(
            "queued: {} has not taken it yet ({error}); the gateway goes on trying for a day",
            args.channel
        )));
    }
    let id = out::string(&answer, "messageId");
    let id = if id.is_empty() { String::new() } else { format!(", message {id}") };
    out::line(format!("sent on {}{id}", args.channel));
    Ok(())
}
