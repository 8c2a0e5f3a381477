//! Connecting, waiting for approval, losing the connection, coming back.

use std::path::Path;

use serde_json::{Value, json};
use tokio::sync::watch;

use super::super::{NodeHostError, NodeRoute, NodeRun, runner::Runner, state::NodeState};
use crate::{
    client::{
        Credentials, DeviceIdentity, Endpoint,
        fake::{FakeGateway, tell},
    },
    config::{Environment, Place, PlaceFlags},
};

fn place(folder: &Path, env: &Environment) -> Place {
    let flags = PlaceFlags { state_dir: Some(folder.display().to_string()), ..PlaceFlags::default() };
    Place::find(&flags, env).unwrap()
}

fn runner(endpoint: &Endpoint, folder: &Path, env: &Environment) -> Runner {
    let args = NodeRun {
        host: Some(endpoint.host.clone()),
        port: Some(endpoint.port),
        display_name: Some("box".into()),
        ..NodeRun::default()
    };
    Runner::new(args, None, &place(folder, env), env).unwrap()
}

/// This machine's own gateway listens there, for as long as the answer lives, and has made its token.
fn gateway_of_this_machine(folder: &Path, endpoint: &Endpoint) -> impl Sized + use<> {
    std::fs::write(folder.join("gateway-token"), "local\n").unwrap();
    std::fs::write(folder.join("tidegate.json"), format!("{{gateway: {{port: {}}}}}", endpoint.port))
        .unwrap();
    crate::gateway::held(folder, endpoint.port)
}

fn with_token() -> Environment {
    Environment::of([("TIDEGATE_GATEWAY_TOKEN", "shared")])
}

async fn refuse(gateway: &FakeGateway, code: &str) -> Value {
    let (mut peer, connect) = gateway.meet().await;
    let error =
        json!({"code": "INVALID_REQUEST", "message": "no", "details": {"code": code, "requestId": "r-1"}});
    tell(&mut peer, json!({"type": "res", "id": connect["id"], "ok": false, "error": error})).await;
    let _ = peer.close(None).await;
    connect["params"].clone()
}

#[tokio::test]
async fn a_lost_connection_comes_back_with_the_token_of_the_device() {
    let (gateway, endpoint) = FakeGateway::new().await;
    let folder = tempfile::tempdir().unwrap();
    let _running = gateway_of_this_machine(folder.path(), &endpoint);
    let env = Environment::default();
    let mut runner = runner(&endpoint, folder.path(), &env);
    let (stop, mut stopped) = watch::channel(false);
    let life = tokio::spawn(async move { runner.until_stopped(&mut stopped).await });
    let (peer, first) = gateway.welcome_with(json!({"deviceToken": "t-1"})).await;
    assert_eq!(first["auth"], json!({"token": "local"}));
    assert_eq!((&first["client"]["displayName"], &first["role"]), (&json!("box"), &json!("node")));
    assert!(first["commands"].as_array().unwrap().contains(&json!("system.run")));
    drop(peer);
    let (_peer, second) = gateway.welcome_with(json!({"deviceToken": "t-1"})).await;
    assert_eq!(second["auth"], json!({"deviceToken": "t-1"}));
    assert_eq!(second["device"]["id"], first["device"]["id"]);
    assert_eq!(second["client"]["instanceId"], first["client"]["instanceId"]);
    stop.send(true).unwrap();
    life.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_revoked_device_token_gives_way_to_the_shared_secret() {
    let (gateway, endpoint) = FakeGateway::new().await;
    let folder = tempfile::tempdir().unwrap();
    let _running = gateway_of_this_machine(folder.path(), &endpoint);
    let env = Environment::default();
    let mut runner = runner(&endpoint, folder.path(), &env);
    let (stop, mut stopped) = watch::channel(false);
    let life = tokio::spawn(async move { runner.until_stopped(&mut stopped).await });
    drop(gateway.welcome_with(json!({"deviceToken": "t-1"})).await);
    assert_eq!(refuse(&gateway, "AUTH_DEVICE_TOKEN_MISMATCH").await["auth"], json!({"deviceToken": "t-1"}));
    let (_peer, again) = gateway.welcome_with(json!({})).await;
    assert_eq!(again["auth"], json!({"token": "local"}));
    stop.send(true).unwrap();
    life.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_device_that_must_be_approved_waits_and_a_wrong_secret_does_not() {
    let (gateway, endpoint) = FakeGateway::new().await;
    let folder = tempfile::tempdir().unwrap();
    let mut runner = runner(&endpoint, folder.path(), &with_token());
    let (_stop, mut stopped) = watch::channel(false);
    let life = tokio::spawn(async move { runner.until_stopped(&mut stopped).await });
    refuse(&gateway, "PAIRING_REQUIRED").await;
    assert_eq!(refuse(&gateway, "AUTH_TOKEN_MISMATCH").await["auth"], json!({"token": "shared"}));
    let error = life.await.unwrap().unwrap_err();
    assert!(matches!(error, NodeHostError::Gateway(_)), "{error}");
    assert!(error.advice().unwrap().contains("gateway-token"));
}

#[tokio::test]
async fn a_choice_of_commands_is_kept_until_all_are_wanted_again() {
    let folder = tempfile::tempdir().unwrap();
    let env = with_token();
    let place = place(folder.path(), &env);
    let declared =
        |args: NodeRun| Runner::new(args, None, &place, &env).map(|runner| runner.declared().to_vec());
    let choose = |names: &[&str]| NodeRun {
        host: Some("127.0.0.1".into()),
        commands: names.iter().map(|name| (*name).to_owned()).collect(),
        ..NodeRun::default()
    };
    let all = declared(choose(&[])).unwrap();
    assert!(all.len() > 5);
    assert_eq!(declared(choose(&["fs.listDir"])).unwrap(), ["fs.listDir"]);
    assert_eq!(declared(choose(&[])).unwrap(), ["fs.listDir"]);
    assert!(matches!(declared(choose(&["nope"])), Err(NodeHostError::NoCommands { .. })));
    let everything = NodeRun { all_commands: true, ..choose(&[]) };
    assert_eq!(declared(everything).unwrap(), all);
    assert_eq!(declared(choose(&[])).unwrap(), all);
}

#[tokio::test]
async fn what_the_command_line_gives_is_sent_and_an_address_from_there_gets_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("gateway-token"), "local\n").unwrap();
    let env = with_token();
    let place = place(folder.path(), &env);
    let start = |args: NodeRun| Runner::new(args, None, &place, &env);
    let given = Credentials { password: Some("mine".into()), ..Credentials::default() };
    let by_host = NodeRun {
        host: Some("127.0.0.1".into()),
        given: Some(Box::new(given.clone())),
        ..NodeRun::default()
    };
    assert_eq!(start(by_host).unwrap().credentials(), given);
    let endpoint = Endpoint::plain("127.0.0.1", 1);
    let route = NodeRoute {
        endpoint: endpoint.clone(),
        ssh: None,
        asked_for: true,
        by_url: true,
        credentials: Credentials::default(),
    };
    let by_url = NodeRun { route: Some(Box::new(route)), ..NodeRun::default() };
    let Err(NodeHostError::Options(said)) = start(by_url.clone()) else {
        panic!("no secret, and it started")
    };
    assert!(said.contains("pass --token or --password with --url"), "{said}");
    let with_given = NodeRun { given: Some(Box::new(given.clone())), ..by_url.clone() };
    assert_eq!(start(with_given).unwrap().credentials(), given);
    let device = DeviceIdentity::load_or_create(&place.state.node_identity()).unwrap();
    let mut state = NodeState::open(&place.state.node_host()).unwrap();
    state.set_token(&endpoint.to_string(), device.id(), Some("stored")).unwrap();
    drop(state);
    assert_eq!(start(by_url).unwrap().credentials(), Credentials::default(), "the environment's stays here");
}

#[tokio::test]
async fn the_secret_of_this_machines_gateway_goes_to_this_machine_only() {
    let (gateway, endpoint) = FakeGateway::new().await;
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("gateway-token"), "local\n").unwrap();
    let env = Environment::default();
    let mut far = endpoint.clone();
    far.host = "192.168.77.77".into();
    assert_eq!(runner(&far, folder.path(), &env).credentials(), Default::default());
    drop(gateway);
    let unknown = runner(&endpoint, folder.path(), &env).credentials();
    assert_eq!(unknown, Default::default(), "a port that may be the near end of a tunnel");
    let _running = gateway_of_this_machine(folder.path(), &endpoint);
    let near = runner(&endpoint, folder.path(), &env).credentials();
    assert_eq!(near.token.as_deref(), Some("local"));
}

#[tokio::test]
async fn the_secret_of_this_machines_gateway_goes_out_only_while_that_gateway_runs() {
    let (gateway, endpoint) = FakeGateway::new().await;
    let folder = tempfile::tempdir().unwrap();
    drop(gateway_of_this_machine(folder.path(), &endpoint));
    let mut runner = runner(&endpoint, folder.path(), &Environment::default());
    let (stop, mut stopped) = watch::channel(false);
    let life = tokio::spawn(async move { runner.until_stopped(&mut stopped).await });
    let (mut peer, connect) = gateway.meet().await;
    assert_eq!(connect["params"]["auth"], Value::Null, "a tunnel may be there as well");
    // It turns out to be a gateway of this machine that had not said yet that it runs.
    let running = gateway_of_this_machine(folder.path(), &endpoint);
    let error =
        json!({"code": "INVALID_REQUEST", "message": "no", "details": {"code": "AUTH_TOKEN_MISSING"}});
    tell(&mut peer, json!({"type": "res", "id": connect["id"], "ok": false, "error": error})).await;
    let (peer, second) = gateway.welcome_with(json!({})).await;
    assert_eq!(second["auth"], json!({"token": "local"}));
    drop((running, peer));
    let (_peer, third) = gateway.welcome_with(json!({})).await;
    assert_eq!(third["auth"], Value::Null);
    stop.send(true).unwrap();
    life.await.unwrap().unwrap();
}
