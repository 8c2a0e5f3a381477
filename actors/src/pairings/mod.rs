//! Who was let in, and who asks to be: devices with their tokens, setup codes, and what nodes offer. Plain data, without
//! a database and without actors: decisions are made from it, the store keeps it, `devices` and `nodes` change it.

mod book;
mod device;
mod node;
mod setup_code;
mod surface;
mod token;

pub use book::{Change, DeviceBook};
pub use device::{Approval, DeviceClaim, DeviceRecord, PairingRequest, REQUEST_LIFETIME_MS};
pub use node::{ApprovalState, NodeRecord, PairedView, PendingView, SurfaceRequest};
pub use setup_code::{CODE_LIFETIME_MS, Seed, SetupCode, Used};
pub(crate) use setup_code::{CODE_MEMORY_MS, MAX_CODES};
pub use surface::Surface;
pub use token::{IssuedToken, TokenRecord};
