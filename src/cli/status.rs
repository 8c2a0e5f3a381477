//! `tidegate status`: what runs, and how it is doing.

use clap::Args as ClapArgs;
use serde_json::{Value, json};

use super::{Context, Failure, health, out, profiles};

#[derive(ClapArgs, Debug)]
pub(super) struct Args {
    /// Show every part of the gateway: state, restarts, last error
    #[arg(long, visible_alias = "all")]
    deep: bool,
    /// List every profile's gateway on this machine instead
    #[arg(long, conflicts_with_all = ["deep", "url", "ssh"])]
    all_profiles: bool,
}

pub(super) async fn run(context: &Context, args: Args) -> Result<(), Failure> {
    if args.all_profiles {
        return profiles::run(context).await;
    }
    let target = context.target()?;
    let (client, _) = context.connect().await?;
    let mut answer = context.call_over(&client, "status", json!({})).await?;
    answer["gateway"] = json!({"url": target.endpoint.to_string(), "version": client.hello().server.version});
    if args.deep {
        answer["health"] = context.call_over(&client, "health", json!({})).await?;
        answer["tree"] = context.call_over(&client, "system.tree", json!({})).await?["children"].clone();
    }
    client.close().await;
    if context.globals.json {
        out::json(&answer);
        return Ok(());
    }
    print(&answer);
    if args.deep {
        print_tree(&answer);
    }
    Ok(())
}

fn print(answer: &Value) {
    let mut facts = out::Facts::default();
    facts.add(
        "gateway",
        format!(
            "{}, version {}",
            out::string(&answer["gateway"], "url"),
            out::string(answer, "runtimeVersion")
        ),
    );
    if let Some(tailscale) = tailscale(&answer["tailscale"]) {
        facts.add("tailscale", tailscale);
    }
    if let Some(ms) = answer["uptimeMs"].as_i64() {
        facts.add("up", out::span(ms / 1000));
    }
    if let Some(bytes) = answer["processMemory"]["rssBytes"].as_f64() {
        facts.add("memory", format!("{:.1} MB", bytes / 1e6));
    }
    facts.add("connections", out::string(answer, "connections"));
    let model = out::string(&answer["sessions"]["defaults"], "model");
    facts.add("model", if model.is_empty() { "none configured".to_owned() } else { model });
    facts.add("sessions", out::string(&answer["sessions"], "count"));
    for line in out::list(answer, "channelSummary").iter().filter_map(Value::as_str) {
        facts.add("channel", line);
    }
    for part in out::list(answer, "unwell") {
        facts.add("not well", part.as_str().map_or_else(|| describe(part), str::to_owned));
    }
    facts.print();
}

/// The way in through the tailnet in words, if the gateway looks after one.
pub(super) fn tailscale(answer: &Value) -> Option<String> {
    let said = |key| out::string(answer, key);
    let mode = said("mode");
    match said("state").as_str() {
        "active" => {
            let url = said("url");
            Some(format!("{mode}, {}", if url.is_empty() { "active".to_owned() } else { url }))
        }
        "starting" => Some(format!("{mode}, starting")),
        "waiting" => Some(format!("{mode}, waiting for the local daemon ({})", said("reason"))),
        "down" => Some(format!("{mode}, not reachable: {}", said("error"))),
        _ => None,
    }
}

fn describe(part: &Value) -> String {
    let (path, state, error) =
        (out::string(part, "path"), out::string(part, "state"), out::string(part, "lastError"));
    if error.is_empty() { format!("{path} {state}") } else { format!("{path} {state}: {error}") }
}

fn print_tree(answer: &Value) {
    out::line("");
    let mut table = out::Table::new(["PART", "STATE", "SINCE", "RESTARTS", "WAITING", "LAST ERROR"]);
    for child in out::list(answer, "tree") {
        add(&mut table, child, 0);
    }
    table.print();
    let channels = health::channels(&answer["health"]);
    if !channels.is_empty() {
        out::line("");
        channels.iter().for_each(out::line);
    }
}

fn add(table: &mut out::Table, child: &Value, depth: usize) {
    table.row([
        format!("{}{}", "  ".repeat(depth), out::string(child, "name")),
        out::string(child, "state"),
        out::ago(child, "startedAtMs"),
        out::string(child, "restarts"),
        out::string(child, "waiting"),
        out::string(child, "lastError"),
    ]);
    for child in out::list(child, "children") {
        add(table, child, depth + 1);
    }
}
