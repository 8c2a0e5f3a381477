//! TLS as a gateway serves it: a certificate and its key from files, or made here, and taken up anew when they change.

mod error;
mod files;
mod own;
mod server;

pub use self::{error::TlsError, files::TlsFiles, server::ServerTls};
pub use tidegate_actors::pin::Pin;
