//! `tidegate agent`: one turn, with its answer.

use std::{io::Read, time::Duration};

use clap::Args as ClapArgs;
use serde_json::{Value, json};

use super::{Context, Failure, out};

/// How long a turn may take unless told otherwise.
const PATIENCE: Duration = Duration::from_secs(600);

#[derive(ClapArgs, Debug)]
#[command(after_help = "\
A bare number for --timeout counts seconds here.

Examples:
  tidegate agent --message \"/nodes\"
  tidegate agent --message \"what is running on kitchen?\" --session-key home
  git diff | tidegate agent --message-file - --timeout 5m")]
pub(super) struct Args {
    /// What to say
    #[arg(long, short, required_unless_present = "message_file")]
    message: Option<String>,
    /// Read it from a file, or from standard input with `-`
    #[arg(long, value_name = "FILE", conflicts_with = "message")]
    message_file: Option<String>,
    /// Which agent
    #[arg(long, value_name = "ID")]
    agent: Option<String>,
    /// Which conversation
    #[arg(long, value_name = "KEY")]
    session_key: Option<String>,
    /// The same by id
    #[arg(long, value_name = "ID", conflicts_with = "session_key")]
    session_id: Option<String>,
    /// Another model for this turn
    #[arg(long, value_name = "PROVIDER/MODEL")]
    model: Option<String>,
    /// How hard to think
    #[arg(long, value_name = "LEVEL")]
    thinking: Option<String>,
    /// Send the answer to a channel as well
    #[arg(long)]
    deliver: bool,
    /// The channel for --deliver
    #[arg(long, visible_alias = "channel", value_name = "CHANNEL")]
    reply_channel: Option<String>,
    /// The chat for --deliver
    #[arg(long, visible_alias = "to", value_name = "CHAT")]
    reply_to: Option<String>,
    /// The channel's account for --deliver
    #[arg(long, value_name = "ID")]
    reply_account: Option<String>,
}

pub(super) async fn run(context: &Context, args: Args) -> Result<(), Failure> {
    let patience = context.globals.timeout.map_or(PATIENCE, |span| span.or_seconds());
    let params = params(&args, patience)?;
    let (client, _) = context.connect().await?;
    // The gateway's own deadline comes first, with a better answer than ours.
    let grace = patience + Duration::from_secs(10);
    let (_, later) = client.call_twice("agent", &params, Duration::from_secs(30)).await?;
    let answer = later.wait(grace).await;
    client.close().await;
    let answer: Value = tidegate_protocol::lenient::from_str(answer?.get())
        .map_err(|error| Failure::failed(format!("the answer can't be read: {error}")))?;
    print(context, &answer);
    match answer["status"].as_str() {
        Some("ok") => Ok(()),
        Some(status) => Err(Failure::failed(format!("the turn ended: {status}"))),
        None => Err(Failure::failed("the turn ended without a word")),
    }
}

fn params(args: &Args, patience: Duration) -> Result<Value, Failure> {
    let message = message(args)?;
    if message.trim().is_empty() {
        return Err(Failure::usage("the message is empty"));
    }
    let mut params = json!({
        "message": message,
        "deliver": args.deliver,
        "timeout": patience.as_secs().max(1),
        "idempotencyKey": uuid::Uuid::new_v4().to_string(),
    });
    let given = [
        ("agentId", &args.agent),
        ("sessionKey", &args.session_key),
        ("sessionId", &args.session_id),
        ("model", &args.model),
        ("thinking", &args.thinking),
        ("replyChannel", &args.reply_channel),
        ("replyTo", &args.reply_to),
        ("replyAccountId", &args.reply_account),
    ];
    for (key, value) in given {
        if let Some(value) = value {
            params[key] = json!(value);
        }
    }
    Ok(params)
}

fn message(args: &Args) -> Result<String, Failure> {
    let failed = |name: &str, error: std::io::Error| Failure::usage(format!("can't read {name}: {error}"));
    match (&args.message, args.message_file.as_deref()) {
        (Some(message), _) => Ok(message.clone()),
        (None, Some("-")) => {
            let mut text = String::new();
            std::io::stdin().read_to_string(&mut text).map_err(|error| failed("standard input", error))?;
            Ok(text)
        }
        (None, Some(path)) => std::fs::read_to_string(path).map_err(|error| failed(path, error)),
        (None, None) => Ok(String::new()),
    }
}

fn print(context: &Context, answer: &Value) {
    if context.globals.json {
        out::json(answer);
        return;
    }
    for payload in out::list(&answer["result"], "payloads") {
        let text = out::string(payload, "text");
        if !text.is_empty() {
            out::text(&text);
        }
        let media = out::string(payload, "mediaUrl");
        if !media.is_empty() {
            out::line(format!("[file] {media}"));
        }
    }
}
