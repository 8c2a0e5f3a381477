//! A faithful fake of the two model APIs: Anthropic's Messages and OpenAI's Chat Completions, with Ollama's
//! list of models beside them. It is as strict as the real ones (a request that they would refuse gets a 400),
//! streams its answers, and can fail in every way that they do.
//!
//! An answer comes from the script ([`FakeModels::then`]); when the script is empty, the last message decides:
//! `SAY text`, `BRIEFLY anything`, `CALL tool {json}`, `FAIL status`, `SILENT`, `LONG words`, `CUT text`; anything else is echoed.

mod answer;
mod rules;
mod stream;

pub use answer::{Answer, Step};

use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::net::TcpListener;
use std::sync::{Arc, Mutex, MutexGuard};

/// The key that the fake accepts.
pub const KEY: &str = "sk-fake-0123456789";

/// A running fake; it ends when dropped.
pub struct FakeModels {
    port: u16,
    shared: Arc<Shared>,
    server: actix_web::dev::ServerHandle,
}

/// One request as it came in.
#[derive(Debug, Clone)]
pub struct Recorded {
    pub path: String,
    pub headers: Vec<(String, String)>,
    pub body: Value,
    /// Why the fake refused it, if it did.
    pub refused: Option<String>,
}

impl Recorded {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(have, _)| have == name).map(|(_, value)| value.as_str())
    }
}

/// Makes the answer to a request.
type Scripted = Box<dyn FnOnce(&Value) -> Answer + Send>;

#[derive(Default)]
pub(crate) struct Shared {
    script: Mutex<VecDeque<Scripted>>,
    requests: Mutex<Vec<Recorded>>,
    /// Models that exist; empty means that every name does.
    known: Mutex<Vec<String>>,
    open: std::sync::atomic::AtomicUsize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Api {
    Anthropic,
    OpenAi,
}

impl FakeModels {
    /// Starts on a free loopback port, on a thread of its own.
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        Self::on(listener)
    }

    fn on(listener: TcpListener) -> Self {
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Shared::default());
        let (ready, started) = std::sync::mpsc::channel();
        let state = Arc::clone(&shared);
        std::thread::spawn(move || {
            actix_web::rt::System::new().block_on(async move {
                let app = move || {
                    App::new()
                        .app_data(web::Data::from(Arc::clone(&state)))
                        .app_data(web::PayloadConfig::new(64 << 20))
                        .route("/v1/messages", web::post().to(messages))
                        .route("/v1/chat/completions", web::post().to(completions))
                        .route("/v1/models", web::get().to(models))
                        .route("/api/tags", web::get().to(tags))
                };
                let server = HttpServer::new(app).workers(1).disable_signals().shutdown_timeout(0);
                let server = server.listen(listener).unwrap().run();
                ready.send(server.handle()).unwrap();
                server.await.unwrap();
            });
        });
        Self { port, shared, server: started.recv().unwrap() }
    }

    /// `http://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The address for OpenAI-like clients.
    pub fn openai_url(&self) -> String {
        format!("{}/v1", self.url())
    }

    /// Adds an answer to the script.
    pub fn then(&self, answer: Answer) -> &Self {
        self.then_with(move |_| answer)
    }

    /// Adds an answer that depends on what is asked.
    pub fn then_with(&self, answer: impl FnOnce(&Value) -> Answer + Send + 'static) -> &Self {
        lock(&self.shared.script).push_back(Box::new(answer));
        self
    }

    /// From now on only these models exist.
    pub fn only_models(&self, names: &[&str]) {
        *lock(&self.shared.known) = names.iter().map(|name| (*name).to_owned()).collect();
    }

    /// All requests so far, oldest first.
    pub fn requests(&self) -> Vec<Recorded> {
        lock(&self.shared.requests).clone()
    }

    /// The newest request.
    pub fn last(&self) -> Recorded {
        self.requests().pop().expect("a request")
    }

    /// Streams that are being sent right now; a client that went away is noticed at the next step.
    pub fn open_streams(&self) -> usize {
        self.shared.open.load(std::sync::atomic::Ordering::SeqCst)
    }

    /// Reasons of all refusals, which a test usually wants to be none.
    pub fn refusals(&self) -> Vec<String> {
        self.requests().into_iter().filter_map(|request| request.refused).collect()
    }
}

impl Drop for FakeModels {
    fn drop(&mut self) {
        // The stop message is sent at once; nobody waits for its end.
        std::mem::drop(self.server.stop(false));
    }
}

async fn messages(request: HttpRequest, body: web::Bytes, shared: web::Data<Shared>) -> HttpResponse {
    serve(Api::Anthropic, &request, &body, &shared)
}

async fn completions(request: HttpRequest, body: web::Bytes, shared: web::Data<Shared>) -> HttpResponse {
    serve(Api::OpenAi, &request, &body, &shared)
}

async fn models(shared: web::Data<Shared>) -> HttpResponse {
    let data: Vec<Value> =
        lock(&shared.known).iter().map(|name| json!({"id": name, "object": "model"})).collect();
    HttpResponse::Ok().json(json!({"object": "list", "data": data}))
}

async fn tags(shared: web::Data<Shared>) -> HttpResponse {
    let models: Vec<Value> = lock(&shared.known).iter().map(|name| json!({"name": name})).collect();
    HttpResponse::Ok().json(json!({"models": models}))
}

fn serve(api: Api, request: &HttpRequest, body: &[u8], shared: &web::Data<Shared>) -> HttpResponse {
    let header = |name: &str| request.headers().get(name).and_then(|v| v.to_str().ok()).map(str::to_owned);
    let value: Value = serde_json::from_slice(body).unwrap_or(Value::Null);
    let known = lock(&shared.known).clone();
    let refused = rules::check(api, &header, &value, &known);
    let headers = request.headers().iter();
    lock(&shared.requests).push(Recorded {
        path: request.path().to_owned(),
        headers: headers.map(|(k, v)| (k.to_string(), v.to_str().unwrap_or_default().to_owned())).collect(),
        body: value.clone(),
        refused: refused.as_ref().map(|refusal| refusal.message.clone()),
    });
    if let Some(refusal) = refused {
        return error_response(api, refusal.status, &refusal.message, &[]);
    }
    let scripted = lock(&shared.script).pop_front();
    let answer = scripted.map_or_else(|| answer::from_message(api, &value), |answer| answer(&value));
    if let Some((status, message)) = &answer.error {
        return error_response(api, *status, message, &answer.headers);
    }
    stream::respond(api, answer, &value, shared.clone().into_inner())
}

fn error_response(api: Api, status: u16, message: &str, headers: &[(String, String)]) -> HttpResponse {
    let status = actix_web::http::StatusCode::from_u16(status).unwrap();
    let mut response = HttpResponse::build(status);
    for (name, value) in headers {
        response.insert_header((name.as_str(), value.as_str()));
    }
    response.json(match api {
        Api::Anthropic => {
            let kind = match status.as_u16() {
                401 => "authentication_error",
                404 => "not_found_error",
                429 => "rate_limit_error",
                529 => "overloaded_error",
                400 => "invalid_request_error",
                _ => "api_error",
            };
            json!({"type": "error", "error": {"type": kind, "message": message}})
        }
        Api::OpenAi => json!({"error": {"message": message, "type": "invalid_request_error", "code": null}}),
    })
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}
