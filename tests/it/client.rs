//! The client that the command line and the node host connect with, against the real gateway.

use crate::support::{Gateway, within};
use serde_json::{Value, json};
use std::sync::Arc;
use tidegate::client::{
    CALL_TIMEOUT, Client, ClientError, ConnectOptions, Credentials, DeviceIdentity, Endpoint,
};
use tidegate_protocol::client::{ClientId, ClientMode};
use tidegate_protocol::{ErrorCode, Scope};

fn operator(gateway: &Gateway, token: &str) -> ConnectOptions {
    let auth = Credentials { token: Some(token.to_owned()), ..Credentials::default() };
    ConnectOptions::operator(Endpoint::plain("127.0.0.1", gateway.port), auth, [Scope::Read])
}

#[tokio::test]
async fn calls_are_answered_and_refusals_keep_their_code() {
    let gateway = Gateway::start().await;
    let (client, _) = Client::connect(&operator(&gateway, &gateway.token())).await.unwrap();
    assert_eq!(client.hello().protocol, 4);
    assert_eq!(client.hello().auth.scopes.names(), ["operator.read"]);
    let nodes: Value = client.call("node.list", &json!({})).await.unwrap();
    assert_eq!(nodes["nodes"], json!([]));
    let error = client.call::<Value>("config.set", &json!({"raw": "{}"})).await.unwrap_err();
    assert_eq!(error.refusal().unwrap().code, ErrorCode::Forbidden);
    assert_eq!(error.detail_code(), Some("MISSING_SCOPE"));
    let error = client.call_raw("no.such.method", None, CALL_TIMEOUT).await.unwrap_err();
    assert!(error.to_string().contains("unknown method: no.such.method"), "{error}");
    assert_eq!(client.close().await.code, 1000);
}

#[tokio::test]
async fn a_wrong_secret_is_refused_with_a_way_out() {
    let gateway = Gateway::start().await;
    let error = Client::connect(&operator(&gateway, "wrong")).await.err().unwrap();
    assert_eq!(error.detail_code(), Some("AUTH_TOKEN_MISMATCH"));
    assert!(!error.may_pass() && error.advice().is_some());
}

#[tokio::test]
async fn a_device_gets_a_token_and_comes_back_with_it_alone() {
    let gateway = Gateway::start().await;
    let identity = Arc::new(DeviceIdentity::ephemeral().unwrap());
    let mut options = operator(&gateway, &gateway.token());
    options.client = tidegate::client::describe(ClientId::OpenclawTui, ClientMode::Ui);
    options.identity = Some(identity);
    let (first, _) = Client::connect(&options).await.unwrap();
    let token = first.hello().auth.device_token.clone().unwrap();
    options.auth = Credentials { device_token: Some(token.clone()), ..Credentials::default() };
    let (second, _) = Client::connect(&options).await.unwrap();
    assert_eq!(second.hello().auth.device_token.as_deref(), Some(token.as_str()));
}

#[tokio::test]
async fn a_stopping_gateway_says_goodbye() {
    let mut gateway = Gateway::start().await;
    let (client, mut events) = Client::connect(&operator(&gateway, &gateway.token())).await.unwrap();
    gateway.terminate();
    let goodbye = within("the shutdown event", async {
        loop {
            let event = events.next().await.expect("the connection ended without a word");
            if event.name == "shutdown" {
                return event.payload::<Value>().unwrap();
            }
        }
    })
    .await;
    assert!(goodbye["reason"].is_string());
    let ended = within("the end", client.ended()).await;
    assert_eq!((ended.code, ended.reason.as_str()), (1012, "service restart"));
    assert!(matches!(
        client.call::<Value>("health", &json!({})).await,
        Err(ClientError::Closed { code: 1012, .. })
    ));
    assert!(gateway.ended().await.success());
}
