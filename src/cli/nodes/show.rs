//! What there is to see about nodes.

use serde_json::{Value, json};

use super::Call;
use crate::cli::{Failure, out};

/// What people call a node.
pub(super) fn name(node: &Value) -> String {
    let name = out::string(node, "displayName");
    if name.is_empty() { out::short(&out::string(node, "nodeId")) } else { name }
}

pub(super) async fn status(call: &Call<'_>, connected: bool) -> Result<(), Failure> {
    let answer = filtered(call.nodes().await?, connected);
    if call.context.globals.json {
        out::json(&answer);
        return Ok(());
    }
    let nodes = out::list(&answer, "nodes");
    let number = |test: fn(&&Value) -> bool| nodes.iter().filter(test).count();
    let paired = number(|node| node["paired"] == true);
    let here = number(|node| node["connected"] == true);
    out::line(format!("{}, {paired} paired, {here} connected", out::count(nodes.len(), "node")));
    print_nodes(nodes);
    Ok(())
}

pub(super) async fn list(call: &Call<'_>, connected: bool) -> Result<(), Failure> {
    let mut answer = filtered(call.nodes().await?, connected);
    let pairing = call.ask("node.pair.list", json!({})).await?;
    answer["pending"] = pairing["pending"].clone();
    if call.context.globals.json {
        out::json(&answer);
        return Ok(());
    }
    let (nodes, pending) = (out::list(&answer, "nodes"), out::list(&answer, "pending"));
    out::line(format!("{}, {} waiting for approval", out::count(nodes.len(), "node"), pending.len()));
    print_nodes(nodes);
    if !pending.is_empty() {
        out::line("");
        print_pending(pending);
    }
    Ok(())
}

pub(super) async fn pending(call: &Call<'_>) -> Result<(), Failure> {
    let answer = call.ask("node.pair.list", json!({})).await?;
    let pending = out::list(&answer, "pending");
    if call.context.globals.json {
        out::json(&json!(pending));
    } else if pending.is_empty() {
        out::line("no node waits for approval");
    } else {
        print_pending(pending);
        out::note("approve with: tidegate nodes approve REQUEST");
    }
    Ok(())
}

pub(super) async fn describe(call: &Call<'_>, node: &str) -> Result<(), Failure> {
    let (id, _) = call.find(node).await?;
    let node = call.ask("node.describe", json!({"nodeId": id})).await?;
    if call.context.globals.json {
        out::json(&node);
        return Ok(());
    }
    let mut facts = out::Facts::default();
    facts.add("name", name(&node));
    facts.add("id", out::string(&node, "nodeId"));
    facts.add("state", state(&node));
    facts.add("approval", out::string(&node, "approvalState"));
    facts.add("platform", out::string(&node, "platform"));
    facts.add("version", out::string(&node, "version"));
    facts.add("address", out::string(&node, "remoteIp"));
    facts.add("last seen", out::ago(&node, "lastSeenAtMs"));
    facts.add("host", stats(&node["hostStats"]));
    facts.add("capabilities", out::joined(&node, "caps"));
    facts.add("commands", out::joined(&node, "commands"));
    facts.add("waiting for approval", out::joined(&node, "pendingDeclaredCommands"));
    let request = out::string(&node, "pendingRequestId");
    if !request.is_empty() {
        facts.add("approve with", format!("tidegate nodes approve {request}"));
    }
    facts.print();
    Ok(())
}

fn filtered(mut answer: Value, connected: bool) -> Value {
    if connected && let Some(nodes) = answer["nodes"].as_array_mut() {
        nodes.retain(|node| node["connected"] == true);
    }
    answer
}

fn print_nodes(nodes: &[Value]) {
    if nodes.is_empty() {
        return;
    }
    let mut table =
        out::Table::new(["NODE", "ID", "STATE", "APPROVAL", "COMMANDS", "PLATFORM", "SEEN", "HOST"])
            .fitting(&[7, 0]);
    for node in nodes {
        table.row([
            name(node),
            out::short(&out::string(node, "nodeId")),
            state(node),
            out::string(node, "approvalState"),
            out::list(node, "commands").len().to_string(),
            out::string(node, "platform"),
            out::ago(node, "lastSeenAtMs"),
            stats(&node["hostStats"]),
        ]);
    }
    table.print();
}

fn print_pending(pending: &[Value]) {
    let mut table = out::Table::new(["REQUEST", "NODE", "PLATFORM", "ASKED", "COMMANDS"]).fitting(&[4, 1]);
    for request in pending {
        table.row([
            out::string(request, "requestId"),
            name(request),
            out::string(request, "platform"),
            out::ago(request, "ts"),
            out::joined(request, "commands"),
        ]);
    }
    table.print();
}

fn state(node: &Value) -> String {
    if node["connected"] == true { "connected" } else { "offline" }.to_owned()
}

/// `load 0.3/2, 3.1 of 8.0 GB`.
fn stats(stats: &Value) -> String {
    let gigabytes = |key: &str| stats[key].as_f64().map(|bytes| bytes / 1024.0 / 1024.0 / 1024.0);
    let mut parts = Vec::new();
    if let (Some(load), Some(cpus)) = (stats["loadAverage"][0].as_f64(), stats["cpuCount"].as_u64()) {
        parts.push(format!("load {load:.1}/{cpus}"));
    }
    if let (Some(total), Some(free)) = (gigabytes("memoryTotalBytes"), gigabytes("memoryFreeBytes")) {
        parts.push(format!("{:.1} of {total:.1} GB", total - free));
    }
    parts.join(", ")
}
