//! `tidegate devices join-code`: the one line to paste on a new machine.

use clap::{Args as ClapArgs, ValueEnum};
use serde_json::{Value, json};

use super::super::{Context, Failure, out, qr};
use crate::client::Endpoint;

#[derive(ClapArgs, Debug)]
#[command(after_help = "\
Examples:
  tidegate devices join-code
  tidegate devices join-code --public-url wss://gateway.example
  tidegate devices join-code --access limited      for a phone that scans the code")]
pub(super) struct Args {
    /// What the new machine may do
    #[arg(long, value_enum, default_value = "node")]
    access: Access,
    /// Where it finds this gateway [default: what the gateway's settings say]
    #[arg(long, value_name = "URL")]
    public_url: Option<String>,
    /// Prefer gateway.remote.url of the gateway's settings
    #[arg(long)]
    remote: bool,
    /// Make a short address that gives the code out once; needs TLS with a certificate that others trust
    #[arg(long)]
    join_url: bool,
    /// Don't draw the code
    #[arg(long)]
    no_qr: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Access {
    /// Be a node
    Node,
    /// A node, and an operator who reads, writes and approves
    Limited,
    /// A node, and an operator who may do everything; over unencrypted networks: limited
    Full,
}

impl Args {
    fn params(&self) -> Value {
        let mut params = json!({"includeQr": false});
        match self.access {
            Access::Node => params["bootstrapProfile"] = "node".into(),
            Access::Limited => params["bootstrapProfile"] = "limited".into(),
            Access::Full => {}
        }
        if let Some(url) = &self.public_url {
            params["publicUrl"] = url.as_str().into();
        }
        if self.remote {
            params["preferRemoteUrl"] = true.into();
        }
        if self.join_url {
            params["joinUrl"] = true.into();
        }
        params
    }
}

pub(super) async fn run(context: &Context, args: Args) -> Result<(), Failure> {
    if args.join_url && args.access != Access::Node {
        return Err(Failure::usage("--join-url is for nodes: leave --access out"));
    }
    if let Some(url) = &args.public_url {
        Endpoint::parse(url)?;
    }
    let mut made = context.call("device.pair.setupCode", args.params()).await?;
    let text = |key: &str| out::string(&made, key);
    let (code, address) = (text("setupCode"), text("joinUrl"));
    let pasted = if address.is_empty() { format!("oc-pair://{code}") } else { address };
    let command = format!("tidegate node run --pair {pasted}");
    if context.globals.json {
        made["command"] = command.into();
        out::json(&made);
        return Ok(());
    }
    out::line(&command);
    if !args.no_qr
        && let Some(picture) = qr::terminal(&code)
    {
        out::line("");
        out::text(&picture);
    }
    explain(&made);
    Ok(())
}

/// Beside the command, not in it: standard output can be handed on as it is.
fn explain(made: &Value) {
    let (url, source, access) =
        (out::string(made, "gatewayUrl"), out::string(made, "urlSource"), out::string(made, "access"));
    out::note(
        "Run this on the other machine within ten minutes; it works once. `openclaw node run --pair` takes it too.",
    );
    out::note(format!("It joins {url} (from {source}) with {access} access."));
    if made["accessDowngraded"] == true {
        out::note("Full access was lowered to limited: this address is not encrypted.");
    }
    if url.starts_with("ws://") {
        out::note(
            "This address is not encrypted: whoever can listen on that network could use the code first.",
        );
    }
}
