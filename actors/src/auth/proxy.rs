//! Forwarded requests: the signs of them, who the client behind a trusted proxy is, and whom the proxy vouches for.

use super::head::{RequestHead, Single, visible};
use super::policy::{AuthMode, AuthPolicy, TrustedProxy};
use std::net::{IpAddr, SocketAddr};

/// Words in the names of headers that only something that passes a request on writes, whatever else is in the name.
const EVIDENCE: [&str; 9] = [
    "forwarded",
    "proxy",
    "client-ip",
    "clientip",
    "connecting-ip",
    "real-ip",
    "originating-ip",
    "original-",
    "remote-",
];

/// Headers of proxies and tunnels that have no such word: a whole name, or with `-` at its end what it begins with.
const EVIDENCE_NAMES: [&str; 27] = [
    "via",
    "x-host",
    "x-scheme",
    "x-rewrite-url",
    "x-amzn-trace-id",
    "x-nf-client-connection-ip",
    "cdn-loop",
    "front-end-https",
    "tailscale-",
    "x-tailscale-",
    "cf-",
    "fly-",
    "fastly-",
    "x-envoy-",
    "x-azure-",
    "x-appengine-",
    "x-amz-cf-",
    "x-vercel-",
    "x-arr-",
    "x-ngrok-",
    "ngrok-",
    "x-tunnel-",
    "x-gateway-",
    "x-real-",
    "x-auth-request-",
    "x-authentik-",
    "x-webauth-",
];

/// What clients send by themselves: browsers, HTTP and WebSocket libraries, tracing, and OpenClaw's own clients. With
/// `-` at its end: what a name begins with.
const OF_CLIENTS: [&str; 32] = [
    "host",
    "connection",
    "upgrade",
    "keep-alive",
    "te",
    "expect",
    "user-agent",
    "accept",
    "accept-",
    "content-",
    "transfer-encoding",
    "authorization",
    "origin",
    "referer",
    "cookie",
    "cache-control",
    "pragma",
    "range",
    "date",
    "from",
    "if-",
    "sec-",
    "access-control-request-",
    "upgrade-insecure-requests",
    "dnt",
    "priority",
    "save-data",
    "idempotency-key",
    "x-requested-with",
    "traceparent",
    "tracestate",
    "x-openclaw-",
];

/// Who stands behind a proxy in `trusted-proxy` mode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProxyUser {
    /// The gateway does not take identities from a proxy.
    NotAsked,
    Known(String),
    UntrustedSource,
    LoopbackSource,
    MissingHeader(String),
    MissingUser,
    NotAllowed,
}

/// Whether anything passed this request on, or pretends to have.
pub fn is_forwarded(head: &RequestHead<'_>, policy: &AuthPolicy) -> bool {
    let user_header = match &policy.mode {
        AuthMode::TrustedProxy(proxy) => Some(proxy.user_header.as_str()),
        _ => None,
    };
    head.names().any(|name| {
        let name = canonical(name);
        EVIDENCE.iter().any(|word| name.contains(word))
            || listed(&EVIDENCE_NAMES, &name)
            || user_header.is_some_and(|header| canonical(header) == name)
    })
}

/// Whether the request carries a header that no client is known to send by itself. The lists of what proxies write
/// are never complete, so such a request is not refused, for an owner's browser extension may have made it, but
/// nothing is taken on trust from it either: it is no longer local.
pub fn is_doubtful(head: &RequestHead<'_>) -> bool {
    head.names().any(|name| !listed(&OF_CLIENTS, &name.to_ascii_lowercase()))
}

/// Many servers behind a proxy take `_` for `-`: a header spelt so is the same header.
fn canonical(name: &str) -> String {
    name.to_ascii_lowercase().replace('_', "-")
}

fn listed(names: &[&str], name: &str) -> bool {
    names.iter().any(|known| *known == name || (known.ends_with('-') && name.starts_with(known)))
}

/// The client behind a trusted proxy: the last address of the chain that is not itself a trusted proxy. What stands
/// left of it was written by the client and is never looked at.
pub fn client_address(head: &RequestHead<'_>, policy: &AuthPolicy) -> Option<IpAddr> {
    let client = if head.has("x-forwarded-for") {
        walk_chain(head, policy)
    } else if policy.allow_real_ip {
        match head.single("x-real-ip") {
            Single::Text(text) => address(text),
            _ => None,
        }
    } else {
        None
    };
    // A client elsewhere has no loopback address: it is a forgery or a proxy that forwards itself.
    client.filter(|ip| !ip.is_loopback() && !ip.is_unspecified() && !ip.is_multicast())
}

fn walk_chain(head: &RequestHead<'_>, policy: &AuthPolicy) -> Option<IpAddr> {
    let values: Option<Vec<&str>> = head.all("x-forwarded-for").map(visible).collect();
    for hop in values?.iter().flat_map(|value| value.split(',')).rev() {
        let hop = address(hop)?;
        if !policy.trusted_proxies.iter().any(|trusted| trusted.contains(hop)) {
            return Some(hop);
        }
    }
    None
}

/// An address as proxies write it: bare, with a port, or in brackets.
fn address(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    let bare = text.parse::<IpAddr>().ok();
    let bracketed = || text.strip_prefix('[')?.strip_suffix(']')?.parse::<IpAddr>().ok();
    let with_port = || text.parse::<SocketAddr>().ok().map(|socket| socket.ip());
    bare.or_else(bracketed).or_else(with_port).map(|ip| ip.to_canonical())
}

/// Takes the person's name from the proxy's headers, if the request may carry one at all.
pub fn proxy_user(head: &RequestHead<'_>, hop: IpAddr, policy: &AuthPolicy) -> ProxyUser {
    let AuthMode::TrustedProxy(proxy) = &policy.mode else { return ProxyUser::NotAsked };
    if !policy.trusted_proxies.iter().any(|trusted| trusted.contains(hop)) {
        return ProxyUser::UntrustedSource;
    }
    if hop.is_loopback() && !proxy.allow_loopback {
        return ProxyUser::LoopbackSource;
    }
    if let Some(missing) = proxy.required_headers.iter().find(|name| !filled(head, name)) {
        return ProxyUser::MissingHeader(missing.to_ascii_lowercase());
    }
    named_user(head, proxy)
}

fn filled(head: &RequestHead<'_>, name: &str) -> bool {
    head.all(name).any(|value| visible(value).is_some_and(|text| !text.is_empty()))
}

fn named_user(head: &RequestHead<'_>, proxy: &TrustedProxy) -> ProxyUser {
    let user = match head.single(&proxy.user_header) {
        Single::Text(user) if !user.trim().is_empty() => user.trim(),
        _ => return ProxyUser::MissingUser,
    };
    if proxy.allow_users.is_empty() || proxy.allow_users.iter().any(|allowed| allowed == user) {
        ProxyUser::Known(user.to_owned())
    } else {
        ProxyUser::NotAllowed
    }
}
