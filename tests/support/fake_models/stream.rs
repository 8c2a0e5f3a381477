//! Answers in each API's spelling, sent piece by piece.

use super::answer::{Answer, Step};
use super::{Api, Shared};
use actix_web::HttpResponse;
use actix_web::web::Bytes;
use futures_util::stream;
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// What goes out next.
enum Out {
    Bytes(Bytes),
    Pause(Duration),
    Cut,
    Silence,
}

/// Counts one open stream while it lives.
struct Open(Arc<Shared>);

impl Open {
    fn new(shared: Arc<Shared>) -> Self {
        shared.open.fetch_add(1, Ordering::SeqCst);
        Self(shared)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::SeqCst);
    }
}

pub(super) fn respond(api: Api, answer: Answer, body: &Value, shared: Arc<Shared>) -> HttpResponse {
    let model = body["model"].as_str().unwrap_or_default().to_owned();
    let wants_usage = body["stream_options"]["include_usage"] == true;
    let out = match api {
        Api::Anthropic => anthropic(&answer, &model),
        Api::OpenAi => openai(&answer, &model, wants_usage),
    };
    let queue: VecDeque<Out> = dripped(out, answer.drip);
    let state = (queue, Open::new(shared));
    let bytes = stream::unfold(state, |(mut queue, open)| async move {
        loop {
            match queue.pop_front()? {
                Out::Bytes(bytes) => return Some((Ok(bytes), (queue, open))),
                Out::Pause(pause) => actix_web::rt::time::sleep(pause).await,
                Out::Cut => return Some((Err(io::Error::other("cut")), (queue, open))),
                Out::Silence => std::future::pending::<()>().await,
            }
        }
    });
    let mut response = HttpResponse::Ok();
    response.content_type("text/event-stream; charset=utf-8");
    for (name, value) in &answer.headers {
        response.insert_header((name.as_str(), value.as_str()));
    }
    response.streaming(bytes)
}

/// Cuts the bytes into small writes, if the answer wants to drip.
fn dripped(out: Vec<Out>, size: usize) -> VecDeque<Out> {
    if size == 0 {
        return out.into();
    }
    let mut queue = VecDeque::new();
    for item in out {
        match item {
            Out::Bytes(bytes) => {
                queue.extend(bytes.chunks(size).map(|chunk| Out::Bytes(Bytes::copy_from_slice(chunk))));
            }
            other => queue.push_back(other),
        }
    }
    queue
}

fn control(step: &Step) -> Option<Out> {
    match step {
        Step::Pause(pause) => Some(Out::Pause(*pause)),
        Step::Cut => Some(Out::Cut),
        Step::Silence => Some(Out::Silence),
        Step::Raw(raw) => Some(Out::Bytes(Bytes::from(raw.clone()))),
        _ => None,
    }
}

/// Text in pieces of about 24 characters, as a model would send it.
fn pieces(text: &str) -> Vec<String> {
    let chars: Vec<char> = text.chars().collect();
    chars.chunks(24).map(|piece| piece.iter().collect()).collect()
}

fn event(data: &Value) -> Out {
    let name = data["type"].as_str().unwrap_or_default();
    Out::Bytes(Bytes::from(format!("event: {name}\ndata: {data}\n\n")))
}

fn anthropic(answer: &Answer, model: &str) -> Vec<Out> {
    let (input, output) = answer.usage.unwrap_or((100, 20));
    let start = json!({"type": "message_start", "message": {
        "id": "msg_fake_1", "type": "message", "role": "assistant", "model": model, "content": [],
        "stop_reason": null, "usage": {"input_tokens": input, "output_tokens": 1,
            "cache_read_input_tokens": 0, "cache_creation_input_tokens": 0},
    }});
    let mut out = vec![event(&start), event(&json!({"type": "ping"}))];
    let mut index = 0;
    for step in &answer.steps {
        if let Some(other) = control(step) {
            out.push(other);
            continue;
        }
        let block = anthropic_block(step);
        let delta =
            |delta: Value| event(&json!({"type": "content_block_delta", "index": index, "delta": delta}));
        out.push(event(&json!({"type": "content_block_start", "index": index, "content_block": block})));
        match step {
            Step::Text(text) => {
                out.extend(
                    pieces(text).into_iter().map(|text| delta(json!({"type": "text_delta", "text": text}))),
                );
            }
            Step::Thinking(text) => {
                out.push(delta(json!({"type": "thinking_delta", "thinking": text})));
                out.push(delta(json!({"type": "signature_delta", "signature": "c2lnbmVk"})));
            }
            Step::Call { arguments, .. } => {
                let all = arguments.to_string();
                out.extend(
                    pieces(&all)
                        .into_iter()
                        .map(|part| delta(json!({"type": "input_json_delta", "partial_json": part}))),
                );
            }
            _ => {}
        }
        out.push(event(&json!({"type": "content_block_stop", "index": index})));
        index += 1;
    }
    let reason = if answer.calls() { "tool_use" } else { "end_turn" };
    out.push(event(&json!({"type": "message_delta", "delta": {"stop_reason": reason}, "usage": {"output_tokens": output}})));
    out.push(event(&json!({"type": "message_stop"})));
    out
}

fn anthropic_block(step: &Step) -> Value {
    match step {
        Step::Thinking(_) => json!({"type": "thinking", "thinking": "", "signature": ""}),
        Step::Call { id, name, .. } => json!({"type": "tool_use", "id": id, "name": name, "input": {}}),
        _ => json!({"type": "text", "text": ""}),
    }
}

fn openai(answer: &Answer, model: &str, wants_usage: bool) -> Vec<Out> {
    let base =
        json!({"id": "chatcmpl-fake-1", "object": "chat.completion.chunk", "created": 1, "model": model});
    let chunk = |choices: Value| {
        let mut chunk = base.clone();
        chunk["choices"] = choices;
        Out::Bytes(Bytes::from(format!("data: {chunk}\n\n")))
    };
    let delta = |delta: Value| chunk(json!([{"index": 0, "delta": delta, "finish_reason": null}]));
    let mut out = vec![delta(json!({"role": "assistant", "content": ""}))];
    let mut index = 0;
    for step in &answer.steps {
        match step {
            Step::Text(text) => {
                out.extend(pieces(text).into_iter().map(|text| delta(json!({"content": text}))))
            }
            Step::Thinking(text) => out.push(delta(json!({"reasoning_content": text}))),
            Step::Call { name, arguments, .. } if answer.sloppy => {
                out.push(delta(
                    json!({"tool_calls": [{"function": {"name": name, "arguments": arguments}}]}),
                ));
            }
            Step::Call { id, name, arguments } => {
                let call = json!({"index": index, "id": id, "type": "function", "function": {"name": name, "arguments": ""}});
                out.push(delta(json!({"tool_calls": [call]})));
                out.extend(pieces(&arguments.to_string()).into_iter().map(|part| {
                    delta(json!({"tool_calls": [{"index": index, "function": {"arguments": part}}]}))
                }));
                index += 1;
            }
            other => out.extend(control(other)),
        }
    }
    let reason = if answer.calls() && !answer.sloppy { "tool_calls" } else { "stop" };
    out.push(chunk(json!([{"index": 0, "delta": {}, "finish_reason": reason}])));
    if wants_usage && !answer.no_usage {
        let (input, output) = answer.usage.unwrap_or((100, 20));
        let mut usage = base.clone();
        usage["choices"] = json!([]);
        usage["usage"] =
            json!({"prompt_tokens": input, "completion_tokens": output, "total_tokens": input + output});
        out.push(Out::Bytes(Bytes::from(format!("data: {usage}\n\n"))));
    }
    out.push(Out::Bytes(Bytes::from_static(b"data: [DONE]\n\n")));
    out
}
