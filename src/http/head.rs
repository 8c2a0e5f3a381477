//! Who sent a request, judged by its head.

use super::wire::Wire;
use actix_web::HttpRequest;
use tidegate_actors::Gateway;
use tidegate_actors::auth::tailnet::classify_routed;
use tidegate_actors::auth::{AuthPolicy, HttpRefusal, Peer, RequestHead, classify};

/// The sender of a request.
///
/// # Errors
/// What to answer on the HTTP level when it goes no further.
pub(super) fn judge(request: &HttpRequest, gateway: &Gateway) -> Result<Peer, HttpRefusal> {
    let Some(wire) = request.conn_data::<Wire>() else { return Err(HttpRefusal::BadHost) };
    let head: RequestHead<'_> =
        request.headers().iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
    let policy = AuthPolicy::from_settings(&gateway.settings.get());
    match gateway.tailscale.route_at(wire.at) {
        Some(route) => classify_routed(&head, wire.from.ip(), &route, &policy),
        None => classify(&head, wire.from.ip(), wire.at, &policy),
    }
}
