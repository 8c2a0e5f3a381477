//! `GET /j/ID`: what a setup code says, for the first who asks. Nobody has to prove anything here but that they have
//! the address, so everything else looks alike: 404.

use super::head::judge;
use actix_web::http::{Method, header};
use actix_web::{HttpRequest, HttpResponse, web};
use std::time::Instant;
use tidegate_actors::Gateway;
use tidegate_actors::auth::AuthPolicy;
use tidegate_actors::auth::limiter::{CredentialClass, Guesser};
use tidegate_actors::devices::RedeemJoin;
use tidegate_actors::pairings::Seed;
use tidegate_protocol::setup_code::SetupPayload;

pub(super) async fn redeem(
    request: HttpRequest,
    id: web::Path<String>,
    gateway: web::Data<Gateway>,
) -> HttpResponse {
    let peer = match judge(&request, &gateway) {
        Ok(peer) => peer,
        Err(refusal) => return super::refused(refusal),
    };
    let policy = AuthPolicy::from_settings(&gateway.settings.get());
    let owner = policy.exempt_local && peer.is_local_program();
    let guesser = Guesser::new(peer.addr, CredentialClass::Join, peer.guessing_page(), owner);
    if let Some(wait) = gateway.limiter.locked(&guesser, Instant::now()) {
        let seconds = wait.as_secs().max(1).to_string();
        let mut answer = HttpResponse::TooManyRequests();
        return answer.insert_header((header::RETRY_AFTER, seconds)).json(error("rate_limited"));
    }
    let asked_plainly = request.method() == Method::GET && request.query_string().is_empty();
    let seed = asked_plainly.then(|| Seed::parse(&id)).flatten();
    match found(&gateway, seed).await {
        Ok(Some(payload)) => {
            gateway.limiter.succeeded(&guesser);
            HttpResponse::Ok().content_type("application/json; charset=utf-8").json(payload)
        }
        Ok(None) => {
            let delay = gateway.limiter.failed(&guesser, &policy.limits, Instant::now());
            actix_web::rt::time::sleep(delay).await;
            HttpResponse::NotFound().json(error("not_found"))
        }
        Err(()) => HttpResponse::ServiceUnavailable().json(error("unavailable")),
    }
}

async fn found(gateway: &Gateway, seed: Option<Seed>) -> Result<Option<SetupPayload>, ()> {
    let Some(seed) = seed else { return Ok(None) };
    let redeemed = gateway.devices.send(RedeemJoin(seed)).await.map_err(drop)?;
    redeemed.map_err(|error| tracing::error!(%error, "a join address could not be looked up"))
}

fn error(what: &str) -> serde_json::Value {
    serde_json::json!({"error": what})
}
