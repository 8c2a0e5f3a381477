//! `tidegate gateway`: run one, or ask about a running one.

mod banner;
mod discover;
mod probe;
mod run;
mod status;

use clap::{Args as ClapArgs, Subcommand};
use serde_json::{Value, json};

use super::{Context, Failure, globals::Span, health, out};
use crate::client::CALL_TIMEOUT;

pub(super) use run::run;

#[derive(ClapArgs, Debug)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    run: RunArgs,
}

/// How to run it. `--port`, `--token` and `--password` count here too.
#[derive(ClapArgs, Clone, Debug, Default)]
pub(super) struct RunArgs {
    /// Where to listen: loopback, lan, tailnet, custom or auto
    #[arg(long, value_name = "MODE")]
    bind: Option<String>,
    /// How clients authenticate: token, password, trusted-proxy or none
    #[arg(long, value_name = "MODE")]
    auth: Option<String>,
    /// Be reachable through Tailscale: off, serve (the tailnet) or funnel (the internet)
    #[arg(long, value_name = "MODE")]
    tailscale: Option<String>,
    /// Read the password from a file
    #[arg(long, value_name = "FILE", conflicts_with = "password")]
    password_file: Option<String>,
    /// Taken for the sake of habits: a config file is never needed here
    #[arg(long, hide = true)]
    allow_unconfigured: bool,
    #[command(flatten)]
    official: OfficialFlags,
}

/// Flags of the official `gateway run` that ask for nothing here: scripts that give them go on working.
#[derive(ClapArgs, Clone, Debug, Default)]
struct OfficialFlags {
    #[arg(long, hide = true)]
    force: bool,
    #[arg(long, hide = true)]
    dev: bool,
    #[arg(long, hide = true, value_name = "STYLE")]
    ws_log: Option<String>,
    #[arg(long, hide = true)]
    compact: bool,
    #[arg(long, hide = true)]
    raw_stream: bool,
    #[arg(long, hide = true, value_name = "FILE")]
    raw_stream_path: Option<String>,
    #[arg(long, hide = true, alias = "claude-cli-logs")]
    cli_backend_logs: bool,
    #[arg(long, hide = true, alias = "dev-ambient-channels")]
    ambient_channels: bool,
    #[arg(long, hide = true)]
    tailscale_reset_on_exit: bool,
}

impl OfficialFlags {
    /// What to tell somebody who gave them.
    fn notes(&self) -> Vec<String> {
        let log = "has no effect: --verbose and `logging` in the config say what is logged";
        let given = [
            (
                self.force,
                "--force",
                "ends no process here: if the port is taken, the start fails and says so",
            ),
            (
                self.dev,
                "--dev",
                "has no effect: a config is never needed, and --profile dev is a gateway apart",
            ),
            (self.ws_log.is_some(), "--ws-log", log),
            (self.compact, "--compact", log),
            (self.raw_stream, "--raw-stream", log),
            (self.raw_stream_path.is_some(), "--raw-stream-path", log),
            (self.cli_backend_logs, "--cli-backend-logs", log),
            (
                self.ambient_channels,
                "--ambient-channels",
                "has no effect: the environment's tokens always count",
            ),
            (
                self.tailscale_reset_on_exit,
                "--tailscale-reset-on-exit",
                "has no effect: the route always goes",
            ),
        ];
        given.into_iter().filter(|(given, ..)| *given).map(|(_, flag, why)| format!("{flag} {why}")).collect()
    }
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Start the gateway and stay
    #[command(after_help = "\
Examples:
  tidegate gateway run
  tidegate gateway run --port 19000
  tidegate --profile work gateway run
  TIDEGATE_GATEWAY_TOKEN=... tidegate gateway run --bind lan
  tidegate gateway run --tailscale serve")]
    Run(RunArgs),
    /// Whether it runs, where, and with which config
    Status(StatusArgs),
    /// Its health
    Health(health::Args),
    /// Try every gateway that commands could talk to, and say what each allows
    Probe,
    /// Find gateways: on this network, and in a domain that lists them
    #[command(after_help = "\
Examples:
  tidegate gateway discover
  tidegate gateway discover --timeout 5s --json
  tidegate gateway discover --domain openclaw.internal")]
    Discover(discover::Args),
    /// Call one method
    #[command(after_help = "Example:\n  tidegate gateway call node.list --params '{}'")]
    Call(CallArgs),
}

#[derive(ClapArgs, Debug)]
struct StatusArgs {
    /// Don't connect
    #[arg(long)]
    no_probe: bool,
    /// Fail when it can't be reached
    #[arg(long)]
    require_rpc: bool,
}

#[derive(ClapArgs, Debug)]
struct CallArgs {
    /// Name of the method
    method: String,
    /// Its params, a JSON object
    #[arg(long, default_value = "{}", value_name = "JSON")]
    params: String,
    /// Wait for the second answer of methods that answer twice
    #[arg(long)]
    expect_final: bool,
}

impl Args {
    /// Whether this is the gateway itself and not a question about one.
    pub(super) fn runs(&self) -> bool {
        matches!(self.command, None | Some(Command::Run(_)))
    }

    fn into_run(self) -> RunArgs {
        match self.command {
            Some(Command::Run(args)) => args,
            _ => self.run,
        }
    }
}

pub(super) async fn ask(context: &Context, args: Args) -> Result<(), Failure> {
    match args.command {
        Some(Command::Status(args)) => status::status(context, args.no_probe, args.require_rpc).await,
        Some(Command::Health(args)) => health::run(context, args).await,
        Some(Command::Probe) => probe::probe(context).await,
        Some(Command::Discover(args)) => discover::run(context, args).await,
        Some(Command::Call(args)) => call(context, args).await,
        None | Some(Command::Run(_)) => Err(Failure::usage("`gateway run` has a runtime of its own")),
    }
}

async fn call(context: &Context, args: CallArgs) -> Result<(), Failure> {
    let params: Value = serde_json::from_str(&args.params)
        .map_err(|error| Failure::usage(format!("--params is not JSON: {error}")))?;
    if !args.expect_final {
        out::json(&context.call(&args.method, params).await?);
        return Ok(());
    }
    let (client, _) = context.connect().await?;
    let patience = context.globals.timeout.map_or(CALL_TIMEOUT * 20, Span::or_milliseconds);
    let (first, later) = client.call_twice(&args.method, &params, patience).await?;
    let answer = later.wait(patience).await.map(|answer| answer.get().to_owned());
    // A method that answers once has already said everything.
    let text = answer.unwrap_or_else(|_| first.get().to_owned());
    client.close().await;
    out::json(&tidegate_protocol::lenient::from_str(&text).unwrap_or(json!(text)));
    Ok(())
}
