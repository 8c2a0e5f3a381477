//! `tidegate nodes`: who lends a hand, and what they may do.

mod invoke;
mod show;

use clap::{Args as ClapArgs, Subcommand};
use serde_json::{Value, json};

use super::{Context, Failure, out};
use crate::client::Client;

#[derive(ClapArgs, Debug)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Every known node and whether it is connected
    Status(ListArgs),
    /// Paired nodes, and those that wait for approval
    List(ListArgs),
    /// Everything about one node
    Describe(NodeArg),
    /// Nodes whose commands wait for approval
    Pending,
    /// Let a node's commands be used
    Approve {
        /// From `nodes pending`
        #[arg(value_name = "REQUEST")]
        request_id: String,
    },
    /// Turn a request down
    Reject {
        /// From `nodes pending`
        #[arg(value_name = "REQUEST")]
        request_id: String,
    },
    /// Forget a node
    Remove(NodeArg),
    /// Give a node another name
    Rename {
        #[command(flatten)]
        node: NodeArg,
        /// The new name
        #[arg(long)]
        name: String,
    },
    /// Have a node run a command
    Invoke(invoke::Args),
}

#[derive(ClapArgs, Debug)]
struct ListArgs {
    /// Only connected ones
    #[arg(long)]
    connected: bool,
}

/// Which node.
#[derive(ClapArgs, Debug)]
pub(super) struct NodeArg {
    /// Id, the first characters of an id, or name
    #[arg(value_name = "NODE", required_unless_present = "by_flag")]
    node: Option<String>,
    /// The same
    #[arg(long = "node", id = "by_flag", value_name = "NODE", conflicts_with = "node")]
    by_flag: Option<String>,
}

impl NodeArg {
    fn text(&self) -> &str {
        self.by_flag.as_deref().or(self.node.as_deref()).unwrap_or_default()
    }
}

pub(super) async fn run(context: &Context, args: Args) -> Result<(), Failure> {
    let (client, _) = context.connect().await?;
    let call = Call { context, client: &client };
    let done = match args.command {
        Command::Status(args) => show::status(&call, args.connected).await,
        Command::List(args) => show::list(&call, args.connected).await,
        Command::Describe(node) => show::describe(&call, node.text()).await,
        Command::Pending => show::pending(&call).await,
        Command::Approve { request_id } => approve(&call, &request_id).await,
        Command::Reject { request_id } => reject(&call, &request_id).await,
        Command::Remove(node) => remove(&call, node.text()).await,
        Command::Rename { node, name } => rename(&call, node.text(), &name).await,
        Command::Invoke(args) => invoke::run(&call, args).await,
    };
    client.close().await;
    done
}

/// One connection for all calls of a command.
struct Call<'a> {
    context: &'a Context,
    client: &'a Client,
}

impl Call<'_> {
    async fn ask(&self, method: &str, params: Value) -> Result<Value, Failure> {
        self.context.call_over(self.client, method, params).await
    }

    /// Prints an answer for scripts, or `text` for people.
    fn done(&self, answer: &Value, text: impl FnOnce() -> String) {
        if self.context.globals.json {
            out::json(answer);
        } else {
            out::line(text());
        }
    }

    async fn nodes(&self) -> Result<Value, Failure> {
        self.ask("node.list", json!({})).await
    }

    /// The one node that `text` names.
    async fn find(&self, text: &str) -> Result<(String, String), Failure> {
        let answer = self.nodes().await?;
        let nodes = out::list(&answer, "nodes");
        let found = pick(nodes, text)?;
        Ok((out::string(found, "nodeId"), show::name(found)))
    }
}

/// An id wins over a name, a name over the beginning of an id; connected nodes win over others.
fn pick<'a>(nodes: &'a [Value], text: &str) -> Result<&'a Value, Failure> {
    let ways: [&dyn Fn(&&Value) -> bool; 4] = [
        &|node| node["nodeId"] == text,
        &|node| node["remoteIp"] == text,
        &|node| {
            node["displayName"].as_str().is_some_and(|name| name.trim().eq_ignore_ascii_case(text.trim()))
        },
        &|node| text.len() >= 6 && out::string(node, "nodeId").starts_with(text),
    ];
    for way in ways {
        let mut found: Vec<&Value> = nodes.iter().filter(way).collect();
        if found.len() > 1 && found.iter().any(|node| node["connected"] == true) {
            found.retain(|node| node["connected"] == true);
        }
        match found.as_slice() {
            [] => {}
            [one] => return Ok(one),
            many => {
                let ids = many.iter().map(|node| out::string(node, "nodeId")).collect::<Vec<_>>().join(", ");
                return Err(Failure::failed(format!("`{text}` means several nodes: {ids}")));
            }
        }
    }
    let known = nodes.iter().map(show::name).collect::<Vec<_>>().join(", ");
    let known =
        if known.is_empty() { "no node is known".to_owned() } else { format!("known nodes: {known}") };
    Err(Failure::failed(format!("no node is called `{text}`; {known}")))
}

/// What was mistyped is told apart from what went wrong.
async fn expect_pending(call: &Call<'_>, request_id: &str) -> Result<(), Failure> {
    let list = call.ask("node.pair.list", json!({})).await?;
    if !out::list(&list, "pending").iter().any(|request| request["requestId"] == request_id) {
        return Err(Failure::failed(format!(
            "no node request {request_id} is pending; `tidegate nodes pending` lists them, \
             `tidegate devices list` those of devices"
        )));
    }
    Ok(())
}

async fn approve(call: &Call<'_>, request_id: &str) -> Result<(), Failure> {
    expect_pending(call, request_id).await?;
    let answer = call.ask("node.pair.approve", json!({"requestId": request_id})).await?;
    call.done(&answer, || {
        format!("approved {}: {}", show::name(&answer["node"]), out::joined(&answer["node"], "commands"))
    });
    Ok(())
}

async fn reject(call: &Call<'_>, request_id: &str) -> Result<(), Failure> {
    expect_pending(call, request_id).await?;
    let answer = call.ask("node.pair.reject", json!({"requestId": request_id})).await?;
    call.done(&answer, || format!("rejected {request_id}"));
    Ok(())
}

async fn remove(call: &Call<'_>, node: &str) -> Result<(), Failure> {
    let (id, name) = call.find(node).await?;
    let answer = call.ask("node.pair.remove", json!({"nodeId": id})).await?;
    call.done(&answer, || format!("removed {name}"));
    Ok(())
}

async fn rename(call: &Call<'_>, node: &str, to: &str) -> Result<(), Failure> {
    let (id, name) = call.find(node).await?;
    let answer = call.ask("node.rename", json!({"nodeId": id, "displayName": to})).await?;
    call.done(&answer, || format!("{name} is now {}", out::string(&answer, "displayName")));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_find_nodes() {
        let nodes = [
            json!({"nodeId": "aaaaaaaa1", "displayName": "Kitchen", "connected": false}),
            json!({"nodeId": "aaaaaaaa2", "displayName": "kitchen", "connected": true}),
            json!({"nodeId": "bbbbbbbb", "displayName": "aaaaaaaa1"}),
        ];
        let id = |text: &str| pick(&nodes, text).map(|node| out::string(node, "nodeId"));
        assert_eq!(id("aaaaaaaa1").unwrap(), "aaaaaaaa1");
        assert_eq!(id("kitchen").unwrap(), "aaaaaaaa2");
        assert_eq!(id("bbbbbb").unwrap(), "bbbbbbbb");
        assert!(id("bbb").unwrap_err().to_string().contains("no node is called `bbb`"));
    }
}
