//! `tidegate nodes invoke`.

use std::time::Duration;

use clap::Args as ClapArgs;
use serde_json::{Value, json};

use super::{Call, NodeArg};
use crate::{
    cli::{Failure, globals::Span, out},
    client::CALL_TIMEOUT,
};

#[derive(ClapArgs, Debug)]
#[command(
    after_help = "Example:\n  tidegate nodes invoke --node kitchen --command system.which --params '{\"bins\":[\"git\"]}'"
)]
pub(in crate::cli) struct Args {
    #[command(flatten)]
    node: NodeArg,
    /// Name of the command, as `nodes describe` lists it
    #[arg(long)]
    command: String,
    /// Its params, a JSON object
    #[arg(long, default_value = "{}", value_name = "JSON")]
    params: String,
    /// How long the node may take; no longer than --timeout
    #[arg(long, default_value = "15s", value_name = "TIME")]
    invoke_timeout: Span,
    /// The same key never runs the command twice
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
}

pub(super) async fn run(call: &Call<'_>, args: Args) -> Result<(), Failure> {
    let params: Value = serde_json::from_str(&args.params)
        .map_err(|error| Failure::usage(format!("--params is not JSON: {error}")))?;
    if args.idempotency_key.as_deref() == Some("") {
        return Err(Failure::usage("--idempotency-key must not be empty"));
    }
    let (id, name) = call.find(args.node.text()).await?;
    let timeout = args.invoke_timeout.or_milliseconds();
    // The gateway answers after the node or its deadline, whichever is first.
    let patience = call.context.timeout(CALL_TIMEOUT.max(timeout + Duration::from_secs(10)));
    // Nothing is to run on that nobody waits for.
    let timeout = timeout.min(patience);
    let request = json!({
        "nodeId": id,
        "command": args.command,
        "params": params,
        "timeoutMs": timeout.as_millis() as u64,
        "idempotencyKey": args.idempotency_key.unwrap_or_else(|| uuid::Uuid::new_v4().to_string()),
    });
    let answer: Value = call.client.call_within("node.invoke", &request, patience).await?;
    if call.context.globals.json {
        out::json(&answer);
    } else {
        print(&answer["payload"], &name);
    }
    if failed(&answer["payload"]) { Err(Failure::Told) } else { Ok(()) }
}

/// Whether the node answered that its program failed. What it returned is shown, and no exit code of ours: a script
/// could not tell it from ours.
fn failed(payload: &Value) -> bool {
    payload["success"] == false || payload["exitCode"].as_i64().is_some_and(|code| code != 0)
}

/// What a program printed is shown as it is; anything else as JSON.
fn print(payload: &Value, name: &str) {
    let printed = ["stdout", "stderr"].map(|key| payload[key].as_str().unwrap_or_default());
    let printed = printed.iter().filter(|text| !text.is_empty());
    match (payload["exitCode"].as_i64(), payload["error"].as_str()) {
        (Some(code), _) => {
            printed.for_each(|text| out::text(text));
            if code != 0 {
                out::note(format!("exit code {code} on {name}"));
            }
        }
        // The program did not start, or it was ended.
        (None, Some(why)) if payload["success"] == false => {
            printed.for_each(|text| out::text(text));
            out::note(format!("error on {name}: {why}"));
        }
        _ if payload.is_null() => out::line("done"),
        _ => out::json(payload),
    }
}
