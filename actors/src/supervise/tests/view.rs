//! What operators see.

use super::fixture::*;
use crate::supervise::*;

#[actix::test]
async fn the_view_shows_the_tree_with_states_restarts_and_errors() {
    tokio::time::pause();
    let (log, view, slot) = (Log::default(), TreeView::default(), Slot::default());
    let (seen, place) = (log.clone(), slot.clone());
    let channels = ChildSpec::supervisor("channels", move |channels| {
        channels.child(worker("telegram:main", &seen).at(&place))
    });
    let (root, _ended) = Supervisor::new(&view).child(worker("agent", &log)).child(channels).run();
    settle().await;
    for _ in 0..2 {
        slot.tell(Do::PanicInHandler);
        settle().await;
    }
    assert_eq!(view.unwell(), 1);
    assert_eq!(view.failing(), ["channels/telegram:main"]);
    let tree = view.snapshot();
    assert_eq!(tree.iter().map(|node| node.name.as_str()).collect::<Vec<_>>(), ["agent", "channels"]);
    assert_eq!((tree[0].kind.as_str(), tree[1].kind.as_str()), ("Worker", "Supervisor"));
    let account = &tree[1].children[0];
    assert_eq!(account.path, "channels/telegram:main");
    assert_eq!((account.state, account.restarts), (ChildState::Restarting, 1));
    assert_eq!(account.last_error.as_deref(), Some("panicked: boom"));
    assert!(account.started_at_ms.is_some());
    assert_eq!(account.waiting, Some(0));

    let json = serde_json::to_value(&tree).unwrap();
    assert_eq!(json[1]["children"][0]["state"], "restarting");
    assert_eq!(serde_json::from_value::<Vec<TreeNode>>(json).unwrap(), tree);

    root.send(StopAll).await.unwrap();
    assert_eq!(view.snapshot(), []);
}
