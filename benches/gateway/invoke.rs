//! `node.invoke` through the gateway and through the relay, in turns, under the same load.

use super::peer::{self, Incoming, Socket};
use super::process::{Server, State};
use super::relay::NODE_PATH;
use super::table::{Bar, Table, ms};
use futures_util::future::join_all;
use futures_util::{SinkExt, StreamExt};
use serde::Deserialize;
use std::collections::HashMap;
use std::time::{Duration, Instant};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;

const COMMAND: &str = "system.which";
const ROUNDS: usize = 3;
const WARM_UP: Duration = Duration::from_millis(500);
const SPAN: Duration = Duration::from_secs(2);
/// How long an answer may take before it counts as lost.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Clone, Copy)]
struct Case {
    name: &'static str,
    operators: usize,
    nodes: usize,
    in_flight: usize,
    bytes: usize,
    /// The first bar holds for the plain cases.
    bar: bool,
}

const CASES: [Case; 4] = [
    Case { name: "invoke, 1 operator, 1 node", operators: 1, nodes: 1, in_flight: 1, bytes: 64, bar: true },
    Case { name: "invoke, 8 operators, 4 nodes", operators: 8, nodes: 4, in_flight: 1, bytes: 64, bar: true },
    Case {
        name: "invoke, 8 and 4, 4 in flight each",
        operators: 8,
        nodes: 4,
        in_flight: 4,
        bytes: 64,
        bar: false,
    },
    Case {
        name: "invoke, 8 and 4, 16 KiB",
        operators: 8,
        nodes: 4,
        in_flight: 1,
        bytes: 16 << 10,
        bar: false,
    },
];

/// What one kind of server did under one load, over all rounds.
#[derive(Default)]
struct Tally {
    times: Vec<Duration>,
    span: Duration,
    cpu: Duration,
    lost: u64,
    doubled: u64,
    mismatched: u64,
    refused: u64,
}

pub async fn measure(table: &mut Table) -> bool {
    let state = State::new();
    let gateway = state.gateway().await;
    let relay = Server::relay().await;
    let mut clean = true;
    for case in CASES {
        eprintln!("{}", case.name);
        let mut ours = Tally::default();
        let mut floor = Tally::default();
        for _ in 0..ROUNDS {
            round(case, &gateway, &mut ours, Through::Gateway).await;
            round(case, &relay, &mut floor, Through::Relay).await;
        }
        clean &= report(table, case, &mut ours, &mut floor);
    }
    clean
}

fn report(table: &mut Table, case: Case, ours: &mut Tally, floor: &mut Tally) -> bool {
    let name = |what: &str| format!("{}: {what}", case.name);
    for (what, share) in [("p50", 0.5), ("p99", 0.99)] {
        let (a, b) = (ours.quantile(share), floor.quantile(share));
        let ratio = a.as_secs_f64() / b.as_secs_f64();
        let bar = (case.bar && what == "p50").then(|| Bar::below(ratio, 3.0, "x the relay"));
        table.beside(&name(what), ms(a), ms(b), format!("{ratio:.2}"), bar);
    }
    let (a, b) = (ours.rate(), floor.rate());
    table.beside(&name("answers"), format!("{a:.0}/s"), format!("{b:.0}/s"), format!("{:.2}", a / b), None);
    let (a, b) = (ours.cpu_each(), floor.cpu_each());
    table.beside(
        &name("CPU an answer"),
        format!("{a:.0} µs"),
        format!("{b:.0} µs"),
        format!("{:.2}", a / b),
        None,
    );
    let wrong = ours.lost + ours.doubled + ours.mismatched + ours.refused;
    let bar = Bar { text: "all 0".to_owned(), met: wrong == 0 };
    table.beside(
        &name("lost/doubled/wrong/refused"),
        ours.wrongs(),
        floor.wrongs(),
        String::new(),
        Some(bar),
    );
    wrong == 0
}

impl Tally {
    fn quantile(&mut self, share: f64) -> Duration {
        self.times.sort_unstable();
        let at = ((self.times.len() as f64 * share) as usize).min(self.times.len().saturating_sub(1));
        self.times.get(at).copied().unwrap_or(Duration::ZERO)
    }

    fn rate(&self) -> f64 {
        self.times.len() as f64 / self.span.as_secs_f64()
    }

    fn cpu_each(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / self.times.len() as f64
    }

    fn wrongs(&self) -> String {
        format!("{}/{}/{}/{}", self.lost, self.doubled, self.mismatched, self.refused)
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Through {
    Gateway,
    Relay,
}

async fn round(case: Case, server: &Server, tally: &mut Tally, through: Through) {
    let mut nodes = Vec::new();
    for number in 0..case.nodes {
        nodes.push(connect_node(server.port, number, through).await);
    }
    let ids: Vec<String> = nodes.iter().map(|(_, id)| id.clone()).collect();
    let answering = nodes.into_iter().map(|(socket, id)| tokio::spawn(answer(socket, id)));
    let answering: Vec<_> = answering.collect();
    let mut asking = Vec::new();
    for number in 0..case.operators {
        let socket = match through {
            Through::Gateway => peer::operator(server.port).await.unwrap(),
            Through::Relay => peer::open(server.port, "/").await.unwrap(),
        };
        asking.push(Operator::new(socket, number, ids[number % ids.len()].clone(), case));
    }
    join_all(asking.iter_mut().map(|operator| operator.load(WARM_UP))).await;
    asking.iter_mut().for_each(Operator::forget_times);
    let (begun, before) = (Instant::now(), server.cpu());
    join_all(asking.iter_mut().map(|operator| operator.load(SPAN))).await;
    tally.span += begun.elapsed();
    tally.cpu += server.cpu() - before;
    for operator in asking {
        operator.add_to(tally);
    }
    answering.iter().for_each(|task| task.abort());
}

async fn connect_node(port: u16, number: usize, through: Through) -> (Socket, String) {
    match through {
        Through::Gateway => peer::approved_node(port, &[COMMAND]).await,
        Through::Relay => {
            let id = format!("node-{number}");
            (peer::open(port, &format!("{NODE_PATH}{id}")).await.unwrap(), id)
        }
    }
}

#[derive(Deserialize)]
struct Request<'a> {
    id: &'a str,
    #[serde(borrow, rename = "paramsJSON")]
    params: &'a serde_json::value::RawValue,
}

/// A node that gives every invoke its own params back.
async fn answer(mut socket: Socket, node: String) {
    let mut number = 0_u64;
    while let Some(Ok(message)) = socket.next().await {
        let Message::Text(text) = message else { continue };
        let Ok(Incoming { event: Some("node.invoke.request"), payload: Some(payload), .. }) =
            serde_json::from_str(&text)
        else {
            continue;
        };
        let Request { id, params } = serde_json::from_str(payload.get()).unwrap();
        number += 1;
        let params = params.get();
        let result = format!(
            r#"{{"type":"req","id":"r{number}","method":"node.invoke.result","params":{{"id":"{id}","nodeId":"{node}","ok":true,"payloadJSON":{params}}}}}"#
        );
        if socket.send(Message::text(result)).await.is_err() {
            return;
        }
    }
}

/// A closed loop: asks the next as soon as one is answered.
struct Operator {
    socket: Socket,
    name: String,
    node: String,
    in_flight: usize,
    filler: String,
    number: u64,
    pending: HashMap<String, (Instant, String)>,
    tally: Tally,
}

#[derive(Deserialize)]
struct Answer<'a> {
    #[serde(borrow)]
    payload: &'a serde_json::value::RawValue,
}

impl Operator {
    fn new(socket: Socket, number: usize, node: String, case: Case) -> Self {
        let name = format!("{number}-{}", uuid::Uuid::new_v4());
        let filler = "x".repeat(case.bytes.saturating_sub(name.len() + 22));
        let (in_flight, pending) = (case.in_flight, HashMap::new());
        Self { socket, name, node, in_flight, filler, number: 0, pending, tally: Tally::default() }
    }

    async fn load(&mut self, span: Duration) {
        let end = Instant::now() + span;
        for _ in 0..self.in_flight {
            self.send().await;
        }
        while !self.pending.is_empty() {
            let Ok(Ok(text)) = timeout(PATIENCE, peer::next(&mut self.socket)).await else { break };
            if self.take(&text) && Instant::now() < end {
                self.send().await;
            }
        }
        self.tally.lost += self.pending.len() as u64;
        self.pending.clear();
    }

    async fn send(&mut self) {
        self.number += 1;
        let id = format!("{}-{}", self.name, self.number);
        let params = format!(r#"{{"bins":["{id}{}"]}}"#, self.filler);
        let request = format!(
            r#"{{"type":"req","id":"{id}","method":"node.invoke","params":{{"nodeId":"{}","command":"{COMMAND}","params":{params},"idempotencyKey":"{id}"}}}}"#,
            self.node
        );
        self.pending.insert(id, (Instant::now(), params));
        self.socket.send(Message::text(request)).await.ok();
    }

    /// True when it was an answer to something asked here.
    fn take(&mut self, text: &str) -> bool {
        let Ok(frame) = serde_json::from_str::<Incoming<'_>>(text) else { return false };
        if frame.kind != "res" {
            return false;
        }
        let Some((sent, expected)) = frame.id.and_then(|id| self.pending.remove(id.as_ref())) else {
            self.tally.doubled += 1;
            return false;
        };
        self.tally.times.push(sent.elapsed());
        let payload =
            frame.payload.and_then(|payload| serde_json::from_str::<Answer<'_>>(payload.get()).ok());
        match (frame.ok, payload) {
            (Some(true), Some(answer)) if answer.payload.get() == expected => (),
            (Some(true), _) => self.tally.mismatched += 1,
            _ => {
                if self.tally.refused == 0 {
                    eprintln!("refused: {text}");
                }
                self.tally.refused += 1;
            }
        }
        true
    }

    fn forget_times(&mut self) {
        self.tally.times.clear();
    }

    fn add_to(self, tally: &mut Tally) {
        tally.times.extend(self.tally.times);
        tally.lost += self.tally.lost;
        tally.doubled += self.tally.doubled;
        tally.mismatched += self.tally.mismatched;
        tally.refused += self.tally.refused;
    }
}
