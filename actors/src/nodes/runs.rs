//! Which programs nodes run because we asked, so that a node can't speak of runs that are not its own.

use dashmap::DashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// A node's last word about a run may come after its result, but not much later.
const LINGER: Duration = Duration::from_secs(600);

/// Runs by node and run id. Cheap to clone.
#[derive(Clone, Default)]
pub struct Runs(Arc<DashMap<(String, String), Run>>);

struct Run {
    session_key: Option<String>,
    ended: Option<Instant>,
    reported: bool,
}

/// A run in progress; it lingers for a while after this is dropped.
pub struct Running {
    runs: Runs,
    key: (String, String),
}

impl Runs {
    /// From now on the node may speak of this run.
    pub fn begin(&self, node_id: &str, run_id: &str, session_key: Option<String>) -> Running {
        let key = (node_id.to_owned(), run_id.to_owned());
        self.0.insert(key.clone(), Run { session_key, ended: None, reported: false });
        Running { runs: self.clone(), key }
    }

    /// Whether the node may say this about the run: it is its own, and not over twice.
    pub fn may_report(&self, node_id: &str, run_id: &str, session_key: Option<&str>, last: bool) -> bool {
        let Some(mut run) = self.0.get_mut(&(node_id.to_owned(), run_id.to_owned())) else { return false };
        let same_session = match (&run.session_key, session_key) {
            (Some(ours), Some(theirs)) => ours == theirs,
            _ => true,
        };
        if !same_session || run.reported {
            return false;
        }
        run.reported = last;
        true
    }

    /// Forgets runs that are long over.
    pub fn sweep(&self) {
        let now = Instant::now();
        self.0.retain(|_, run| run.ended.is_none_or(|ended| now.duration_since(ended) < LINGER));
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(mut run) = self.runs.0.get_mut(&self.key) {
            run.ended = Some(Instant::now());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_node_speaks_only_of_its_own_runs_and_ends_each_once() {
        let runs = Runs::default();
        let running = runs.begin("n", "r", Some("agent:main:main".into()));
        assert!(!runs.may_report("intruder", "r", None, false));
        assert!(!runs.may_report("n", "other", None, false));
        assert!(!runs.may_report("n", "r", Some("agent:main:elsewhere"), true));
        assert!(runs.may_report("n", "r", Some("agent:main:main"), false));
        drop(running);
        runs.sweep();
        assert!(runs.may_report("n", "r", Some("agent:main:main"), true));
        assert!(!runs.may_report("n", "r", Some("agent:main:main"), true));
        tokio::time::advance(LINGER).await;
        runs.sweep();
        assert!(runs.0.is_empty());
    }
}
