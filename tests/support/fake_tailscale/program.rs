//! The fake `tailscale` program: a script that runs this test binary again, which then plays the program.

use super::{NAME, executable};
use serde_json::{Value, json};
use std::fs::File;
use std::io::Write;
use std::path::Path;

const ARGS: &str = "FAKE_TAILSCALE_ARGS";
const SOCKET: &str = "FAKE_TAILSCALE_SOCKET";

/// Writes the script. The test runner has the standard output for itself, so ours goes through descriptor 3.
pub(super) fn install(path: &Path, socket: &Path) {
    let own = std::env::current_exe().unwrap();
    let name = module_path!().split_once("::").unwrap().1;
    let script = format!(
        "#!/bin/sh\n\
         {ARGS}=$(printf '%s\\n' \"$@\")\n\
         {SOCKET}='{}'\n\
         export {ARGS} {SOCKET}\n\
         exec 3>&1\n\
         exec '{}' --exact {name}::plays_the_program --nocapture >/dev/null\n",
        socket.display(),
        own.display(),
    );
    executable(path, &script);
}

/// Not a test of anything: the entry for the script. Run by the test runner itself it does nothing.
#[test]
fn plays_the_program() {
    let Ok(args) = std::env::var(ARGS) else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let args: Vec<&str> = args.lines().collect();
    let end = runtime.block_on(run(&args));
    if let Err(Failure { said, .. }) = &end {
        eprintln!("{said}");
    }
    std::process::exit(end.map_or_else(|failure| failure.code, |()| 0));
}

struct Failure {
    said: String,
    code: i32,
}

impl From<String> for Failure {
    fn from(said: String) -> Self {
        Self { said, code: 1 }
    }
}

type End = Result<(), Failure>;

fn print(text: &str) {
    let mut out = File::options().write(true).open("/dev/fd/3").unwrap();
    out.write_all(text.as_bytes()).unwrap();
}

async fn run(args: &[&str]) -> End {
    let mut args = args.to_vec();
    if args.first() == Some(&"--socket") {
        args.drain(..2);
    }
    match args.as_slice() {
        ["version"] => print("1.90.0-fake\n"),
        ["status", "--json", rest @ ..] if rest.iter().all(|arg| arg.starts_with("--peers")) => {
            print(&format!("{:#}\n", get("status").await?));
        }
        ["whois", "--json", address] => {
            print(&format!("{:#}\n", get(&format!("whois?addr={address}")).await?))
        }
        ["serve" | "funnel", "status", rest @ ..] if rest.iter().all(|arg| *arg == "--json") => {
            let config = get("serve-config").await?;
            let shown = if config.is_null() { json!({}) } else { config };
            print(&format!("{shown:#}\n"));
        }
        [mode @ ("serve" | "funnel"), "reset"] => {
            let _ = mode;
            post(&json!({}), "").await?;
        }
        [mode @ ("serve" | "funnel"), rest @ ..] => return serve(mode, rest).await,
        other => {
            return Err(Failure { said: format!("unknown subcommand: {}", other.join(" ")), code: 2 });
        }
    }
    Ok(())
}

async fn serve(mode: &str, args: &[&str]) -> End {
    let (mut background, mut port, mut words) = (false, 443_u16, Vec::new());
    for arg in args {
        match arg.trim_start_matches('-').split_once('=') {
            _ if !arg.starts_with('-') => words.push(*arg),
            Some(("bg", value)) => background = value == "true",
            Some(("https", value)) => port = value.parse().map_err(|_| "invalid port".to_owned())?,
            Some(("set-path", "/")) => {}
            None if *arg == "--bg" => background = true,
            None if *arg == "--yes" => {}
            _ => return Err(Failure { said: format!("flag provided but not defined: {arg}"), code: 2 }),
        }
    }
    let target = match words.as_slice() {
        [target] => *target,
        _ => return Err(Failure { said: "Error: invalid argument format".to_owned(), code: 1 }),
    };
    let status = get("status").await?;
    features(mode, port, &status)?;
    let target =
        target.parse::<u16>().map_or_else(|_| target.to_owned(), |it| format!("http://127.0.0.1:{it}"));
    let site = format!("{NAME}:{port}");
    let mut own = json!({
        "TCP": {port.to_string(): {"HTTPS": true}},
        "Web": {&site: {"Handlers": {"/": {"Proxy": target}}}},
    });
    if mode == "funnel" {
        own["AllowFunnel"] = json!({&site: true});
    }
    let what = if mode == "funnel" { "Available on the internet:" } else { "Available within your tailnet:" };
    let shown = format!("{what}\n\nhttps://{NAME}/\n|-- proxy {target}\n\n");
    let (config, etag) = config().await?;
    let mut config = if config.is_object() { config } else { json!({}) };
    if background {
        super::super::gateway::merge(&mut config, own);
        post(&config, &etag).await?;
        print(&format!("{shown}Serve started and running in the background.\n"));
        return Ok(());
    }
    let mut bus = open("watch-ipn-bus").await?;
    let first = bus.chunk().await.ok().flatten().ok_or("the bus ended".to_owned())?;
    let first: Value = serde_json::from_slice(&first).map_err(|error| error.to_string())?;
    config["Foreground"][first["SessionID"].as_str().unwrap()] = own;
    post(&config, &etag).await?;
    print(&format!("{shown}Press Ctrl+C to exit."));
    while let Ok(Some(_)) = bus.chunk().await {}
    Ok(())
}

/// What the tailnet has to have for this. The real program then points at the page where it is switched on.
fn features(mode: &str, port: u16, status: &Value) -> End {
    let has = |name: &str| status["Self"]["CapMap"].get(name).is_some();
    let missing =
        (!has("https")).then_some("serve").or((mode == "funnel" && !has("funnel")).then_some("funnel"));
    if let Some(feature) = missing {
        print(&format!(
            "\n{} is not enabled on your tailnet.\nTo enable, visit:\n\n         https://login.tailscale.com/f/{feature}\n\n",
            if feature == "serve" { "Serve" } else { "Funnel" }
        ));
        std::process::exit(0);
    }
    if mode == "funnel" && ![443, 8443, 10000].contains(&port) {
        return Err(
            format!("port {port} is not allowed for funnel; allowed ports are: 443,8443,10000").into()
        );
    }
    Ok(())
}

async fn request(
    method: reqwest::Method,
    resource: &str,
    body: String,
    etag: &str,
) -> Result<reqwest::Response, Failure> {
    let socket = std::env::var(SOCKET).unwrap();
    let client = reqwest::Client::builder().unix_socket(socket.as_str()).build().unwrap();
    let url = format!("http://local-tailscaled.sock/localapi/v0/{resource}");
    let mut request = client.request(method, url).body(body);
    if !etag.is_empty() {
        request = request.header("If-Match", etag);
    }
    let answer = request.send().await.map_err(|_| {
        let said = "failed to connect to local tailscaled; it doesn't appear to be running";
        Failure { said: said.to_owned(), code: 1 }
    })?;
    let status = answer.status();
    if status.is_success() {
        return Ok(answer);
    }
    let text = answer.text().await.unwrap_or_default();
    let said = match status.as_u16() {
        403 => format!("Access denied: {}", text.trim()),
        _ => format!("{status}: {}", text.trim()),
    };
    Err(said.into())
}

async fn open(resource: &str) -> Result<reqwest::Response, Failure> {
    request(reqwest::Method::GET, resource, String::new(), "").await
}

async fn get(resource: &str) -> Result<Value, Failure> {
    let text = open(resource).await?.text().await.map_err(|error| error.to_string())?;
    Ok(serde_json::from_str(&text).map_err(|error| error.to_string())?)
}

/// The serve configuration and its mark.
async fn config() -> Result<(Value, String), Failure> {
    let answer = open("serve-config").await?;
    let etag = answer.headers()["etag"].to_str().unwrap_or_default().to_owned();
    let text = answer.text().await.map_err(|error| error.to_string())?;
    Ok((serde_json::from_str(&text).map_err(|error| error.to_string())?, etag))
}

async fn post(config: &Value, etag: &str) -> End {
    request(reqwest::Method::POST, "serve-config", config.to_string(), etag).await.map(drop)
}
