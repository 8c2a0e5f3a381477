//! The command line: one file for each group of commands.

mod agent;
mod audit;
mod channels;
mod configuration;
mod connect;
mod context;
mod devices;
mod dns;
mod failure;
mod gateway;
mod globals;
mod health;
mod logs;
mod message;
mod node;
mod nodes;
mod out;
mod pairing;
mod profiles;
mod qr;
mod remote;
mod sessions;
mod status;
mod target;
mod tunnel;

use std::process::ExitCode;

use clap::{
    Parser, Subcommand,
    error::{ContextKind, ErrorKind},
};

use self::{context::Context, failure::Failure, globals::Globals};
use crate::gateway::claim_launcher;
use crate::telemetry::{Log, LogOptions};

/// An always-on gateway for a personal AI agent.
#[derive(Parser, Debug)]
#[command(name = "tidegate", version, arg_required_else_help = true, after_help = EXAMPLES)]
#[command(subcommand_required = true, infer_long_args = false, disable_help_subcommand = true)]
struct Cli {
    #[command(flatten)]
    globals: Globals,
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  tidegate gateway run                         start the gateway on this machine
  tidegate node run                            offer this machine to the gateway as a node
  tidegate agent --message \"/nodes\"            ask the agent
  tidegate nodes invoke --node pi --command system.which --params '{\"bins\":[\"git\"]}'
  tidegate logs --follow
  tidegate status --ssh user@gateway-host      ask a gateway elsewhere
  tidegate config set agents.defaults.model anthropic/claude-sonnet-4-5

Exit codes: 0 done, 1 failed or refused, 2 wrong usage, 69 gateway unreachable,
77 not authorised, 78 unusable configuration.";

#[derive(Subcommand, Debug)]
enum Command {
    /// Run the gateway, or ask about a running one
    Gateway(gateway::Args),
    /// The gateway's health
    Health(health::Args),
    /// What runs, and how it is doing
    Status(status::Args),
    /// Nodes: machines that lend the agent their hands
    Nodes(nodes::Args),
    /// Devices that may connect: pairing and tokens
    Devices(devices::Args),
    /// People who may write to the agent's channels
    Pairing(pairing::Args),
    /// Channels such as Telegram
    Channels(channels::Args),
    /// Conversations
    Sessions(sessions::Args),
    /// Run one turn of the agent
    Agent(agent::Args),
    /// Send a message to a channel
    Message(message::Args),
    /// The gateway's log
    Logs(logs::Args),
    /// Who was not let in
    Audit(audit::Args),
    /// The config file
    Config(configuration::Args),
    /// A domain that lists this gateway, where multicast doesn't reach
    Dns(dns::Args),
    /// The gateway elsewhere that commands talk to
    Remote(remote::Args),
    /// Hold an SSH tunnel to a gateway open
    Tunnel(tunnel::Args),
    /// Be a node: offer this machine to a gateway
    Node(node::Args),
    /// Become another program that ends with the gateway which started this
    #[command(name = claim_launcher::COMMAND, hide = true)]
    HoldClaim(HoldClaim),
}

#[derive(clap::Args, Debug)]
struct HoldClaim {
    /// The gateway's process id
    #[arg(long)]
    parent: u32,
    #[arg(last = true, required = true)]
    program: Vec<std::ffi::OsString>,
}

/// Runs the command that this process was started with.
pub fn run() -> ExitCode {
    let Cli { globals, command } = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) if error.use_stderr() => {
            let json = asks_for_json(std::env::args_os());
            // clap would list the commands in one line, with those that are hidden.
            if !json && error.kind() != ErrorKind::MissingSubcommand {
                error.exit();
            }
            let failure = misunderstood(&error);
            report(&failure, json);
            return ExitCode::from(failure.code());
        }
        Err(error) => error.exit(),
    };
    let json = globals.json;
    match dispatch(Context::new(globals), command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            report(&failure, json);
            ExitCode::from(failure.code())
        }
    }
}

/// Whether `--json` stands on a command line that can't be parsed; behind `--` it would be an argument.
fn asks_for_json(mut words: impl Iterator<Item = std::ffi::OsString>) -> bool {
    words.by_ref().take_while(|word| word != "--").any(|word| word == "--json")
}

/// What clap says is wrong, without the usage that it prints below.
fn misunderstood(error: &clap::Error) -> Failure {
    match error.kind() {
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            return Failure::usage("a command is missing; --help lists them");
        }
        ErrorKind::MissingSubcommand => {
            let of = error.get(ContextKind::InvalidSubcommand).map_or_else(String::new, ToString::to_string);
            return Failure::usage(format!("a command is missing; `{of} --help` lists them"));
        }
        _ => {}
    }
    let text = error.render().to_string();
    let said = text.split("\n\n").next().unwrap_or_default();
    let words: Vec<&str> = said.strip_prefix("error: ").unwrap_or(said).split_whitespace().collect();
    Failure::usage(words.join(" "))
}

fn report(failure: &Failure, json: bool) {
    if matches!(failure, Failure::Told) {
        return;
    }
    if json {
        out::json(&failure.json());
        return;
    }
    out::note(format!("error: {}", failure.in_full()));
    if let Some(advice) = failure.advice() {
        out::note(format!("help: {advice}"));
    }
}

fn dispatch(context: Context, command: Command) -> Result<(), Failure> {
    let command = match command {
        // These have a life of their own: their log and their runtime.
        Command::Gateway(args) if args.runs() => return gateway::run(&context, args),
        Command::Node(args) => return node::run(&context, args),
        Command::HoldClaim(HoldClaim { parent, program }) => {
            let error = claim_launcher::become_program(parent, &program);
            return Err(Failure::failed(format!("exec failed: {error}")));
        }
        other => other,
    };
    let _log = Log::start(LogOptions::command(context.globals.verbose))
        .map_err(|error| Failure::failed(format!("can't start the log: {error}")))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::failed(format!("can't start: {error}")))?;
    runtime.block_on(ask(&context, command))
}

async fn ask(context: &Context, command: Command) -> Result<(), Failure> {
    match command {
        Command::Gateway(args) => gateway::ask(context, args).await,
        Command::Health(args) => health::run(context, args).await,
        Command::Status(args) => status::run(context, args).await,
        Command::Nodes(args) => nodes::run(context, args).await,
        Command::Devices(args) => devices::run(context, args).await,
        Command::Pairing(args) => pairing::run(context, args).await,
        Command::Channels(args) => channels::run(context, args).await,
        Command::Sessions(args) => sessions::run(context, args).await,
        Command::Agent(args) => agent::run(context, args).await,
        Command::Message(args) => message::run(context, args).await,
        Command::Logs(args) => logs::run(context, args).await,
        Command::Audit(args) => audit::run(context, args).await,
        Command::Config(args) => configuration::run(context, args),
        Command::Remote(args) => remote::run(context, args),
        Command::Tunnel(args) => tunnel::run(context, args).await,
        Command::Node(_) | Command::HoldClaim(_) => {
            Err(Failure::usage("this command has a runtime of its own"))
        }
        Command::Dns(args) => dns::run(context, args),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }

    #[test]
    fn flags_stand_before_or_after_the_command() {
        let cli = |line: &str| Cli::try_parse_from(line.split(' ')).unwrap();
        assert!(cli("tidegate --json nodes list").globals.json);
        assert!(cli("tidegate nodes list --json").globals.json);
        assert_eq!(cli("tidegate gateway run --port 1").globals.port, Some(1));
        assert_eq!(cli("tidegate gateway --token t").globals.token.as_deref(), Some("t"));
        assert!(Cli::try_parse_from(["tidegate", "health", "--url", "ws://x", "--port", "1"]).is_err());
    }
}
