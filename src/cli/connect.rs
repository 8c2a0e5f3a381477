//! From a command to its gateway: find it, open the way there, connect, call.

use std::{sync::Arc, time::Duration};

use serde_json::Value;
use tidegate_protocol::Scope;

use super::{
    Context, Failure,
    target::{self, Target},
};
use crate::client::{
    Client, ClientError, ConnectOptions, DeviceIdentity, Endpoint, Events, Via,
    ssh::{Keeper, TunnelOptions},
};

/// Longer than any step that `ssh` may take by itself.
const TUNNEL_WITHIN: Duration = Duration::from_secs(60);

impl Context {
    /// Which gateway, and with what credential. Nothing is sent yet.
    pub(super) fn target(&self) -> Result<Target, Failure> {
        target::find(self)
    }

    /// Connects as an operator with every scope; the gateway grants what it grants.
    pub(super) async fn connect(&self) -> Result<(Client, Events), Failure> {
        let target = self.target()?;
        if !target.is_at_home() {
            return self.connect_to(&target, self.device()?).await;
        }
        let (client, events) = self.connect_to(&target, None).await?;
        // The tunnel may have led further, to a gateway that sees a stranger in us.
        if target.ssh.is_some() && client.hello().auth.scopes.is_empty() {
            client.close().await;
            return self.connect_to(&target, self.device()?).await;
        }
        Ok((client, events))
    }

    /// From afar a gateway gives scopes only to a device that it knows.
    fn device(&self) -> Result<Option<Arc<DeviceIdentity>>, Failure> {
        Ok(Some(Arc::new(DeviceIdentity::load_or_create(&self.identity_file()?)?)))
    }

    /// Connects to this gateway, as this device.
    pub(super) async fn connect_to(
        &self,
        target: &Target,
        identity: Option<Arc<DeviceIdentity>>,
    ) -> Result<(Client, Events), Failure> {
        let mut endpoint = target.endpoint.clone();
        if let Some(tunnel) = &target.ssh {
            endpoint = self.through(tunnel, endpoint).await?;
        }
        let scopes = [Scope::Admin, Scope::Read, Scope::Write, Scope::Approvals, Scope::Pairing];
        let mut options = ConnectOptions::operator(endpoint, target.credentials.clone(), scopes);
        options.identity = identity;
        options.timeout = self.timeout(options.timeout);
        Ok(Client::connect(&options).await?)
    }

    /// Where this command line's own device identity is kept.
    pub(super) fn identity_file(&self) -> Result<std::path::PathBuf, Failure> {
        Ok(self.place()?.state.root().join("cli").join("identity.json"))
    }

    /// The endpoint with the near end of a tunnel that stands.
    async fn through(&self, tunnel: &TunnelOptions, endpoint: Endpoint) -> Result<Endpoint, Failure> {
        let mut slot = self.tunnel.lock().await;
        let keeper = match &mut *slot {
            Some(keeper) if keeper.options() == tunnel => keeper,
            other => other.insert(Keeper::new(tunnel.clone())),
        };
        let after = self.timeout(TUNNEL_WITHIN);
        let port = match tokio::time::timeout(after, keeper.port()).await {
            Ok(port) => port.map_err(ClientError::from)?,
            Err(_) => return Err(ClientError::TimedOut { method: "connect".to_owned(), after }.into()),
        };
        Ok(Endpoint { via: Some(Via { host: tunnel.target.to_string(), port }), ..endpoint })
    }

    /// One call over a connection of its own.
    pub(super) async fn call(&self, method: &str, params: Value) -> Result<Value, Failure> {
        let (client, _) = self.connect().await?;
        let answer = self.call_over(&client, method, params).await;
        client.close().await;
        answer
    }

    /// One of several calls over one connection.
    pub(super) async fn call_over(
        &self,
        client: &Client,
        method: &str,
        params: Value,
    ) -> Result<Value, Failure> {
        Ok(client.call_within(method, &params, self.timeout(crate::client::CALL_TIMEOUT)).await?)
    }
}
