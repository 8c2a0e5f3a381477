//! Nodes that come, wait, are let in and leave.

use super::*;
use crate::pairings::ApprovalState;

#[actix::test]
async fn nothing_runs_before_approval_and_a_wider_surface_needs_another_one() {
    let gateway = gateway();
    let courier = Courier::of(&gateway);
    let unknown = courier.invoke(which("n", "k")).await.unwrap_err();
    assert_eq!(unknown, InvokeError::Unknown("n".into()));
    let mut node = connect(&gateway, "n", "c1", &["system.which"]).await;
    let waiting = courier.invoke(which("n", "k")).await.unwrap_err();
    assert!(matches!(waiting, InvokeError::PairingChanged { request_id: Some(_) }), "{waiting:?}");
    assert!(node.is_silent());
    approve(&gateway, "n").await;
    node.close();

    let mut node = connect(&gateway, "n", "c2", WHICH).await;
    let run = ask("n", "system.run", json!({ "command": ["id"] }), "k2");
    assert!(matches!(courier.invoke(run).await.unwrap_err(), InvokeError::NotAllowed { .. }));
    let view = shown(&gateway, "n");
    assert_eq!(view.approval_state, ApprovalState::PendingReapproval);
    assert_eq!(view.commands, ["system.which"]);
    assert_eq!(view.pending_declared_commands.unwrap(), ["system.run", "system.which"]);
    let answer = start(&gateway, which("n", "k3"));
    let request = node.request().await;
    node.answer(&request, "1");
    answer.await.unwrap().unwrap();
}

#[actix::test]
async fn a_request_waits_before_its_node_hears_that_it_is_in() {
    let gateway = gateway();
    let (caller, _frames) = caller(Role::Node, "c1", Some("n"), &[]);
    let declared = NodeDeclaration { commands: vec!["system.which".into()], ..Default::default() };
    let newcomer = introduce(&gateway, &caller, declared).await.unwrap();
    assert_eq!(pairing_list(&gateway).pending.len(), 1);
    assert_eq!(gateway.store.load_nodes().await.unwrap().1.len(), 1);
    assert!(gateway.node_table.connection("n").is_none(), "nobody calls it before its hello");
    arrive(&gateway, &caller, newcomer);
    assert!(gateway.node_table.connection("n").is_some());
}

#[actix::test]
async fn the_same_wish_keeps_its_request_and_a_changed_one_replaces_it() {
    let store = Store::temporary().unwrap();
    let gateway = gateway_on(store.clone());
    let request = |gateway: &Gateway| pairing_list(gateway).pending[0].request_id.clone();
    connect(&gateway, "n", "c1", &["system.which"]).await;
    let first = request(&gateway);
    connect(&gateway, "n", "c2", &["system.which"]).await;
    assert_eq!(request(&gateway), first);
    let gateway = gateway_on(store);
    connect(&gateway, "n", "c3", &["system.which"]).await;
    assert_eq!(request(&gateway), first, "also after a restart");
    connect(&gateway, "n", "c4", WHICH).await;
    assert_ne!(request(&gateway), first);
    assert_eq!(pairing_list(&gateway).pending.len(), 1);
    let pairing: Scopes = ["operator.pairing", "operator.write"].into_iter().collect();
    let approve = ApproveSurface { request_id: request(&gateway), scopes: pairing };
    let refused = gateway.nodes.send(approve).await.unwrap().unwrap_err();
    assert_eq!(refused.message, "missing scope: operator.admin");
    let old = ApproveSurface { request_id: first, scopes: Scopes::none() };
    assert_eq!(gateway.nodes.send(old).await.unwrap().unwrap_err().message, "unknown requestId");
}

#[actix::test]
async fn a_removed_node_is_forgotten_cut_off_and_its_calls_fail() {
    let store = Store::temporary().unwrap();
    let gateway = gateway_on(store.clone());
    let mut node = approved(&gateway, "n", "c1").await;
    let lost = start(&gateway, which("n", "k"));
    node.request().await;
    assert!(gateway.nodes.send(ForgetNode { node_id: "n".into() }).await.unwrap().unwrap());
    assert!(matches!(lost.await.unwrap().unwrap_err(), InvokeError::Disconnected { .. }));
    let close = Outgoing::Close { code: 4001, reason: "device removed".into() };
    assert_eq!(node.frames.next().await, Some(close));
    assert_eq!(store.load_nodes().await.unwrap(), (vec![], vec![]));
    assert!(!gateway.nodes.send(ForgetNode { node_id: "n".into() }).await.unwrap().unwrap());
}

#[actix::test]
async fn a_registry_that_starts_anew_finds_every_node_still_there() {
    let gateway = gateway();
    let mut node = approved(&gateway, "n", "c1").await;
    let answer = start(&gateway, which("n", "k"));
    let request = node.request().await;
    gateway.nodes.set(NodeRegistry::new(gateway.clone()).start());
    assert_eq!(gateway.nodes.send(ListNodes).await.unwrap().len(), 1);
    node.answer(&request, "1");
    answer.await.unwrap().unwrap();
    let rename = RenameNode { node_id: "n".into(), display_name: " kitchen ".into() };
    gateway.nodes.send(rename).await.unwrap().unwrap();
    let again = start(&gateway, which("Kitchen", "k2"));
    let request = node.request().await;
    node.answer(&request, "2");
    assert_eq!(again.await.unwrap().unwrap().payload.get(), "2");
}

#[actix::test]
async fn a_nodes_news_are_its_own() {
    let gateway = gateway();
    let stats =
        json!({ "cpuCount": 2, "loadAverage": [1, 0.5, 0], "memoryTotalBytes": 8, "memoryFreeBytes": 4 });
    let node = connect(&gateway, "n", "c1", WHICH).await;
    let early = hear(&gateway, "n", "node.host.stats", Some(stats.clone())).await.unwrap_err();
    assert_eq!(early.detail_code(), Some("PAIRING_CHANGED"));
    approve(&gateway, "n").await;
    let heard = hear(&gateway, "n", "node.host.stats", Some(stats)).await.unwrap();
    assert_eq!(
        serde_json::to_value(heard).unwrap(),
        json!({
        "ok": true, "event": "node.host.stats", "handled": true, "reason": "updated" })
    );
    let reason =
        async |event: &str, payload: Value| hear(&gateway, "n", event, Some(payload)).await.unwrap().reason;
    assert_eq!(reason("node.host.stats", json!({ "cpuCount": 0 })).await, Some("invalid_payload"));
    assert_eq!(reason("bogus", json!({})).await, Some("unsupported_event"));
    assert_eq!(reason("node.presence.alive", json!({ "trigger": "manual" })).await, Some("persisted"));
    assert_eq!(reason("exec.finished", json!({ "runId": "not mine" })).await, Some("unmatched_exec_event"));
    let view = shown(&gateway, "n");
    assert_eq!((view.host_stats.unwrap()["cpuCount"].clone(), &*view.last_seen_reason), (2.into(), "manual"));
    node.close();
    let view = shown(&gateway, "n");
    assert!(!view.connected && view.host_stats.is_some());
}

#[actix::test]
async fn a_local_node_is_let_in_without_asking_only_where_the_owner_said_so() {
    let gateway = gateway();
    let mut settings = Settings::default();
    settings.gateway.nodes.pairing.approve_local_surface = true;
    gateway.settings.replace(settings);
    let mut node = connect(&gateway, "n", "c1", WHICH).await;
    assert_eq!(node.event("node.pair.resolved").await["decision"], "approved");
    let answer = start(&gateway, which("n", "k"));
    let request = node.request().await;
    node.answer(&request, "1");
    answer.await.unwrap().unwrap();
    gateway.settings.replace(Settings::default());
    connect(&gateway, "m", "c2", WHICH).await;
    assert_eq!(pairing_list(&gateway).pending.len(), 1);
}
