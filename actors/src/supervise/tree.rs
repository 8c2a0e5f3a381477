//! The tree as operators see it: plain data, written by supervisors, read from anywhere.

use super::exit::Exit;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{SystemTime, UNIX_EPOCH};
use tokio::sync::Notify;

/// A live view of a supervisor and everything below it. Cheap to clone.
#[derive(Clone, Default)]
pub struct TreeView(Arc<Node>);

/// What one child is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ChildState {
    /// Not started yet, or ended in good order.
    #[default]
    Stopped,
    /// Serving.
    Running,
    /// Asked to stop, not gone yet.
    Stopping,
    /// Failed, or brought down with one that failed; starts again after its back-off.
    Restarting,
    /// Failed for good.
    Failed,
}

/// A snapshot of one child and everything below it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TreeNode {
    /// The names from the root down, joined by `/`.
    pub path: String,
    /// Unique among its siblings.
    pub name: String,
    /// The type of the actor.
    pub kind: String,
    /// What it is doing.
    pub state: ChildState,
    /// Restarts since the process started.
    pub restarts: u64,
    /// Why it last failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
    /// When this incarnation started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at_ms: Option<u64>,
    /// Calls that wait for its answer, where that can be known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting: Option<usize>,
    /// In start order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub children: Vec<TreeNode>,
}

#[derive(Default)]
struct Node {
    path: String,
    name: String,
    kind: &'static str,
    waiting: Option<Box<dyn Fn() -> usize + Send + Sync>>,
    facts: Mutex<Facts>,
    children: Mutex<BTreeMap<u64, TreeView>>,
    alive: AtomicUsize,
    departed: Notify,
}

#[derive(Default)]
struct Facts {
    state: ChildState,
    restarts: u64,
    last_error: Option<String>,
    started_at_ms: Option<u64>,
    verdict: Option<Exit>,
}

impl TreeView {
    /// What the children of this supervisor are doing right now, in start order.
    pub fn snapshot(&self) -> Vec<TreeNode> {
        let children: Vec<TreeView> = self.children().values().cloned().collect();
        children.iter().map(TreeView::describe).collect()
    }

    /// How many children are there, at any depth, that are not running: what `status` needs to say "all well".
    pub fn unwell(&self) -> usize {
        fn count(nodes: &[TreeNode]) -> usize {
            nodes.iter().map(|node| usize::from(node.is_unwell()) + count(&node.children)).sum()
        }
        count(&self.snapshot())
    }

    /// The paths of what keeps the whole from being ready: a part of the root that is not running, or anything below
    /// that is down after a failure.
    pub fn failing(&self) -> Vec<String> {
        fn below(nodes: &[TreeNode], failing: &mut Vec<String>) {
            for node in nodes {
                if node.is_unwell() {
                    failing.push(node.path.clone());
                }
                below(&node.children, failing);
            }
        }
        let mut failing = Vec::new();
        for child in self.snapshot() {
            if child.state != ChildState::Running {
                failing.push(child.path);
            }
            below(&child.children, &mut failing);
        }
        failing
    }

    /// The names from the root down, joined by `/`; empty for the root.
    pub fn path(&self) -> &str {
        &self.0.path
    }

    fn describe(&self) -> TreeNode {
        let facts = self.facts();
        TreeNode {
            path: self.0.path.clone(),
            name: self.0.name.clone(),
            kind: self.0.kind.to_owned(),
            state: facts.state,
            restarts: facts.restarts,
            last_error: facts.last_error.clone(),
            started_at_ms: facts.started_at_ms,
            waiting: self.0.waiting.as_ref().map(|count| count()),
            children: self.snapshot(),
        }
    }

    pub(super) fn add(
        &self,
        id: u64,
        name: &str,
        kind: &'static str,
        waiting: Option<WaitingCount>,
    ) -> TreeView {
        let path = if self.0.path.is_empty() { name.to_owned() } else { format!("{}/{name}", self.0.path) };
        let child =
            TreeView(Arc::new(Node { path, name: name.to_owned(), kind, waiting, ..Node::default() }));
        self.children().insert(id, child.clone());
        child
    }

    pub(super) fn remove(&self, id: u64) {
        self.children().remove(&id);
    }

    /// A new incarnation of a supervisor starts with nothing below it.
    pub(super) fn clear(&self) {
        self.children().clear();
    }

    pub(super) fn started(&self) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let mut facts = self.facts();
        if facts.started_at_ms.is_some() {
            facts.restarts += 1;
        }
        facts.state = ChildState::Running;
        facts.started_at_ms = u64::try_from(now.as_millis()).ok();
    }

    pub(super) fn now(&self, state: ChildState) {
        self.facts().state = state;
    }

    pub(super) fn failed(&self, exit: &Exit) {
        self.facts().last_error = Some(exit.to_string());
    }

    /// Leaves word for the supervisor above on why this one stops.
    pub(super) fn leave_verdict(&self, exit: Exit) {
        self.facts().verdict = Some(exit);
    }

    /// A supervisor is gone when its children are; then its verdict counts. Other actors have neither.
    pub(super) async fn last_word(&self, exit: Exit) -> Exit {
        self.deserted().await;
        self.facts().verdict.take().unwrap_or(exit)
    }

    /// Counts one living child until the guard is dropped.
    pub(super) fn count_alive(&self) -> Alive {
        self.0.alive.fetch_add(1, Ordering::AcqRel);
        Alive(self.clone())
    }

    async fn deserted(&self) {
        loop {
            let departed = self.0.departed.notified();
            if self.0.alive.load(Ordering::Acquire) == 0 {
                return;
            }
            departed.await;
        }
    }

    fn facts(&self) -> MutexGuard<'_, Facts> {
        self.0.facts.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn children(&self) -> MutexGuard<'_, BTreeMap<u64, TreeView>> {
        self.0.children.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// Asks a slot how many calls wait for an answer.
pub(super) type WaitingCount = Box<dyn Fn() -> usize + Send + Sync>;

impl TreeNode {
    fn is_unwell(&self) -> bool {
        matches!(self.state, ChildState::Restarting | ChildState::Failed)
    }
}

impl fmt::Debug for TreeView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.snapshot()).finish()
    }
}

pub(super) struct Alive(TreeView);

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.0.alive.fetch_sub(1, Ordering::AcqRel);
        self.0.0.departed.notify_waiters();
    }
}
