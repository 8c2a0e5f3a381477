//! The pages that lead other machines to a gateway, followed line by line: in `deploy/`, and the README's part on it.

mod join_lan;
mod profiles;
mod tailnet;

use crate::support::eventually;
use crate::support::page::Desk;

/// Waits until commands reach the gateway of this desk.
async fn answers(desk: &Desk) {
    eventually("the gateway to answer", async || {
        desk.run("tidegate health").await.status.success().then_some(())
    })
    .await;
}

/// The id of the one request that waits, as `tidegate devices list` or `tidegate nodes pending` shows it.
async fn waiting(desk: &Desk, list: &str) -> String {
    eventually(&format!("a request in `{list}`"), async || {
        let shown = desk.json(list).await;
        let pending = shown.as_array().or_else(|| shown["pending"].as_array())?;
        let id = pending.first()?["requestId"].as_str()?.to_owned();
        // A person reads it in the table.
        assert!(desk.ok(list).await.contains(&id));
        Some(id)
    })
    .await
}

/// Waits for a node that is connected and may be used, and uses it.
async fn serves(desk: &Desk) {
    let id = eventually("the node to be connected and approved", async || {
        let list = desk.json("tidegate nodes list").await;
        let nodes = list["nodes"].as_array().or_else(|| list.as_array())?;
        let node =
            nodes.iter().find(|node| node["connected"] == true && node["approvalState"] == "approved")?;
        Some(node["nodeId"].as_str()?.to_owned())
    })
    .await;
    let line =
        format!("tidegate nodes invoke --node {id} --command system.which --params '{{\"bins\":[\"sh\"]}}'");
    let answer = desk.json(&line).await;
    assert!(answer.to_string().contains("/sh"), "{answer}");
}
