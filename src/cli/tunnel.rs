//! `tidegate tunnel`: holds a tunnel to a gateway open, for everything that can't open its own.

use clap::Args as ClapArgs;
use serde_json::json;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{Context, Failure, out, target};
use crate::client::{
    Backoff, ClientError, DEFAULT_PORT,
    ssh::{SshError, SshTarget, Tunnel, TunnelOptions},
};

#[derive(ClapArgs, Debug)]
#[command(after_help = "\
Examples:
  tidegate tunnel user@gateway-host
  tidegate tunnel gateway-host --local-port 28789 --ssh-identity ~/.ssh/gateway
Ends with Ctrl-C. ssh asks no questions here: the host key has to be known, and a key loaded.")]
pub(super) struct Args {
    /// Host of the gateway [default: gateway.remote.sshTarget of the config]
    #[arg(value_name = "USER@HOST[:PORT]")]
    target: Option<SshTarget>,
    /// Where the tunnel starts on this machine
    #[arg(long, value_name = "PORT", default_value_t = DEFAULT_PORT)]
    local_port: u16,
    /// The gateway's port on its host; --port means the same [default: what the config says, else 18789]
    #[arg(long, value_name = "PORT")]
    remote_port: Option<u16>,
}

pub(super) async fn run(context: &Context, args: Args) -> Result<(), Failure> {
    let mut options =
        target::tunnel_to(context, args.target.as_ref(), args.remote_port.or(context.globals.port))?;
    options.local_port = Some(args.local_port);
    let mut stop = Stop::new()?;
    tokio::select! {
        ended = hold(context, &options) => ended.map_err(|error| ClientError::from(error).into()),
        () = stop.asked() => Ok(()),
    }
}

/// Opens the tunnel, and again whenever it is lost; comes back only when that is of no use.
async fn hold(context: &Context, options: &TunnelOptions) -> Result<(), SshError> {
    let mut tunnel = Tunnel::open(options).await?;
    announce(context, options, &tunnel);
    loop {
        if let Err(problem) = tunnel.reaches().await
            && tunnel.is_up()
        {
            out::note(format!("warning: {problem}"));
        }
        let why = tunnel.ended().await;
        drop(tunnel);
        out::note(format!("the tunnel was lost: {why}"));
        tunnel = again(options, why).await?;
        out::note("the tunnel stands again");
    }
}

async fn again(options: &TunnelOptions, why: SshError) -> Result<Tunnel, SshError> {
    let mut backoff = Backoff::default();
    let mut problem = why;
    // The lost tunnel's own port may take a moment to be free.
    while problem.may_pass() || matches!(problem, SshError::LocalPort { .. }) {
        tokio::time::sleep(backoff.next(None)).await;
        match Tunnel::open(options).await {
            Ok(tunnel) => return Ok(tunnel),
            Err(error) => problem = error,
        }
        out::note(format!("not yet: {problem}"));
    }
    Err(problem)
}

fn announce(context: &Context, options: &TunnelOptions, tunnel: &Tunnel) {
    let (local, remote) = (tunnel.local_port(), options.remote_port);
    let url = format!("ws://127.0.0.1:{local}");
    if context.globals.json {
        out::json_line(&json!({
            "ok": true, "url": url, "target": options.target.to_string(), "localPort": local, "remotePort": remote,
        }));
        return;
    }
    out::line(format!("{url} leads to port {remote} of {}.", options.target));
    out::line("");
    out::line("Use it in another terminal, with the token of that gateway:");
    out::line(format!("  tidegate status --url {url} --token TOKEN"));
    out::line(format!("  TIDEGATE_GATEWAY_TOKEN=... tidegate node run --port {local}"));
    out::line("");
    out::line("Ctrl-C ends it.");
}

/// SIGINT and SIGTERM.
struct Stop {
    interrupt: Signal,
    terminate: Signal,
}

impl Stop {
    fn new() -> Result<Self, Failure> {
        let listen = |kind| {
            signal(kind).map_err(|error| Failure::failed(format!("can't listen for signals: {error}")))
        };
        Ok(Self { interrupt: listen(SignalKind::interrupt())?, terminate: listen(SignalKind::terminate())? })
    }

    async fn asked(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => (),
            _ = self.terminate.recv() => (),
        }
    }
}
