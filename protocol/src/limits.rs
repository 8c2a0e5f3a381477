//! The protocol's numbers, each beside the reason it exists.

use std::time::Duration;

/// The version this gateway speaks, and the only one `hello-ok` ever names.
pub const PROTOCOL_VERSION: u64 = 4;

/// Probes and nodes may still offer this version.
pub const MINIMUM_PROBE_PROTOCOL: u64 = 3;

/// Largest frame, in bytes, before the handshake is done.
pub const MAX_PREAUTH_PAYLOAD: usize = 65_536;

/// Largest frame, in bytes, after `hello-ok` (`policy.maxPayload`).
pub const MAX_PAYLOAD: usize = 26_214_400;

/// Bytes that may wait for one socket (`policy.maxBufferedBytes`); beyond them the peer is a slow consumer.
pub const MAX_BUFFERED_BYTES: usize = 52_428_800;

/// Time between `tick` events (`policy.tickIntervalMs`). Clients give up after twice as long.
pub const TICK_INTERVAL: Duration = Duration::from_secs(30);

/// Time between WebSocket pings.
pub const PING_INTERVAL: Duration = Duration::from_secs(25);

/// From the upgrade to a `connect` request.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(15);

/// Frames that may queue behind an unanswered `connect`; all of them together keep within [`MAX_PREAUTH_PAYLOAD`].
pub const MAX_PENDING_HANDSHAKE_FRAMES: usize = 15;

/// Close reasons are cut to this many bytes of UTF-8.
pub const MAX_CLOSE_REASON: usize = 120;

/// Attachment limits announced in `policy.attachments`.
pub const MAX_ATTACHMENT_BYTES: usize = 19_464_192;
/// As above, for images.
pub const MAX_IMAGE_BYTES: usize = 6_291_456;

/// WebSocket close codes the protocol uses.
pub mod close {
    /// Normal end; also a handshake that never came.
    pub const NORMAL: u16 = 1000;
    /// The protocol versions do not meet.
    pub const PROTOCOL: u16 = 1002;
    /// Refused: see the reason.
    pub const POLICY: u16 = 1008;
    /// The gateway stops or restarts.
    pub const RESTART: u16 = 1012;
    /// The gateway is not ready yet.
    pub const AGAIN: u16 = 1013;
    /// A client heard no tick (sent by clients).
    pub const TICK_TIMEOUT: u16 = 4000;
    /// The device was revoked, rotated or removed.
    pub const DEVICE_REMOVED: u16 = 4001;
}

/// `reason` cut to [`MAX_CLOSE_REASON`] bytes at a character boundary.
pub fn close_reason(reason: &str) -> &str {
    let mut end = reason.len().min(MAX_CLOSE_REASON);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    &reason[..end]
}
