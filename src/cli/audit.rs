//! `tidegate audit`.

use clap::Args as ClapArgs;
use serde_json::{Value, json};

use super::{Context, Failure, out};

#[derive(ClapArgs, Debug)]
pub(super) struct Args {
    /// At most so many
    #[arg(long, default_value_t = 100, value_name = "NUMBER")]
    limit: u32,
    /// Go on where the page before ended
    #[arg(long, value_name = "CURSOR")]
    cursor: Option<String>,
}

pub(super) async fn run(context: &Context, args: Args) -> Result<(), Failure> {
    let mut params = json!({"limit": args.limit});
    if let Some(cursor) = args.cursor {
        params["cursor"] = json!(cursor);
    }
    let answer = context.call("audit.access.list", params).await?;
    if context.globals.json {
        out::json(&answer);
    } else {
        print(&answer);
    }
    Ok(())
}

fn print(answer: &Value) {
    let events = out::list(answer, "events");
    if events.is_empty() {
        out::line("nobody was refused");
        return;
    }
    let mut table = out::Table::new(["LAST", "TRIES", "ADDRESS", "CLIENT", "ROLE", "WHY"]);
    for event in events {
        table.row([
            out::ago(event, "lastAt"),
            out::string(event, "tries"),
            out::string(event, "address"),
            out::string(event, "clientId"),
            out::string(event, "role"),
            out::string(event, "code"),
        ]);
    }
    table.print();
    let next = out::string(answer, "nextCursor");
    if !next.is_empty() {
        out::note(format!("older ones: --cursor {next}"));
    }
}
