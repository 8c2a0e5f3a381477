//! Calls that are on their way: who waits for which answer. Plain data, so a restart of the registry
//! loses none of them.

use dashmap::DashMap;
use serde_json::value::RawValue;
use std::sync::Arc;
use tokio::sync::oneshot;

/// How a call that reached a node ended.
#[derive(Debug)]
pub enum End {
    /// The node answered.
    Answered(Answer),
    /// The connection that carried the call is gone, and no answer came before.
    Disconnected,
}

/// What a node sent back, untouched.
#[derive(Debug, Default)]
pub struct Answer {
    pub ok: bool,
    pub payload: Option<Box<RawValue>>,
    pub payload_json: Option<String>,
    pub error: Option<NodeError>,
}

/// The error object of a node.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct NodeError {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// The table of waiting calls.
#[derive(Clone, Default)]
pub struct Calls(Arc<DashMap<String, Waiting>>);

struct Waiting {
    node_id: Arc<str>,
    conn_id: Arc<str>,
    end: oneshot::Sender<End>,
}

/// One call's place in the table; it leaves the table when dropped.
pub struct Ticket {
    calls: Calls,
    id: String,
    pub end: oneshot::Receiver<End>,
}

impl Calls {
    /// Registers a call before its frame is sent, so that the quickest answer finds it.
    pub fn open(&self, id: String, node_id: Arc<str>, conn_id: Arc<str>) -> Ticket {
        let (sender, end) = oneshot::channel();
        let waiting = Waiting { node_id, conn_id, end: sender };
        self.0.insert(id.clone(), waiting);
        Ticket { calls: self.clone(), id, end }
    }

    /// Hands the node's answer to whoever waits. `false`: nobody (any more), or another node's call.
    pub fn complete(&self, id: &str, node_id: &str, answer: Answer) -> bool {
        match self.0.remove_if(id, |_, waiting| &*waiting.node_id == node_id) {
            Some((_, waiting)) => waiting.end.send(End::Answered(answer)).is_ok(),
            None => false,
        }
    }

    /// Fails every call that a connection carried. An answer taken before has left the table already.
    pub fn disconnect(&self, conn_id: &str) {
        let lost: Vec<String> = self
            .0
            .iter()
            .filter(|entry| &*entry.value().conn_id == conn_id)
            .map(|entry| entry.key().clone())
            .collect();
        for id in lost {
            if let Some((_, waiting)) = self.0.remove(&id) {
                let _ = waiting.end.send(End::Disconnected);
            }
        }
    }

    /// How many calls wait for an answer.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether no call waits.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.calls.0.remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(calls: &Calls, id: &str, node: &str, conn: &str) -> Ticket {
        calls.open(id.into(), node.into(), conn.into())
    }

    fn ok() -> Answer {
        Answer { ok: true, ..Answer::default() }
    }

    #[test]
    fn the_first_answer_wins_and_later_ones_are_ignored() {
        let calls = Calls::default();
        let mut ticket = open(&calls, "1", "n", "c");
        assert!(calls.complete("1", "n", ok()));
        assert!(!calls.complete("1", "n", Answer::default()));
        assert!(matches!(ticket.end.try_recv(), Ok(End::Answered(Answer { ok: true, .. }))));
    }

    #[test]
    fn another_node_cannot_answer() {
        let calls = Calls::default();
        let mut ticket = open(&calls, "1", "n", "c");
        assert!(!calls.complete("1", "intruder", ok()));
        assert!(ticket.end.try_recv().is_err());
        assert_eq!(calls.len(), 1);
    }

    #[test]
    fn an_answer_before_the_close_wins_and_only_that_connections_calls_fail() {
        let calls = Calls::default();
        let mut answered = open(&calls, "1", "n", "old");
        let mut lost = open(&calls, "2", "n", "old");
        let mut other = open(&calls, "3", "n", "new");
        assert!(calls.complete("1", "n", ok()));
        calls.disconnect("old");
        assert!(matches!(answered.end.try_recv(), Ok(End::Answered(_))));
        assert!(matches!(lost.end.try_recv(), Ok(End::Disconnected)));
        assert!(other.end.try_recv().is_err());
    }

    #[test]
    fn a_caller_that_gave_up_leaves_nothing_behind() {
        let calls = Calls::default();
        drop(open(&calls, "1", "n", "c"));
        assert!(calls.is_empty());
        assert!(!calls.complete("1", "n", ok()));
    }
}
