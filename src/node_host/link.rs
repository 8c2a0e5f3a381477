//! The node's side of whatever connection is up: events, progress and results go out through it.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::failure::Failure;
use crate::client::{Client, ClientError};

/// How often progress is sent, at most.
const PROGRESS_EVERY: Duration = Duration::from_millis(300);
/// No more in one piece: gateways take 16 KiB.
const PROGRESS_BYTES: usize = 12 * 1024;
/// What is said beyond this before it could be sent is left out: the result has it.
const PROGRESS_WAITING: usize = 256;
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// How long the list of trusted programs is believed.
const SKILLS_FOR: Duration = Duration::from_secs(90);

/// Shared by everything that runs on this node.
pub(crate) struct Link {
    node_id: String,
    current: Mutex<Option<Client>>,
    skills: Mutex<Option<(Instant, Vec<String>)>>,
}

impl Link {
    pub(crate) fn new(node_id: String) -> Arc<Self> {
        Arc::new(Self { node_id, current: Mutex::new(None), skills: Mutex::new(None) })
    }

    /// A connection came up or went down.
    pub(crate) fn set(&self, client: Option<Client>) {
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = client;
        // Another gateway may trust other programs.
        *self.skills.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn client(&self) -> Option<Client> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Tells the gateway about something that happened here. Nobody waits for it.
    pub(crate) fn event(&self, event: &'static str, payload: &Value) {
        let params = json!({"event": event, "payloadJSON": payload.to_string()});
        self.post("node.event", event, params);
    }

    /// Sends a request whose answer only matters to the log. It is on its way when this returns.
    pub(crate) fn post(&self, method: &'static str, about: &'static str, params: Value) {
        let Some(client) = self.client() else {
            tracing::debug!(method, about, "not connected, dropped");
            return;
        };
        match client.begin(method, &params) {
            Ok(answer) => {
                tokio::spawn(async move {
                    if let Err(error) = answer.wait(ANSWER_WITHIN).await {
                        tracing::debug!(method, about, %error, "not taken");
                    }
                });
            }
            Err(error) => tracing::warn!(method, about, %error, "not sent"),
        }
    }

    /// Answers an invoke over the connection it came in on; over another it would mean nothing.
    pub(crate) fn result(&self, via: &Client, invoke_id: &str, outcome: &Result<String, Failure>) {
        let mut params = json!({"id": invoke_id, "nodeId": self.node_id, "ok": outcome.is_ok()});
        match outcome {
            Ok(payload) => params["payloadJSON"] = json!(payload),
            Err(failure) => params["error"] = json!({"code": failure.code, "message": failure.message}),
        }
        let sent = via.begin("node.invoke.result", &params).or_else(|error| match error {
            // Better a clear failure than a caller who waits for nothing.
            ClientError::TooLarge { size, limit } => {
                let message = format!("the result is {size} bytes, the gateway takes {limit}");
                let error = json!({"code": "RESULT_TOO_LARGE", "message": message});
                let params = json!({"id": invoke_id, "nodeId": self.node_id, "ok": false, "error": error});
                via.begin("node.invoke.result", &params)
            }
            error => Err(error),
        });
        let id = invoke_id.to_owned();
        match sent {
            Ok(answer) => {
                tokio::spawn(async move {
                    if let Err(error) = answer.wait(ANSWER_WITHIN).await {
                        tracing::warn!(invoke = id, %error, "result not taken");
                    }
                });
            }
            Err(error) => tracing::warn!(invoke = id, %error, "result not sent"),
        }
    }

    /// Programs that the gateway's skills name; none if it can't say.
    pub(crate) async fn skill_bins(&self) -> Vec<String> {
        #[derive(Deserialize)]
        struct Bins {
            bins: Vec<String>,
        }
        let known = self.skills.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some((at, bins)) = &known
            && at.elapsed() < SKILLS_FOR
        {
            return bins.clone();
        }
        let Some(client) = self.client() else { return Vec::new() };
        match client.call_within::<Bins>("skills.bins", &json!({}), ANSWER_WITHIN).await {
            Ok(Bins { bins }) => {
                let fresh = Some((Instant::now(), bins.clone()));
                *self.skills.lock().unwrap_or_else(PoisonError::into_inner) = fresh;
                bins
            }
            Err(error) => {
                tracing::warn!(%error, "skills.bins not answered");
                known.map(|(_, bins)| bins).unwrap_or_default()
            }
        }
    }

    /// A stream of output for one invoke.
    pub(crate) fn progress(&self, via: &Client, invoke_id: &str) -> Progress {
        let (send, queue) = mpsc::channel(PROGRESS_WAITING);
        let stream = Stream { client: via.clone(), invoke: invoke_id.to_owned(), node: self.node_id.clone() };
        Progress { send: Some(send), done: Some(tokio::spawn(stream.run(queue))) }
    }
}

/// Takes in output and passes it on piece by piece, as long as somebody listens.
pub(crate) struct Progress {
    send: Option<mpsc::Sender<Vec<u8>>>,
    done: Option<tokio::task::JoinHandle<()>>,
}

impl Progress {
    /// Goes nowhere.
    pub(crate) fn none() -> Self {
        Self { send: None, done: None }
    }

    pub(crate) fn push(&self, bytes: &[u8]) {
        if let Some(send) = &self.send {
            let _ = send.try_send(bytes.to_vec());
        }
    }

    /// The output is over. What has not been sent is part of the result anyway.
    pub(crate) async fn finish(mut self) {
        self.send = None;
        if let Some(done) = self.done.take() {
            done.abort();
            let _ = done.await;
        }
    }
}

struct Stream {
    client: Client,
    invoke: String,
    node: String,
}

impl Stream {
    async fn run(self, mut queue: mpsc::Receiver<Vec<u8>>) {
        let mut waiting = Vec::new();
        for seq in 0_u64.. {
            tokio::time::sleep(PROGRESS_EVERY).await;
            if waiting.is_empty() {
                match queue.recv().await {
                    Some(bytes) => waiting.extend(bytes),
                    None => return,
                }
            }
            while let (true, Ok(bytes)) = (waiting.len() < PROGRESS_BYTES, queue.try_recv()) {
                waiting.extend(bytes);
            }
            let chunk = take_text(&mut waiting);
            let params = json!({"invokeId": self.invoke, "nodeId": self.node, "seq": seq, "chunk": chunk});
            match self.client.call_within::<Value>("node.invoke.progress", &params, ANSWER_WITHIN).await {
                // Most callers don't stream.
                Ok(answer) if answer["ignored"] == true => return,
                Ok(_) => (),
                Err(_) => return,
            }
        }
    }
}

/// Takes the next piece of text out of `bytes`, but leaves a character that is not complete yet.
fn take_text(bytes: &mut Vec<u8>) -> String {
    let later = bytes.split_off(bytes.len().min(PROGRESS_BYTES));
    let mut text = take_whole(bytes);
    bytes.extend(later);
    // What is not text grows when it is made so.
    text.truncate(text.floor_char_boundary(PROGRESS_BYTES));
    text
}

fn take_whole(bytes: &mut Vec<u8>) -> String {
    let keep = match std::str::from_utf8(bytes) {
        Ok(_) => 0,
        Err(error) if error.error_len().is_none() => bytes.len() - error.valid_up_to(),
        Err(_) => 0,
    };
    let rest = bytes.split_off(bytes.len() - keep);
    let text = String::from_utf8_lossy(bytes).into_owned();
    *bytes = rest;
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_character_is_never_cut() {
        let mut bytes = "zw\u{f6}lf".as_bytes()[..3].to_vec();
        assert_eq!(take_text(&mut bytes), "zw");
        bytes.extend(&"zw\u{f6}lf".as_bytes()[3..]);
        assert_eq!(take_text(&mut bytes), "\u{f6}lf");
        let mut broken = vec![b'a', 0xff, b'b'];
        assert_eq!(take_text(&mut broken), "a\u{fffd}b");
    }
}
