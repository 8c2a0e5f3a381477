//! Forwarded requests: the signs of them, who the client behind a trusted proxy is, and whom the proxy vouches for.

use super::head::{RequestHead, Single, visible};
use super::policy::{AuthMode, AuthPolicy, TrustedProxy};
use std::net::{IpAddr, SocketAddr};

/// Headers that no client sends by itself, only something that passes its request on.
const EVIDENCE: [&str; 22] = [
    "forwarded",
    "via",
    "x-real-ip",
    "x-client-ip",
    "client-ip",
    "true-client-ip",
    "x-cluster-client-ip",
    "x-original-forwarded-for",
    "x-original-host",
    "x-original-url",
    "x-rewrite-url",
    "x-proxyuser-ip",
    "x-remote-ip",
    "x-remote-addr",
    "x-host",
    "x-scheme",
    "cdn-loop",
    "do-connecting-ip",
    "x-nf-client-connection-ip",
    "x-amzn-trace-id",
    "remote-addr",
    "remote-user",
];

const EVIDENCE_PREFIXES: [&str; 19] = [
    "x-forwarded",
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
    "x-auth-request-",
    "x-authentik-",
    "x-webauth-",
    "proxy-",
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
        let name = name.to_ascii_lowercase();
        EVIDENCE.contains(&name.as_str())
            || EVIDENCE_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
            || user_header.is_some_and(|header| header.eq_ignore_ascii_case(&name))
    })
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
