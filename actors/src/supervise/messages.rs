//! What a supervisor asks of its children.

use actix::Message;

/// Asks an actor to finish what it is doing and stop its own context, within its shutdown time.
///
/// Only children declared with [`ChildSpec::drains`](super::ChildSpec::drains) get it; others are just stopped.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Shutdown;

/// Asks an actor whether it still answers its mailbox. Any answer will do.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Probe;

/// Lets actors be probed: answering at all is the answer.
#[macro_export]
macro_rules! answers_probes {
    ($($actor:ty),+ $(,)?) => {$(
        impl ::actix::Handler<$crate::supervise::Probe> for $actor {
            type Result = ();
            fn handle(&mut self, _: $crate::supervise::Probe, _: &mut Self::Context) {}
        }
    )+};
}
