//! How long a test waits. No test asserts a wall-clock time: it waits for the thing itself, with a bound so generous
//! that only a hang reaches it.

use std::future::Future;
use std::time::Duration;
use tokio::time::{sleep, timeout};

/// The bound on anything that ought to happen at once.
pub const PATIENCE: Duration = Duration::from_secs(180);

/// The answer of `work`, or a failed test that says what was awaited.
pub async fn within<T>(what: &str, work: impl Future<Output = T>) -> T {
    match timeout(PATIENCE, work).await {
        Ok(value) => value,
        Err(_) => panic!("gave up waiting for {what}"),
    }
}

/// Asks again and again until there is an answer.
pub async fn eventually<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    within(what, async {
        loop {
            if let Some(value) = ask().await {
                return value;
            }
            sleep(Duration::from_millis(25)).await;
        }
    })
    .await
}
