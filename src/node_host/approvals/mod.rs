//! The exec approvals of this host: a file that says what may run without asking.

mod decision;
mod file;
mod pattern;
mod policy;
mod store;

pub(crate) use decision::{Verdict, decide};
pub(crate) use file::{AllowEntry, Ask, Security};
pub(crate) use pattern::cwd_argv_hash;
pub(crate) use policy::{Allowed, Policy};
pub(crate) use store::{ApprovalsError, ApprovalsStore};
