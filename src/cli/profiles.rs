//! `tidegate status --all-profiles`: every gateway of this user on this machine.

use serde_json::{Value, json};

use super::{Context, Failure, Globals, out};
use crate::{config::Place, gateway};

/// What a profile must not take over from the surroundings of another one.
const OF_ONE_PROFILE: [&str; 7] = [
    "PROFILE",
    "STATE_DIR",
    "CONFIG_PATH",
    "GATEWAY_URL",
    "GATEWAY_PORT",
    "GATEWAY_TOKEN",
    "GATEWAY_PASSWORD",
];

pub(super) async fn run(context: &Context) -> Result<(), Failure> {
    let mut profiles = Vec::new();
    for place in Place::all(&context.env)? {
        profiles.push(describe(context, &place).await);
    }
    if context.globals.json {
        out::json(&json!({ "profiles": profiles }));
    } else {
        print(&profiles);
    }
    Ok(())
}

async fn describe(context: &Context, place: &Place) -> Value {
    let holder = gateway::holder(place.state.root());
    let pid = holder.map(|holder| holder.pid);
    let own = of_profile(context, place, None);
    let port = own.loaded(place).map(|loaded| {
        holder.and_then(|holder| holder.port).unwrap_or_else(|| loaded.settings.gateway.port())
    });
    let (version, problem) = match (&port, pid) {
        (Err(failure), _) => (None, Some(failure.in_full())),
        (Ok(_), None) => (None, None),
        (Ok(port), Some(_)) => match version(&of_profile(context, place, Some(*port))).await {
            Ok(version) => (Some(version), None),
            Err(failure) => (None, Some(failure.in_full())),
        },
    };
    json!({
        "profile": place.profile.as_deref().unwrap_or("default"),
        "running": pid.is_some(),
        "pid": pid,
        "port": port.ok(),
        "version": version,
        "service": place.service(),
        "state": place.state.root().display().to_string(),
        "config": place.config.display().to_string(),
        "problem": problem,
    })
}

/// The same command, as if it were called for this profile.
fn of_profile(context: &Context, place: &Place, port: Option<u16>) -> Context {
    let globals = Globals {
        profile: place.profile.clone(),
        state_dir: Some(place.state.root().display().to_string()),
        config: Some(place.config.display().to_string()),
        timeout: context.globals.timeout,
        // A port alone means the gateway on this machine, even where commands use one elsewhere.
        port,
        ..Globals::default()
    };
    let env = match place.profile {
        Some(_) => context.env.without(&OF_ONE_PROFILE),
        None => context.env.without(&["PROFILE"]),
    };
    Context::with(globals, env)
}

async fn version(context: &Context) -> Result<String, Failure> {
    let (client, _) = context.connect().await?;
    let version = client.hello().server.version.clone();
    client.close().await;
    Ok(version)
}

fn print(profiles: &[Value]) {
    let mut table = out::Table::new(["PROFILE", "GATEWAY", "PORT", "PID", "VERSION", "SERVICE", "STATE"]);
    for profile in profiles {
        let text = |key: &str| out::string(profile, key);
        let state = if profile["running"] == true { "running" } else { "stopped" };
        table.row([
            text("profile"),
            state.to_owned(),
            text("port"),
            text("pid"),
            text("version"),
            text("service"),
            text("state"),
        ]);
    }
    table.print();
    for profile in profiles.iter().filter(|profile| !profile["problem"].is_null()) {
        out::line(format!("{}: {}", out::string(profile, "profile"), out::string(profile, "problem")));
    }
}
