//! What the tests stand on: a gateway with nothing but its channels.

use crate::fake_telegram::{Call, FakeTelegram};
use actix::Addr;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tidegate_actors::channels::telegram::Timing;
use tidegate_actors::channels::{ChannelStatus, Phase, RunProgress, branch_with};
use tidegate_actors::gateway::Gateway;
use tidegate_actors::inbound::{ChatKind, OutboundMessage, Route};
use tidegate_actors::settings::{Settings, SettingsHandle, StatePaths};
use tidegate_actors::store::{DeliveryState, IngressRow, NewOutbound, Store, answer_key};
use tidegate_actors::supervise::{BackOff, StopAll, Supervisor};

/// The bound on anything that ought to happen: only a hang reaches it.
pub const PATIENCE: Duration = Duration::from_secs(180);

pub struct Bench {
    pub fake: FakeTelegram,
    pub gateway: Gateway,
    pub arrived: Arc<Mutex<Vec<IngressRow>>>,
    pub root: Addr<Supervisor>,
    _folder: tempfile::TempDir,
}

/// Short times, so that a test of a long trouble is short.
pub fn quick() -> Timing {
    let millis = Duration::from_millis;
    let back_off = |first, max| BackOff { first: millis(first), max: millis(max), ..BackOff::default() };
    Timing {
        poll: Duration::from_secs(1),
        grace: millis(700),
        network: back_off(50, 200),
        conflict: back_off(100, 300),
        auth: back_off(200, 400),
        delivery: back_off(50, 200),
        call: Duration::from_secs(5),
        typing: millis(150),
        edit_direct: millis(200),
        edit_group: millis(300),
        first_preview: millis(50),
        abandon: millis(200),
    }
}

impl Bench {
    /// A gateway with these settings of `channels.telegram`, polling the fake.
    pub async fn start(telegram: Value) -> Self {
        Self::start_with(FakeTelegram::start(), telegram, quick(), |_| async {}).await
    }

    /// As `start`; `before` sees the gateway before its channels run.
    pub async fn start_with<F: Future<Output = ()>>(
        fake: FakeTelegram,
        telegram: Value,
        timing: Timing,
        before: impl FnOnce(Gateway) -> F,
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let settings = SettingsHandle::new(settings(&fake, telegram), StatePaths::new(folder.path()));
        let gateway = Gateway::new(settings, Store::temporary().unwrap());
        before(gateway.clone()).await;
        let arrived = Arc::new(Mutex::new(Vec::new()));
        let rows = arrived.clone();
        let spec = branch_with(&gateway, Arc::new(move |row| rows.lock().unwrap().push(row)), timing);
        let (root, _watched) = Supervisor::new(&gateway.tree).child(spec).run();
        Self { fake, gateway, arrived, root, _folder: folder }
    }

    pub async fn ready(self) -> Self {
        self.until("the account is ready", |bench| bench.status().connected).await;
        self
    }

    pub fn configure(&self, telegram: Value) {
        self.gateway.settings.replace(settings(&self.fake, telegram));
    }

    pub fn status(&self) -> ChannelStatus {
        self.gateway
            .channels
            .get("telegram", "default")
            .map_or_else(|| ChannelStatus::new("default"), |handle| handle.status())
    }

    pub fn rows(&self) -> Vec<IngressRow> {
        self.arrived.lock().unwrap().clone()
    }

    pub fn texts(&self) -> Vec<String> {
        self.rows().into_iter().map(|row| row.inbound.text).collect()
    }

    /// Waits for `wanted`; says what it waited for when it does not come.
    pub async fn until(&self, what: &str, wanted: impl Fn(&Self) -> bool) {
        let came = self.fake.wait(PATIENCE, |_| wanted(self)).await;
        assert!(came, "waited in vain until {what}; status {:?}; calls {:?}", self.status(), self.calls());
    }

    /// How many polls were answered.
    pub fn polls(&self) -> usize {
        self.fake.calls_of("getUpdates").iter().filter(|poll| poll.status.is_some()).count()
    }

    pub fn calls(&self) -> Vec<(String, Option<u16>)> {
        self.fake.calls().into_iter().map(|call| (call.method, call.status)).collect()
    }

    /// Puts an answer in the outbox as the agent does.
    pub async fn answer(&self, run_id: &str, chat: i64, text: &str) {
        let message = OutboundMessage { text: Some(text.to_owned()), ..OutboundMessage::default() };
        self.post(run_id, &route(chat, None), message).await;
    }

    pub async fn post(&self, run_id: &str, route: &Route, message: OutboundMessage) {
        let outbound = NewOutbound {
            key: answer_key(run_id),
            route: route.clone(),
            run_id: Some(run_id.to_owned()),
            message,
        };
        self.gateway.store.post(outbound).await.unwrap();
        self.gateway.channels.flush("telegram", "default");
    }

    pub fn progress(&self, run_id: &str, chat: i64, phase: Phase) {
        self.gateway.channels.progress(RunProgress {
            route: route(chat, None),
            run_id: run_id.to_owned(),
            phase,
        });
    }

    pub async fn delivery(&self, run_id: &str) -> DeliveryState {
        self.gateway.store.delivery(&answer_key(run_id)).await.unwrap().unwrap()
    }

    /// Waits until the answer is in `state`.
    pub async fn delivered_as(&self, run_id: &str, state: &str) -> DeliveryState {
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end {
            let delivery = self.delivery(run_id).await;
            if delivery.state == state {
                return delivery;
            }
            actix::clock::sleep(Duration::from_millis(10)).await;
        }
        panic!("not {state}: {:?}; calls {:?}", self.delivery(run_id).await, self.calls());
    }

    /// Waits until the message that shows this run's preview is on record.
    pub async fn remembers_draft(&self, run_id: &str) {
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end {
            if self.gateway.store.draft("telegram", "default", run_id).await.unwrap().is_some() {
                return;
            }
            actix::clock::sleep(Duration::from_millis(10)).await;
        }
        panic!("the preview of {run_id} was never recorded");
    }

    pub async fn stop(&self) {
        self.root.send(StopAll).await.unwrap();
    }

    pub fn media(&self, name: &str, content: &[u8]) -> PathBuf {
        let folder = self.gateway.settings.paths().media();
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join(name);
        std::fs::write(&path, content).unwrap();
        path
    }
}

/// How long the bot left Telegram alone between one call and the next, as Telegram saw it. However slow the
/// machine, this is at least the pause that the bot made: it begins after the one call and ends before the other.
pub fn pauses(calls: &[Call]) -> Vec<Duration> {
    calls.windows(2).map(|pair| pair[1].at - pair[0].at).collect()
}

/// The least pause before each try, if the first follows a success.
pub fn least(back_off: &BackOff) -> impl Iterator<Item = Duration> {
    let BackOff { first, max, jitter, .. } = *back_off;
    (0..).map(move |n| (first * 2_u32.saturating_pow(n)).min(max).mul_f64(1.0 - jitter))
}

pub fn route(chat: i64, thread: Option<i64>) -> Route {
    Route {
        channel: "telegram".into(),
        account: "default".into(),
        chat: chat.to_string(),
        thread: thread.map(|thread| thread.to_string()),
        reply_to: None,
        kind: match (chat > 0, thread) {
            (true, _) => ChatKind::Direct,
            (false, Some(_)) => ChatKind::Topic,
            (false, None) => ChatKind::Group,
        },
    }
}

fn settings(fake: &FakeTelegram, mut telegram: Value) -> Settings {
    if telegram.get("botToken").is_none() {
        telegram["botToken"] = fake.token().into();
    }
    if telegram.get("apiRoot").is_none() {
        telegram["apiRoot"] = fake.api_root().into();
    }
    serde_json::from_value(json!({"channels": {"telegram": telegram}})).unwrap()
}
