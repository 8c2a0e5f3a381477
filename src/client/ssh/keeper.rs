//! A tunnel for somebody who comes back: opened at the first need, and again when it was lost.

use super::{SshError, Tunnel, TunnelOptions};

/// Holds at most one tunnel. How often to try again is up to the caller's back-off.
#[derive(Debug)]
pub struct Keeper {
    options: TunnelOptions,
    tunnel: Option<Tunnel>,
    /// Something was seen at the far end of this tunnel.
    reached: bool,
}

impl Keeper {
    pub fn new(options: TunnelOptions) -> Self {
        Self { options, tunnel: None, reached: false }
    }

    pub fn options(&self) -> &TunnelOptions {
        &self.options
    }

    /// The local port of a tunnel that stands and has a listener at its end.
    pub async fn port(&mut self) -> Result<u16, SshError> {
        if let Some(tunnel) = &mut self.tunnel
            && !tunnel.is_up()
        {
            let why = tunnel.ended().await;
            tracing::warn!(%why, "the tunnel was lost; opening it again");
            self.tunnel = None;
        }
        let tunnel = match &mut self.tunnel {
            Some(tunnel) => tunnel,
            none => {
                self.reached = false;
                let tunnel = Tunnel::open(&self.options).await?;
                tracing::info!(host = %self.options.target, port = tunnel.local_port(), "tunnel");
                none.insert(tunnel)
            }
        };
        if !self.reached {
            tunnel.reaches().await?;
            self.reached = true;
        }
        Ok(tunnel.local_port())
    }
}
