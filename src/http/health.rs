//! Is it alive, is it ready: for service managers, load balancers and people.

use super::head::judge;
use actix_web::{HttpRequest, HttpResponse, web};
use serde_json::{Value, json};
use tidegate_actors::{Gateway, VERSION, rpc};

/// `/healthz`: the process serves. Says nothing else, to anyone.
pub(super) async fn live() -> HttpResponse {
    HttpResponse::Ok().json(json!({"ok": true, "status": "live"}))
}

/// `/startupz`: it serves as soon as it listens. Which version it is, is for the owner alone.
pub(super) async fn started(request: HttpRequest, gateway: web::Data<Gateway>) -> HttpResponse {
    let draining = gateway.is_draining();
    let mut answer = if draining { HttpResponse::ServiceUnavailable() } else { HttpResponse::Ok() };
    let mut body = json!({"ok": !draining, "status": if draining { "draining" } else { "started" }});
    if sees_details(&request, &gateway) {
        body["version"] = json!(VERSION);
        body["uptimeMs"] = json!(uptime_ms(&gateway));
    }
    answer.json(body)
}

fn sees_details(request: &HttpRequest, gateway: &Gateway) -> bool {
    judge(request, gateway).is_ok_and(|peer| peer.may_see_details())
}

fn uptime_ms(gateway: &Gateway) -> u64 {
    u64::try_from(gateway.started.elapsed().as_millis()).unwrap_or(u64::MAX)
}

/// `/readyz`: every part works. What doesn't is named to the owner alone.
pub(super) async fn ready(request: HttpRequest, gateway: web::Data<Gateway>) -> HttpResponse {
    let readiness = rpc::readiness(&gateway).await;
    let is_ready = readiness.failing.is_empty();
    let mut answer = if is_ready { HttpResponse::Ok() } else { HttpResponse::ServiceUnavailable() };
    let mut body = json!({"ready": is_ready});
    if sees_details(&request, &gateway) {
        body["failing"] = json!(readiness.failing);
        body["channels"] = Value::Array(readiness.channels);
        body["uptimeMs"] = json!(uptime_ms(&gateway));
    }
    answer.json(body)
}
