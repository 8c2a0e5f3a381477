//! Lets the gateway be found: on the LAN by multicast DNS, for as long as it listens there and the settings allow it.
//!
//! ```text
//! discovery
//! ├─ keeper   starts and stops the beacon as settings and listeners say
//! └─ mdns     the beacon; its daemon is a thread and two sockets, so it is there only while it announces something
//! ```

mod announcement;
mod beacon;
mod keeper;

pub use announcement::{Announcement, host_label, name_of, wide_area_hints};
pub use keeper::branch;
