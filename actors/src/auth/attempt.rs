//! What is judged.

use super::peer::Peer;
use super::policy::AuthPolicy;
use std::time::Instant;
use tidegate_protocol::connect::{Challenge, ConnectParams};

/// A connect, and everything it is judged by.
#[derive(Debug, Clone, Copy)]
pub struct Attempt<'a> {
    pub peer: &'a Peer,
    pub params: &'a ConnectParams,
    pub challenge: &'a Challenge,
    pub policy: &'a AuthPolicy,
    pub now_ms: i64,
    pub now: Instant,
}
