//! The life of a node host: connect, serve, connect again.

use std::{env, path::PathBuf, sync::Arc, time::Duration};

use tidegate_actors::{host::host_name, redaction};
use tidegate_protocol::{hello::HelloOk, setup_code::SetupPayload};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
};

use super::{
    NodeHostError, NodeRun,
    commands::{self, Surface, Uploads},
    host::Host,
    invitation,
    link::Link,
    secrets::{Home, Secrets},
    session::{Over, Session, stopped},
    state::NodeState,
    trust::Trust,
    work::Work,
};
use crate::{
    client::{
        Backoff, Client, ClientError, ConnectOptions, Credentials, DEFAULT_PORT, DeviceIdentity, Endpoint,
        Events, ssh::Keeper,
    },
    config::{self, Environment, Flags, Place},
    gateway::own_port,
    telemetry::chain,
};

/// Running commands get this long to end when the host stops.
const STOP_WITHIN: Duration = Duration::from_secs(5);
/// While somebody has to approve this device, ask often enough that the approval is noticed soon.
const PAIRING_WAIT: Duration = Duration::from_secs(10);
/// How often uploads that are too old are looked for.
const SWEEP_EVERY: Duration = Duration::from_secs(3600);

pub(super) async fn run(args: NodeRun, place: &Place, env: &Environment) -> Result<(), NodeHostError> {
    let mut stop = stop_signal().map_err(NodeHostError::Start)?;
    let invited = match &args.pair {
        Some(text) => Some(invitation::read(text).await?),
        None => None,
    };
    let mut runner = Runner::new(args, invited, place, env)?;
    let sweeping = tokio::spawn(keep_swept(runner.work.uploads().clone()));
    let ended = runner.until_stopped(&mut stop).await;
    sweeping.abort();
    runner.work.stop(STOP_WITHIN).await;
    if let Some(client) = runner.last.take() {
        client.close().await;
    }
    ended
}

/// Uploads go when their time is over, whether or not another one comes.
async fn keep_swept(uploads: Arc<Uploads>) {
    loop {
        let now = uploads.clone();
        if tokio::task::spawn_blocking(move || now.sweep()).await.is_err() {
            tracing::warn!("uploads not swept");
        }
        tokio::time::sleep(SWEEP_EVERY).await;
    }
}

/// Becomes `true` on SIGINT or SIGTERM.
fn stop_signal() -> std::io::Result<watch::Receiver<bool>> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let (tell, stop) = watch::channel(false);
    tokio::spawn(async move {
        tokio::select! {
            _ = interrupt.recv() => (),
            _ = terminate.recv() => (),
        }
        tracing::info!("stopping");
        let _ = tell.send(true);
    });
    Ok(stop)
}

pub(super) struct Runner {
    state: NodeState,
    options: ConnectOptions,
    /// Opens the way to the gateway, where there is one to open.
    tunnel: Option<Keeper>,
    device: Arc<DeviceIdentity>,
    surface: Surface,
    secrets: Secrets,
    /// The token of the setup code to join with.
    invited: Option<String>,
    trust: Trust,
    /// The command line says which certificate to accept.
    pinned_by_hand: bool,
    link: Arc<Link>,
    work: Arc<Work>,
    backoff: Backoff,
    /// The pairing request that a person has been told about.
    told: Option<String>,
    last: Option<Client>,
}

impl Runner {
    pub(super) fn new(
        args: NodeRun,
        invited: Option<SetupPayload>,
        place: &Place,
        env: &Environment,
    ) -> Result<Self, NodeHostError> {
        let mut state = NodeState::open(&place.state.node_host())?;
        let known = match &invited {
            Some(invited) => Some(invitation::endpoint(invited)?),
            None => state.joined(),
        };
        let route = args.route(known.as_ref()).cloned();
        let mut endpoint = args.endpoint(env, known, home_port(place, env))?;
        let trust = match &route {
            // It brings its own pin.
            Some(_) => Trust::Options,
            None => Trust::find(&args, &endpoint, place, env),
        };
        trust.apply(&mut endpoint);
        let secrets = match (&args.given, &route) {
            (Some(given), _) => Secrets::given(given),
            (None, Some(route)) if route.by_url => Secrets::default(),
            (None, Some(route)) => Secrets::of_config(env, &route.credentials),
            (None, None) if endpoint.is_loopback() => {
                let home = Home { port: endpoint.port, place: place.clone(), env: env.clone() };
                Secrets::of_home(env, home)?
            }
            (None, None) => Secrets::of_environment(env),
        };
        let by_url = route.as_ref().is_some_and(|route| route.by_url);
        let tunnel = route.and_then(|route| route.ssh).map(Keeper::new);
        let device = Arc::new(DeviceIdentity::load_or_create(&place.state.node_identity())?);
        let has_token = state.token(&endpoint.to_string(), device.id()).is_some();
        if by_url && args.given.is_none() && !has_token {
            return Err(NodeHostError::Options(
                "gateway url override requires explicit credentials: pass --token or --password with --url \
                 (a device that this gateway has paired needs none)"
                    .to_owned(),
            ));
        }
        let invited = invited.map(|invited| invitation::token(invited, has_token)).transpose()?.flatten();
        let surface = remember(&mut state, &args)?;
        let mut options = ConnectOptions::node(endpoint.clone(), Credentials::default(), device.clone());
        options.client.display_name = state.memory.display_name.clone().or_else(host_name);
        options.client.instance_id = Some(args.node_id.unwrap_or_else(|| state.memory.instance_id.clone()));
        options.caps.clone_from(&surface.caps);
        options.commands.clone_from(&surface.commands);
        options.path_env = env::var("PATH").ok().filter(|path| !path.is_empty());
        let link = Link::new(device.id().to_owned());
        let folder = env::current_dir().unwrap_or_else(|_| PathBuf::from("/"));
        let host = Arc::new(Host::new(place.state.root(), folder, env.home(), link.clone()));
        let work = Work::new(host, surface.clone(), device.id().to_owned());
        let pinned_by_hand = args.tls_fingerprint.is_some();
        tracing::info!(device = device.id(), gateway = %endpoint, "node host");
        Ok(Self {
            state,
            options,
            tunnel,
            device,
            surface,
            secrets,
            invited,
            trust,
            pinned_by_hand,
            link,
            work,
            backoff: Backoff::default(),
            told: None,
            last: None,
        })
    }

    pub(super) async fn until_stopped(
        &mut self,
        stop: &mut watch::Receiver<bool>,
    ) -> Result<(), NodeHostError> {
        loop {
            let connected = tokio::select! {
                connected = self.connect() => connected,
                () = stopped(stop) => return Ok(()),
            };
            let wait = match connected {
                Ok((client, events)) => match self.serve(client, events, stop).await {
                    Over::Stopped => return Ok(()),
                    Over::Lost(ended) => {
                        let wait = self.backoff.next(None);
                        tracing::warn!(code = ended.code, reason = ended.reason, ?wait, "connection lost");
                        wait
                    }
                },
                Err(error) => self.refused(error)?,
            };
            tokio::select! {
                () = tokio::time::sleep(wait) => (),
                () = stopped(stop) => return Ok(()),
            }
        }
    }

    /// The commands this node declares.
    #[cfg(test)]
    pub(super) fn declared(&self) -> &[String] {
        &self.options.commands
    }

    /// What the next attempt would authenticate with.
    #[cfg(test)]
    pub(super) fn credentials(&self) -> Credentials {
        self.secrets.choose(None)
    }

    /// Connects with the best credentials there are.
    async fn connect(&mut self) -> Result<(Client, Events), ClientError> {
        self.trust.apply(&mut self.options.endpoint);
        if let (Some(tunnel), Some(via)) = (&mut self.tunnel, &mut self.options.endpoint.via) {
            via.port = tunnel.port().await?;
        }
        self.secrets.look_again();
        let url = self.options.endpoint.to_string();
        let stored = self.state.token(&url, self.device.id());
        self.options.auth = match &self.invited {
            Some(code) => Credentials { bootstrap_token: Some(code.clone()), ..Credentials::default() },
            None => self.secrets.choose(stored.as_deref()),
        };
        let (client, events) = match Client::connect(&self.options).await {
            // The gateway gave us this token and no longer knows it.
            Err(error) if stored.is_some() && error.detail_code() == Some("AUTH_DEVICE_TOKEN_MISMATCH") => {
                tracing::warn!("the gateway no longer takes this device's token");
                self.keep_token(&url, None);
                self.options.auth = self.secrets.choose(None);
                if self.options.auth == Credentials::default() {
                    return Err(error);
                }
                Client::connect(&self.options).await?
            }
            // It was about to say that it runs when we looked.
            Err(error) if is_secret_missing(&error) && self.secrets.look_again() => {
                self.options.auth = self.secrets.choose(stored.as_deref());
                Client::connect(&self.options).await?
            }
            // A service may be started with the same command line again and again.
            Err(error) if stored.is_some() && error.detail_code() == Some("AUTH_BOOTSTRAP_TOKEN_INVALID") => {
                tracing::info!("the setup code is used up; going on with the token of this device");
                self.invited = None;
                self.options.auth = self.secrets.choose(stored.as_deref());
                Client::connect(&self.options).await?
            }
            other => other?,
        };
        self.welcome(&url, client.hello());
        Ok((client, events))
    }

    fn welcome(&mut self, url: &str, hello: &HelloOk) {
        self.backoff.reset();
        self.told = None;
        if let Some(token) = &hello.auth.device_token {
            self.keep_token(url, Some(token));
        }
        if self.invited.take().is_some() {
            tracing::info!(url, "joined: from now on no setup code is needed");
            if let Err(error) = self.state.set_joined(&self.options.endpoint) {
                tracing::warn!(%error, "the gateway is not remembered; pass --host and --port at the next start");
            }
        } else if self.pinned_by_hand && self.state.joined().is_some_and(|joined| self.is_renewed(&joined)) {
            tracing::info!(url, "the new fingerprint of this gateway's certificate is remembered");
            if let Err(error) = self.state.set_joined(&self.options.endpoint) {
                tracing::warn!(%error, "the fingerprint is not remembered; pass --tls-fingerprint at the next start");
            }
        }
        tracing::info!(gateway = hello.server.version, connection = hello.server.conn_id, "connected");
    }

    /// Whether this is the gateway that was joined, with another certificate than then.
    fn is_renewed(&self, joined: &Endpoint) -> bool {
        let now = &self.options.endpoint;
        joined.to_string() == now.to_string() && joined.pin != now.pin
    }

    fn keep_token(&mut self, url: &str, token: Option<&str>) {
        token.into_iter().for_each(redaction::hide);
        if let Err(error) = self.state.set_token(url, self.device.id(), token) {
            tracing::warn!(%error, "device token not kept");
        }
    }

    async fn serve(&mut self, client: Client, events: Events, stop: &mut watch::Receiver<bool>) -> Over {
        let session = Session {
            client: client.clone(),
            link: self.link.clone(),
            work: self.work.clone(),
            surface: self.surface.clone(),
        };
        let over = session.serve(events, stop).await;
        // Running commands may still have to answer over it.
        self.last = matches!(over, Over::Stopped).then_some(client);
        over
    }

    /// How long to wait after a failed attempt; an error when waiting is of no use.
    fn refused(&mut self, error: ClientError) -> Result<Duration, NodeHostError> {
        if !error.may_pass() {
            return Err(error.into());
        }
        let mut wait = self.backoff.next(error.retry_after());
        if error.detail_code() == Some("PAIRING_REQUIRED") {
            wait = wait.min(PAIRING_WAIT);
            let request = error.request_id().map(ToOwned::to_owned);
            if self.told != request || request.is_none() {
                let advice = error.advice().unwrap_or_default();
                tracing::warn!(request, advice, "this device has to be approved; waiting");
                self.told = request;
            }
        } else {
            tracing::warn!(error = chain(&error), ?wait, "not connected");
        }
        Ok(wait)
    }
}

/// Takes over what the options say for good, and finds what to declare.
fn remember(state: &mut NodeState, args: &NodeRun) -> Result<Surface, NodeHostError> {
    let before = (state.memory.display_name.clone(), state.memory.commands.clone());
    if let Some(name) = args.display_name.as_deref().map(str::trim).filter(|name| !name.is_empty()) {
        state.memory.display_name = Some(name.to_owned());
    }
    if args.all_commands {
        state.memory.commands = None;
    }
    if let Some(chosen) = args.chosen() {
        state.memory.commands = Some(chosen);
    }
    let only = state.memory.commands.as_deref();
    let surface = Surface::of(only).ok_or_else(|| NodeHostError::NoCommands {
        asked: only.unwrap_or_default().join(", "),
        known: commands::all_names(),
    })?;
    if before != (state.memory.display_name.clone(), state.memory.commands.clone()) || args.all_commands {
        state.save()?;
    }
    Ok(surface)
}

/// The port of the gateway on this machine.
fn home_port(place: &Place, env: &Environment) -> u16 {
    let loaded = config::load(place, env, &Flags::default());
    let configured = loaded.map_or(DEFAULT_PORT, |loaded| loaded.settings.gateway.port());
    own_port(configured, place.state.root())
}

fn is_secret_missing(error: &ClientError) -> bool {
    matches!(error.detail_code(), Some("AUTH_TOKEN_MISSING" | "AUTH_PASSWORD_MISSING"))
}
