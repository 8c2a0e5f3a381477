//! `tidegate gateway run`.

use std::rc::Rc;

use super::{Args, RunArgs, banner::Banner};
use crate::{
    cli::{Context, Failure, out},
    config::{self, Flags, Running},
    gateway::{self, GatewayError, Serving},
    telemetry::{Log, LogOptions},
};

/// Runs a gateway until it is told to stop.
pub(in crate::cli) fn run(context: &Context, args: Args) -> Result<(), Failure> {
    let place = context.place()?;
    let args = args.into_run();
    for note in args.official.notes() {
        out::note(format!("note: {note}"));
    }
    let flags = flags(context, args)?;
    let running = config::start(place.clone(), context.env.clone(), flags)?;
    let log = start_log(context, &running)?;
    for note in &running.notes {
        tracing::warn!(note, "configuration");
    }
    let banner = Banner::new(context, &place, &running);
    let settings = running.settings.clone();
    let serving = {
        let log = log.clone();
        move |serving: &Serving| {
            banner.print(serving);
            let mut changes = settings.subscribe();
            tokio::task::spawn_local(async move {
                while changes.changed().await.is_ok() {
                    log.apply(&changes.borrow().logging);
                }
            });
        }
    };
    let ended = gateway::run(running, serving);
    if let Err(error) = &ended {
        log.leave_console();
        tracing::error!(error = error as &dyn std::error::Error, "the gateway ended");
    }
    drop(log);
    ended.map_err(|error| match error {
        GatewayError::Config(error) => Failure::Config(error),
        GatewayError::Tls(error) => Failure::Config(error.into()),
        other => Failure::failed(other.to_string()),
    })
}

fn start_log(context: &Context, running: &Running) -> Result<Rc<Log>, Failure> {
    let settings = running.settings.get();
    let file = running.settings.paths().log_file();
    let options = LogOptions::service(&settings.logging, file, context.globals.verbose);
    Log::start(options).map(Rc::new).map_err(|error| Failure::failed(format!("can't start the log: {error}")))
}

fn flags(context: &Context, args: RunArgs) -> Result<Flags, Failure> {
    let globals = &context.globals;
    if globals.url.is_some() || globals.ssh.is_some() {
        return Err(Failure::usage(
            "--url and --ssh are for commands that talk to a gateway; this one is the gateway",
        ));
    }
    if globals.tls_fingerprint.is_some() {
        return Err(Failure::usage(
            "--tls-fingerprint is for clients: a gateway shows the certificate that gateway.tls names",
        ));
    }
    let password = match &args.password_file {
        Some(path) => Some(password_file(context, path)?),
        None => globals.password.clone(),
    };
    Ok(Flags {
        port: globals.port,
        bind: args.bind,
        auth: args.auth,
        token: globals.token.clone(),
        password,
        tailscale: args.tailscale,
    })
}

fn password_file(context: &Context, path: &str) -> Result<String, Failure> {
    let text = std::fs::read_to_string(context.env.expand(path))
        .map_err(|error| Failure::usage(format!("can't read --password-file {path}: {error}")))?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}
