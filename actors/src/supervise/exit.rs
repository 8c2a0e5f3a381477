//! Why an incarnation of an actor ended.

use std::fmt;

/// How one incarnation of an actor came to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Exit {
    /// It stopped by itself.
    Finished,
    /// It stopped because it was asked to.
    Asked,
    /// It was aborted, or the thread it lived on went away.
    Killed,
    /// A handler, timer, future or hook of it panicked.
    Panicked(String),
    /// It gave up and says why.
    Failed(String),
    /// It missed its liveness probe.
    Unresponsive(String),
    /// It could not be brought down: nothing below the process can help.
    Stuck(String),
}

impl Exit {
    /// True when the actor ended on purpose, its own or somebody else's.
    pub fn is_clean(&self) -> bool {
        matches!(self, Self::Finished | Self::Asked)
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Finished => f.write_str("stopped without being asked"),
            Self::Asked => f.write_str("stopped as asked"),
            Self::Killed => f.write_str("was aborted"),
            Self::Panicked(text) => write!(f, "panicked: {text}"),
            Self::Failed(why) => write!(f, "failed: {why}"),
            Self::Unresponsive(what) => write!(f, "did not answer: {what}"),
            Self::Stuck(what) => write!(f, "could not be stopped: {what}"),
        }
    }
}
