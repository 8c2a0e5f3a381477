//! The providers against the fake of both APIs.

use super::catalog::{Candidate, Catalog};
use super::model::{
    Block, ChatMessage, Content, ModelEvent, ModelRequest, StopReason, Thinking, ToolSpec, text_of,
};
use super::{ModelErrorKind, Patience, RetryPolicy, TurnFailure, TurnObserver, complete};
use crate::agent::fake_models::{Answer, FakeModels, KEY, Step};
use crate::settings::Settings;
use serde_json::json;
use std::time::Duration;

const FAST: RetryPolicy =
    RetryPolicy { attempts: 3, base: Duration::from_millis(5), cap: Duration::from_secs(2) };

#[derive(Default)]
struct Seen {
    text: String,
    restarts: usize,
    failures: usize,
    asked: Vec<String>,
}

impl TurnObserver for Seen {
    fn asked(&mut self, candidate: &Candidate) {
        self.asked.push(candidate.name());
    }
    fn event(&mut self, event: &ModelEvent) {
        if let ModelEvent::TextDelta(delta) = event {
            self.text.push_str(delta);
        }
    }
    fn restarted(&mut self) {
        self.restarts += 1;
        self.text.clear();
    }
    fn failed(&mut self, _: &super::ModelError, _: Option<Duration>) {
        self.failures += 1;
    }
}

fn candidates(fake: &FakeModels, names: &[&str]) -> Vec<Candidate> {
    let settings: Settings = serde_json::from_value(json!({"models": {"providers": {
        "a": {"api": "anthropic-messages", "baseUrl": fake.url(), "apiKey": KEY},
        "o": {"api": "openai-completions", "baseUrl": fake.openai_url(), "apiKey": KEY},
        "wrong": {"api": "openai-completions", "baseUrl": fake.openai_url(), "apiKey": "sk-wrong-key"},
    }}}))
    .unwrap();
    let catalog = Catalog { settings: &settings, env: &|_| None, ollama: &[] };
    names.iter().map(|name| catalog.candidate(name).unwrap()).collect()
}

fn user(text: &str) -> ChatMessage {
    ChatMessage::User { content: Content::Text(text.into()), timestamp: 1, idempotency_key: None }
}

fn request(messages: Vec<ChatMessage>) -> ModelRequest {
    let tool = ToolSpec {
        name: "exec".into(),
        description: "run".into(),
        parameters: json!({"type": "object", "properties": {}}),
    };
    ModelRequest { system: "be brief".into(), messages, tools: vec![tool], ..ModelRequest::default() }
}

async fn ask(
    fake: &FakeModels,
    names: &[&str],
    request: &ModelRequest,
) -> (Seen, Result<super::model::AssistantMessage, TurnFailure>) {
    let mut seen = Seen::default();
    let outcome = complete(&candidates(fake, names), request, FAST, &mut seen).await;
    (seen, outcome)
}

#[actix::test]
async fn both_apis_stream_text_and_tools_and_take_the_results_back() {
    for name in ["a/m", "o/m"] {
        let fake = FakeModels::start();
        let call = Answer::default()
            .and(Step::Thinking("hm".into()))
            .and(Step::Text("Looking. ".into()))
            .then_call("call.1", "exec", json!({"command": "uname -a"}))
            .then_call("call_2", "exec", json!({}));
        fake.then(call.drip(3));
        let mut request = request(vec![user("go")]);
        request.thinking = Thinking::Low;
        let (seen, answer) = ask(&fake, &[name], &request).await;
        let answer = answer.unwrap();
        assert_eq!(seen.text, "Looking. ");
        assert_eq!(answer.stop_reason, StopReason::ToolUse);
        assert_eq!((answer.usage.input, answer.usage.output), (100, 20));
        let ids: Vec<String> = answer
            .content
            .iter()
            .filter_map(|block| if let Block::ToolCall { id, .. } = block { Some(id.clone()) } else { None })
            .collect();
        assert_eq!(ids.len(), 2, "{answer:?}");
        request.messages.push(ChatMessage::Assistant(answer));
        for id in ids {
            let image =
                Block::Image { mime_type: "image/png".into(), data: "iVBORw0KGgo=".into(), path: None };
            request.messages.push(ChatMessage::ToolResult {
                tool_call_id: id,
                tool_name: "exec".into(),
                content: vec![Block::text("Linux"), image],
                details: None,
                is_error: false,
                timestamp: 2,
            });
        }
        let (_, answer) = ask(&fake, &[name], &request).await;
        assert_eq!(text_of(&answer.unwrap().content), "REPLY: done.\nTool said: Linux\nLinux");
        assert_eq!(fake.refusals(), Vec::<String>::new());
    }
}

#[actix::test]
async fn sloppy_servers_are_understood() {
    let fake = FakeModels::start();
    fake.then(Answer::call("", "exec", json!({"command": "id"})).sloppy());
    let (_, answer) = ask(&fake, &["o/m"], &request(vec![user("go")])).await;
    let answer = answer.unwrap();
    assert!(matches!(&answer.content[0], Block::ToolCall { id, arguments, .. }
        if id.starts_with("call_") && arguments["command"] == "id"));
    assert!(answer.usage.is_empty());
}

#[actix::test]
async fn passing_errors_are_retried_and_a_broken_stream_starts_anew() {
    for name in ["a/m", "o/m"] {
        let fake = FakeModels::start();
        fake.then(Answer::error(429, "slow").header("retry-after", "0"))
            .then(Answer::cut_after("half an ans"));
        fake.then(Answer::text("whole"));
        let (seen, answer) = ask(&fake, &[name], &request(vec![user("go")])).await;
        assert_eq!(text_of(&answer.unwrap().content), "whole");
        assert_eq!((seen.text.as_str(), seen.restarts, seen.failures), ("whole", 1, 2));
    }
}

#[actix::test]
async fn a_wrong_key_is_not_retried_and_the_fallback_answers() {
    let fake = FakeModels::start();
    let (seen, answer) = ask(&fake, &["wrong/m", "o/m"], &request(vec![user("hello")])).await;
    assert_eq!(answer.unwrap().provider, "o");
    assert_eq!(seen.asked, ["wrong/m", "o/m"]);
    let (_, answer) = ask(&fake, &["wrong/m"], &request(vec![user("hello")])).await;
    let failure = answer.unwrap_err();
    assert_eq!(failure.errors[0].kind, ModelErrorKind::Auth);
    assert!(failure.sentence().contains("refused the API key"), "{}", failure.sentence());
}

#[actix::test]
async fn missing_models_and_overload_have_their_own_sentences() {
    let fake = FakeModels::start();
    fake.only_models(&["m"]);
    let (_, answer) = ask(&fake, &["a/other"], &request(vec![user("hello")])).await;
    assert_eq!(answer.unwrap_err().errors[0].kind, ModelErrorKind::ModelMissing);
    for _ in 0..3 {
        fake.then(Answer::error(529, "Overloaded"));
    }
    let (seen, answer) = ask(&fake, &["a/m"], &request(vec![user("hello")])).await;
    assert_eq!(seen.failures, 3);
    assert!(answer.unwrap_err().sentence().contains("overloaded"));
}

#[actix::test]
async fn silence_ends_in_bounded_time() {
    let fake = FakeModels::start();
    let mut candidates = candidates(&fake, &["o/m"]);
    let quick = Duration::from_millis(80);
    candidates[0].patience = Patience { first_byte: quick, idle: quick, total: Duration::from_secs(5) };
    for _ in 0..2 {
        fake.then(Answer::text("so far").and(Step::Silence));
    }
    fake.then(Answer::text("ok"));
    let mut seen = Seen::default();
    let answer = complete(&candidates, &request(vec![user("x")]), FAST, &mut seen).await.unwrap();
    assert_eq!((text_of(&answer.content).as_str(), seen.restarts), ("ok", 2));
}

#[actix::test]
async fn a_server_that_refuses_a_field_gets_the_request_without_it() {
    let fake = FakeModels::start();
    fake.then(Answer::error(400, "registry/m does not support tools"));
    fake.then(Answer::error(400, "unknown field `stream_options`"));
    let (_, answer) = ask(&fake, &["o/m"], &request(vec![user("hello")])).await;
    assert_eq!(text_of(&answer.unwrap().content), "REPLY: hello");
    let last = fake.last().body;
    assert!(last.get("tools").is_none() && last.get("stream_options").is_none());
}

#[actix::test]
async fn a_web_page_is_told_for_what_it_is() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    actix::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        socket.read_buf(&mut Vec::with_capacity(1 << 16)).await.unwrap();
        let page = "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\nconnection: close\r\n\r\n\n<!doctype html><html></html>";
        socket.write_all(page.as_bytes()).await.unwrap();
    });
    let fake = FakeModels::start();
    let mut candidates = candidates(&fake, &["o/m"]);
    candidates[0].account.base_url = format!("http://{address}").parse().unwrap();
    let failure =
        complete(&candidates, &request(vec![user("x")]), FAST, &mut Seen::default()).await.unwrap_err();
    assert_eq!(failure.errors[0].kind, ModelErrorKind::NotAnApi);
    assert!(failure.sentence().contains("models.providers.o.baseUrl"), "{}", failure.sentence());
}

#[actix::test]
async fn nobody_listening_is_a_network_error() {
    let fake = FakeModels::start();
    let mut candidates = candidates(&fake, &["a/m"]);
    candidates[0].account.base_url = "http://127.0.0.1:9".parse().unwrap();
    let failure =
        complete(&candidates, &request(vec![user("x")]), FAST, &mut Seen::default()).await.unwrap_err();
    assert_eq!(failure.errors[0].kind, ModelErrorKind::Network);
    assert!(failure.sentence().contains("could not be reached"), "{}", failure.sentence());
}
