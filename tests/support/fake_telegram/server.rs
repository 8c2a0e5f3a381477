//! The HTTP side of the fake.

use super::body::Params;
use super::methods::{self, Outcome, refuse};
use super::state::Call;
use super::{Fault, Shared, TOKEN};
use actix_web::dev::ServerHandle;
use actix_web::http::StatusCode;
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use serde_json::{Value, json};
use std::net::{Shutdown, TcpStream};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The connection of a request, to be cut without a word.
struct Connection(TcpStream);

pub(crate) fn start(shared: Arc<Shared>, port: u16) -> (u16, ServerHandle) {
    let (ready, started) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        actix_web::rt::System::new().block_on(async move {
            let server = HttpServer::new(move || {
                App::new()
                    .app_data(web::Data::from(shared.clone()))
                    .app_data(web::PayloadConfig::new(80 * 1024 * 1024))
                    .default_service(web::to(serve))
            })
            .on_connect(|io, extensions| {
                if let Some(stream) = io.downcast_ref::<actix_web::rt::net::TcpStream>()
                    && let Ok(copy) = stream.as_fd().try_clone_to_owned()
                {
                    extensions.insert(Connection(TcpStream::from(copy)));
                }
            })
            .workers(1)
            .shutdown_timeout(0)
            .disable_signals()
            .bind(("127.0.0.1", port))
            .expect("a free port");
            let port = server.addrs().first().map_or(0, |addr| addr.port());
            let server = server.run();
            ready.send((port, server.handle())).ok();
            server.await.ok();
        });
    });
    started.recv().expect("the fake starts")
}

async fn serve(request: HttpRequest, body: web::Bytes, shared: web::Data<Shared>) -> HttpResponse {
    let path = request.path().to_owned();
    if let Some(rest) = path.strip_prefix("/file/bot") {
        match shared.lock().take_fault("file") {
            Some(Fault::Page { code }) => return page(code),
            Some(Fault::DropBefore) => return cut(&request),
            _ => {}
        }
        return download(&shared, rest);
    }
    let Some((token, method)) = path.strip_prefix("/bot").and_then(|rest| rest.split_once('/')) else {
        return answer(Err(refuse(404, "Not Found")));
    };
    let content_type = request.headers().get("content-type").and_then(|value| value.to_str().ok());
    let params = Params::read(request.query_string(), content_type.unwrap_or_default(), &body);
    let Some(params) = params else {
        return answer(Err(refuse(400, "Bad Request: can't parse the request body")));
    };
    let index = record(&shared, method, &params);
    let response = respond(&request, &shared, token, method, &params).await;
    let status = response.as_ref().map(|response| response.status().as_u16());
    if let Some(call) = shared.lock().calls.get_mut(index) {
        call.status = status;
    }
    response.unwrap_or_else(|| cut(&request))
}

fn record(shared: &Shared, method: &str, params: &Params) -> usize {
    let mut state = shared.lock();
    let uploads = params.uploads.iter();
    let uploads = uploads.map(|part| (part.field.clone(), part.name.clone(), part.content.len()));
    let call = Call {
        method: method.to_owned(),
        params: params.values.clone(),
        uploads: uploads.collect(),
        at: Instant::now(),
        status: None,
    };
    state.calls.push(call);
    if let Some(known) = methods::known_params(method) {
        let unknown = params.values.keys().filter(|name| !known.contains(&name.as_str()));
        let unknown: Vec<_> = unknown.map(|name| format!("{method}.{name}")).collect();
        state.unknown_params.extend(unknown);
    }
    state.calls.len() - 1
}

/// `None` when the connection is to end without an answer.
async fn respond(
    request: &HttpRequest,
    shared: &Shared,
    token: &str,
    method: &str,
    params: &Params,
) -> Option<HttpResponse> {
    let fault = shared.lock().take_fault(method);
    match fault {
        Some(Fault::Refuse { code, description }) => return Some(answer(Err(refuse(code, description)))),
        Some(Fault::Flood { retry_after }) => {
            let mut refusal = refuse(429, format!("Too Many Requests: retry after {retry_after}"));
            refusal.parameters = Some(json!({"retry_after": retry_after}));
            return Some(answer(Err(refusal)));
        }
        Some(Fault::Page { code }) => return Some(page(code)),
        Some(Fault::DropBefore) => return None,
        Some(Fault::Hang) => {
            hang(shared).await;
            return None;
        }
        _ => {}
    }
    let outcome = carry_out(request, shared, token, method, params).await;
    match fault {
        Some(Fault::DropAfter) => None,
        Some(Fault::HangAfter) => {
            hang(shared).await;
            None
        }
        Some(Fault::Held) => {
            hang(shared).await;
            Some(answer(outcome))
        }
        Some(Fault::Slow(delay)) => {
            actix_web::rt::time::sleep(delay).await;
            Some(answer(outcome))
        }
        Some(Fault::Garbage) => Some(HttpResponse::Ok().content_type("application/json").body("{\"ok\":tr")),
        _ => Some(answer(outcome)),
    }
}

async fn carry_out(
    _request: &HttpRequest,
    shared: &Shared,
    token: &str,
    method: &str,
    params: &Params,
) -> Outcome {
    if token != TOKEN || shared.lock().revoked {
        return Err(refuse(401, "Unauthorized"));
    }
    if method == "getUpdates" {
        return poll(shared, params).await;
    }
    methods::call(&mut shared.lock(), method, params)
}

/// Long polling: a newer poll ends an older one, and updates below the offset are gone.
async fn poll(shared: &Shared, params: &Params) -> Outcome {
    let offset = params.integer("offset").unwrap_or(0);
    let limit = params.integer("limit").unwrap_or(100).clamp(1, 100);
    let patience = Duration::from_secs(params.integer("timeout").unwrap_or(0).clamp(0, 50).unsigned_abs());
    let end = Instant::now() + patience;
    let turn = {
        let mut state = shared.lock();
        if state.webhook {
            return Err(refuse(
                409,
                "Conflict: can't use getUpdates method while webhook is active; use deleteWebhook to \
                 delete the webhook first",
            ));
        }
        if let Some(Value::Array(kinds)) = params.json("allowed_updates") {
            let kinds = kinds.iter().filter_map(|kind| kind.as_str().map(str::to_owned));
            state.allowed = Some(kinds.collect());
        }
        state.polls += 1;
        state.polls
    };
    shared.changed.notify_waiters();
    loop {
        let changed = shared.changed.notified();
        {
            let mut state = shared.lock();
            if state.polls != turn {
                return Err(refuse(
                    409,
                    "Conflict: terminated by other getUpdates request; make sure that only one bot \
                     instance is running",
                ));
            }
            if state.revoked {
                return Err(refuse(401, "Unauthorized"));
            }
            let updates = state.updates_from(offset, usize::try_from(limit).unwrap_or(100));
            if !updates.is_empty() || Instant::now() >= end {
                return Ok(updates.into());
            }
        }
        // The short sleep covers a change between the look and the wait.
        let nap = (end - Instant::now().min(end)).min(Duration::from_millis(100));
        actix_web::rt::time::timeout(nap, changed).await.ok();
    }
}

async fn hang(shared: &Shared) {
    let generation = {
        let mut state = shared.lock();
        state.held += 1;
        state.generation
    };
    while shared.lock().generation == generation {
        actix_web::rt::time::sleep(Duration::from_millis(20)).await;
    }
}

fn page(code: u16) -> HttpResponse {
    let status = StatusCode::from_u16(code).unwrap_or(StatusCode::BAD_GATEWAY);
    HttpResponse::build(status).content_type("text/html").body("<html>no</html>")
}

fn cut(request: &HttpRequest) -> HttpResponse {
    if let Some(Connection(stream)) = request.conn_data::<Connection>() {
        stream.shutdown(Shutdown::Both).ok();
    }
    HttpResponse::InternalServerError().force_close().finish()
}

fn answer(outcome: Outcome) -> HttpResponse {
    match outcome {
        Ok(result) => HttpResponse::Ok().json(json!({"ok": true, "result": result})),
        Err(refusal) => {
            let mut body =
                json!({"ok": false, "error_code": refusal.code, "description": refusal.description});
            if let Some(parameters) = refusal.parameters {
                body["parameters"] = parameters;
            }
            let status = StatusCode::from_u16(refusal.code).unwrap_or(StatusCode::BAD_REQUEST);
            HttpResponse::build(status).json(body)
        }
    }
}

fn download(shared: &Shared, rest: &str) -> HttpResponse {
    let Some((TOKEN, path)) = rest.split_once('/') else {
        return answer(Err(refuse(401, "Unauthorized")));
    };
    let id = path.split('/').nth(1).unwrap_or_default();
    match shared.lock().files.get(id) {
        Some((_, content)) => HttpResponse::Ok().body(content.clone()),
        None => answer(Err(refuse(404, "Not Found"))),
    }
}
