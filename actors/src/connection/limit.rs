//! How large a frame the socket may take, changed when the handshake is done.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tidegate_protocol::limits::{MAX_PAYLOAD, MAX_PREAUTH_PAYLOAD};

/// Shared by a session and its socket.
#[derive(Debug, Clone)]
pub struct FrameLimit(Arc<AtomicUsize>);

impl Default for FrameLimit {
    fn default() -> Self {
        Self(Arc::new(AtomicUsize::new(MAX_PREAUTH_PAYLOAD)))
    }
}

impl FrameLimit {
    /// Bytes that one message may have now.
    pub fn bytes(&self) -> usize {
        self.0.load(Ordering::Acquire)
    }

    /// The handshake is done: full size from the next frame on.
    pub(crate) fn raise(&self) {
        self.0.store(MAX_PAYLOAD, Ordering::Release);
    }
}
