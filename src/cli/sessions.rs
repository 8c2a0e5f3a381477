//! `tidegate sessions`.

use clap::{Args as ClapArgs, Subcommand};
use serde_json::{Value, json};

use super::{Context, Failure, out};

#[derive(ClapArgs, Debug)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    list: ListArgs,
}

#[derive(ClapArgs, Clone, Debug)]
struct ListArgs {
    /// Only sessions used within so many minutes
    #[arg(long, value_name = "MINUTES")]
    active: Option<u32>,
    /// At most so many
    #[arg(long, default_value_t = 100, value_name = "NUMBER")]
    limit: u32,
    /// Only this agent's
    #[arg(long, value_name = "ID")]
    agent: Option<String>,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// The conversations, newest first
    List(ListArgs),
}

pub(super) async fn run(context: &Context, args: Args) -> Result<(), Failure> {
    let ListArgs { active, limit, agent } = match args.command {
        Some(Command::List(list)) => list,
        None => args.list,
    };
    let mut params = json!({"limit": limit});
    if let Some(minutes) = active {
        params["activeMinutes"] = json!(minutes);
    }
    if let Some(agent) = agent {
        params["agentId"] = json!(agent);
    }
    let answer = context.call("sessions.list", params).await?;
    if context.globals.json {
        out::json(&answer);
    } else {
        print(&answer);
    }
    Ok(())
}

fn print(answer: &Value) {
    let sessions = out::list(answer, "sessions");
    if sessions.is_empty() {
        out::line("no sessions yet");
        return;
    }
    let mut table = out::Table::new(["SESSION", "KIND", "USED", "MODEL", "TOKENS"]);
    for session in sessions {
        table.row([
            out::string(session, "key"),
            out::string(session, "kind"),
            out::ago(session, "updatedAt"),
            out::string(session, "model"),
            out::string(session, "totalTokens"),
        ]);
    }
    table.print();
    if answer["hasMore"] == true {
        out::note(format!("{} in all; --limit shows more", out::string(answer, "totalCount")));
    }
}
