//! `gateway status`: where the gateway should be, and whether it is there.

use serde_json::{Value, json};

use crate::{
    cli::{Context, Failure, out, status::tailscale, target::Source},
    client::{Client, ClientError},
    gateway,
};

pub(super) async fn status(context: &Context, no_probe: bool, require_rpc: bool) -> Result<(), Failure> {
    let place = context.place()?;
    let target = context.target();
    let outcome = match (&target, no_probe) {
        (Ok(_), false) => Some(context.connect().await),
        _ => None,
    };
    let tailscale = match &outcome {
        // Not every connection may ask.
        Some(Ok((client, _))) => context
            .call_over(client, "status", json!({}))
            .await
            .ok()
            .map(|status| status["tailscale"].clone()),
        _ => None,
    };
    let answer = json!({
        "tailscale": tailscale,
        "config": place.config.display().to_string(),
        "state": place.state.root().display().to_string(),
        "pid": gateway::holder(place.state.root()).map(|holder| holder.pid),
        "log": place.state.log_file().display().to_string(),
        "target": target.as_ref().ok().map(|target| target.endpoint.to_string()),
        "tlsFingerprint": target.as_ref().ok().and_then(|target| target.endpoint.pin).map(|pin| pin.to_string()),
        "targetSource": target.as_ref().ok().map(|target| target.source.as_str()),
        "cliVersion": tidegate_actors::VERSION,
        "probe": outcome.as_ref().map(probed),
        "problem": target.as_ref().err().map(Failure::in_full),
    });
    if context.globals.json {
        out::json(&answer);
    } else {
        print_status(&answer, &outcome);
    }
    match (outcome, target) {
        (Some(Ok((client, _))), _) => drop(client.close().await),
        (Some(Err(failure)), _) if require_rpc => return Err(failure),
        (_, Err(failure)) if require_rpc => return Err(failure),
        _ => {}
    }
    Ok(())
}

fn print_status<E>(answer: &Value, outcome: &Option<Result<(Client, E), Failure>>) {
    let mut facts = out::Facts::default();
    facts.add("target", out::string(answer, "target"));
    match outcome {
        Some(Ok((client, _))) => {
            facts.add("gateway", format!("running, version {}", client.hello().server.version));
            facts.add("scopes", scopes(client));
        }
        Some(Err(failure)) => facts.add("gateway", failure.in_full()),
        None => facts.add("gateway", out::string(answer, "problem")),
    }
    if let Some(tailscale) = tailscale(&answer["tailscale"]) {
        facts.add("tailscale", tailscale);
    }
    facts.add("pid here", out::string(answer, "pid"));
    facts.add("fingerprint", out::string(answer, "tlsFingerprint"));
    for key in ["config", "state", "log"] {
        facts.add(key, out::string(answer, key));
    }
    facts.add("this program", out::string(answer, "cliVersion"));
    facts.print();
    let failure = outcome.as_ref().and_then(|outcome| outcome.as_ref().err());
    let advice = match failure {
        // What it says in general is to ask for this very status.
        Some(Failure::Client(ClientError::Unreachable { .. })) if answer["pid"].is_null() => {
            (answer["targetSource"] == Source::Local.as_str())
                .then(|| "`tidegate gateway run` starts one".to_owned())
        }
        other => other.and_then(Failure::advice),
    };
    if let Some(advice) = advice {
        out::line(format!("help: {advice}"));
    }
}

fn probed<E>(outcome: &Result<(Client, E), Failure>) -> Value {
    match outcome {
        Ok((client, _)) => json!({
            "ok": true,
            "version": client.hello().server.version,
            "scopes": granted(client),
        }),
        Err(failure) => failure.json(),
    }
}

fn granted(client: &Client) -> Value {
    serde_json::to_value(&client.hello().auth.scopes).unwrap_or_default()
}

fn scopes(client: &Client) -> String {
    scopes_of(&granted(client))
}

/// The scopes of a connection, for people.
pub(super) fn scopes_of(scopes: &Value) -> String {
    let text = out::joined(&json!({ "scopes": scopes }), "scopes");
    if text.is_empty() { "none: this connection may only look at health".to_owned() } else { text }
}
