//! `tidegate node`: this machine as a node.

use clap::{Args as ClapArgs, Subcommand};

use serde_json::json;

use super::{Context, Failure, out, target};
use crate::{
    client::DeviceIdentity,
    config::Place,
    node_host::{self, NodeHostError, NodeRun},
    telemetry::{Log, LogOptions, chain},
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
  tidegate node run --pair oc-pair://CODE
  tidegate node run --display-name kitchen --commands system.run,system.which
  TIDEGATE_GATEWAY_TOKEN=... tidegate node run --ssh user@gateway-host
  TIDEGATE_GATEWAY_TOKEN=... tidegate node run --host gateway.lan --tls-fingerprint SHA256")]
    Run(NodeRun),
    /// Show this machine's identity as a node, if it has one
    Identity,
}

pub(super) fn run(context: &Context, args: Args) -> Result<(), Failure> {
    let place = context.place()?;
    let mut args = match args.command {
        Command::Run(args) => args,
        Command::Identity => return identity(context, &place),
    };
    args.route = target::for_node(context, &args)?.map(Box::new);
    args.given = target::given(&context.globals).map(Box::new);
    let _log = Log::start(LogOptions::foreground(context.globals.verbose))
        .map_err(|error| Failure::failed(format!("can't start the log: {error}")))?;
    node_host::run(args, &place, &context.env).map_err(|error| match error {
        NodeHostError::Config(error) => Failure::Config(error),
        NodeHostError::Gateway(error) => Failure::Client(error),
        NodeHostError::Options(why) => Failure::Usage(why),
        NodeHostError::Invitation(why) => Failure::Failed(format!(
            "{why}; make a new code on the gateway's host: tidegate devices join-code"
        )),
        other => Failure::Failed(chain(&other)),
    })
}

/// Only shows: a gateway asks for it over SSH, and must not make a node of a machine that is none.
fn identity(context: &Context, place: &Place) -> Result<(), Failure> {
    let Some(identity) = DeviceIdentity::load(&place.state.node_identity())? else {
        return Err(Failure::failed(
            "this machine has never been a node: start one with `tidegate node run`",
        ));
    };
    if context.globals.json {
        // On one line, so that it is found among whatever else a login shell prints.
        out::json_line(&json!({"deviceId": identity.id(), "publicKey": identity.public_key()}));
    } else {
        let mut facts = out::Facts::default();
        facts.add("deviceId", identity.id());
        facts.add("publicKey", identity.public_key());
        facts.print();
    }
    Ok(())
}
