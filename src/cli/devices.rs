//! `tidegate devices`: who may connect.

mod join_code;

use clap::{Args as ClapArgs, Subcommand};
use serde_json::{Value, json};

use super::{Context, Failure, out};

#[derive(ClapArgs, Debug)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Paired devices, and those that ask to be
    List,
    /// Make a code that lets one new machine join, once, within ten minutes
    JoinCode(join_code::Args),
    /// Let a device in
    Approve {
        /// From `devices list`; without it, the newest request is shown and nothing is approved
        #[arg(value_name = "REQUEST")]
        request_id: Option<String>,
        /// Show the newest request
        #[arg(long)]
        latest: bool,
    },
    /// Turn a request down
    Reject {
        /// From `devices list`
        #[arg(value_name = "REQUEST")]
        request_id: String,
    },
    /// Forget a device and close its connections
    Remove {
        /// From `devices list`
        #[arg(value_name = "ID")]
        device_id: String,
    },
    /// Give a device a name of your own
    Rename {
        /// From `devices list`
        #[arg(long = "device", value_name = "ID")]
        device: String,
        /// The new name
        #[arg(long)]
        name: String,
    },
    /// Replace a device's token
    Rotate {
        #[command(flatten)]
        token: TokenArgs,
        /// Scope of the new token; repeat for more
        #[arg(long = "scope", value_name = "SCOPE")]
        scopes: Vec<String>,
        /// A token without scopes
        #[arg(long, conflicts_with = "scopes")]
        no_scopes: bool,
    },
    /// Take a device's token away
    Revoke(TokenArgs),
}

#[derive(ClapArgs, Debug)]
struct TokenArgs {
    /// From `devices list`
    #[arg(long, value_name = "ID")]
    device: String,
    /// operator or node
    #[arg(long)]
    role: String,
}

pub(super) async fn run(context: &Context, args: Args) -> Result<(), Failure> {
    match args.command {
        Command::List => list(context).await,
        Command::JoinCode(args) => join_code::run(context, args).await,
        Command::Approve { request_id: Some(request_id), latest: false } => {
            approve(context, &request_id).await
        }
        Command::Approve { .. } => preview(context).await,
        Command::Reject { request_id } => {
            expect_pending(context, &request_id).await?;
            simple(context, "device.pair.reject", json!({"requestId": request_id}), "rejected").await
        }
        Command::Remove { device_id } => {
            simple(context, "device.pair.remove", json!({"deviceId": device_id}), "removed").await
        }
        Command::Rename { device, name } => {
            let params = json!({"deviceId": device, "label": name});
            simple(context, "device.pair.rename", params, "renamed").await
        }
        Command::Rotate { token, scopes, no_scopes } => {
            let mut params = json!({"deviceId": token.device, "role": token.role});
            if no_scopes || !scopes.is_empty() {
                params["scopes"] = json!(scopes);
            }
            simple(context, "device.token.rotate", params, "rotated the token of").await
        }
        Command::Revoke(token) => {
            let params = json!({"deviceId": token.device, "role": token.role});
            simple(context, "device.token.revoke", params, "revoked the token of").await
        }
    }
}

async fn simple(context: &Context, method: &str, params: Value, done: &str) -> Result<(), Failure> {
    let answer = context.call(method, params).await?;
    if context.globals.json {
        out::json(&answer);
    } else {
        out::line(format!("{done} {}", out::short(&out::string(&answer, "deviceId"))));
    }
    Ok(())
}

/// What was mistyped is told apart from what went wrong.
async fn expect_pending(context: &Context, request_id: &str) -> Result<(), Failure> {
    let answer = context.call("device.pair.list", json!({})).await?;
    if out::list(&answer, "pending").iter().any(|request| request["requestId"] == request_id) {
        return Ok(());
    }
    Err(Failure::failed(format!(
        "no device request {request_id} is pending; `tidegate devices list` lists them, `tidegate nodes pending` those \
         of nodes"
    )))
}

async fn approve(context: &Context, request_id: &str) -> Result<(), Failure> {
    expect_pending(context, request_id).await?;
    let answer = context.call("device.pair.approve", json!({"requestId": request_id})).await?;
    if context.globals.json {
        out::json(&answer);
        return Ok(());
    }
    let device = &answer["device"];
    out::line(format!("approved {} as {}", name(device), out::joined(device, "roles")));
    if out::joined(device, "roles").contains("node") {
        out::note("its commands are approved apart: tidegate nodes pending");
    }
    Ok(())
}

/// Nothing is approved that nobody has looked at.
async fn preview(context: &Context) -> Result<(), Failure> {
    let answer = context.call("device.pair.list", json!({})).await?;
    let newest = out::list(&answer, "pending").iter().max_by_key(|request| request["ts"].as_i64());
    let Some(request) = newest else { return Err(Failure::failed("no device waits for approval")) };
    if !context.globals.json {
        print_pending(std::slice::from_ref(request));
    }
    Err(Failure::failed(format!(
        "to approve it: tidegate devices approve {}",
        out::string(request, "requestId")
    )))
}

async fn list(context: &Context) -> Result<(), Failure> {
    let answer = context.call("device.pair.list", json!({})).await?;
    if context.globals.json {
        out::json(&answer);
        return Ok(());
    }
    let (pending, paired) = (out::list(&answer, "pending"), out::list(&answer, "paired"));
    out::line(format!(
        "{} paired, {} waiting for approval",
        out::count(paired.len(), "device"),
        pending.len()
    ));
    if !pending.is_empty() {
        print_pending(pending);
        out::line("");
    }
    if !paired.is_empty() {
        print_paired(paired);
    }
    Ok(())
}

fn print_pending(pending: &[Value]) {
    let mut table = out::Table::new(["REQUEST", "DEVICE", "ROLE", "SCOPES", "FROM", "ASKED"]);
    for request in pending {
        table.row([
            out::string(request, "requestId"),
            name(request),
            out::string(request, "role"),
            scopes(request),
            out::string(request, "remoteIp"),
            out::ago(request, "ts"),
        ]);
    }
    table.print();
}

fn print_paired(paired: &[Value]) {
    let mut table = out::Table::new(["DEVICE", "NAME", "ROLES", "SCOPES", "STATE", "SEEN"]);
    for device in paired {
        table.row([
            out::string(device, "deviceId"),
            name(device),
            out::joined(device, "roles"),
            scopes(device),
            if device["connected"] == true { "connected" } else { "offline" }.to_owned(),
            out::ago(device, "lastSeenAtMs"),
        ]);
    }
    table.print();
}

fn scopes(device: &Value) -> String {
    out::joined(device, "scopes").replace("operator.", "")
}

fn name(device: &Value) -> String {
    let known = ["operatorLabel", "displayName", "clientId"].iter().map(|key| out::string(device, key));
    known
        .into_iter()
        .find(|name| !name.is_empty())
        .unwrap_or_else(|| out::short(&out::string(device, "deviceId")))
}
