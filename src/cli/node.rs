//! `tidegate node`: this machine as a node.

use clap::{Args as ClapArgs, Subcommand};

use super::{Context, Failure, target};
use crate::{
    node_host::{self, NodeHostError, NodeRun},
    telemetry::{Log, LogOptions},
};

#[derive(ClapArgs, Debug)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    #[command(after_help = "\
Examples:
  tidegate node run
  tidegate node run --display-name kitchen --commands system.run,system.which
  TIDEGATE_GATEWAY_TOKEN=... tidegate node run --ssh user@gateway-host
  TIDEGATE_GATEWAY_TOKEN=... tidegate node run --host gateway.lan --tls-fingerprint SHA256")]
    Run(NodeRun),
}

pub(super) fn run(context: &Context, args: Args) -> Result<(), Failure> {
    let Command::Run(mut args) = args.command;
    args.route = target::for_node(context, &args)?.map(Box::new);
    let place = context.place()?;
    let _log = Log::start(LogOptions::foreground(context.globals.verbose))
        .map_err(|error| Failure::failed(format!("can't start the log: {error}")))?;
    node_host::run(args, &place, &context.env).map_err(|error| match error {
        NodeHostError::Config(error) => Failure::Config(error),
        NodeHostError::Gateway(error) => Failure::Client(error),
        NodeHostError::Options(why) => Failure::Usage(why),
        other => Failure::Failed(chain(&other)),
    })
}

fn chain(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}
