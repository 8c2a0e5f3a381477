//! `Host` and `Origin`: whether a request was meant for us, and which page sent it.
//!
//! A browser lets any page open a WebSocket to any host, and a name that resolves to 127.0.0.1 makes a stranger's
//! page "same-origin" with us. So names prove nothing here: only loopback literals, `localhost`, a private address
//! that this very connection arrived at, and what the owner listed are ours.

use super::head::{RequestHead, Single};
use super::net::is_private;
use super::policy::AuthPolicy;
use super::web_origin::{Host, WebOrigin};
use std::net::SocketAddr;

/// What the `Origin` header says about the sender.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PageOrigin {
    /// No page: browsers always send one on a WebSocket.
    Absent,
    /// A page that this gateway served.
    Own,
    /// Not ours, but the owner listed it.
    Allowed,
    /// `null`, doubled, or no origin at all.
    Invalid,
    Foreign,
}

/// Whether `Host` says that the request was meant for a loopback listener. For a page it has to be the very one of
/// `local`'s port: what another port serves is somebody else's page. A program may have come through a tunnel, which
/// begins at whatever port was free.
pub fn host_is_loopback(head: &RequestHead<'_>, local: SocketAddr) -> bool {
    let Single::Text(text) = head.single("host") else { return false };
    let is_page = head.single("origin") != Single::Absent || looks_like_a_browser(head);
    let port_is_ours = |port: Option<u16>| !is_page || port.is_none_or(|port| port == local.port());
    Host::parse(text).is_some_and(|(host, port)| host.is_loopback() && port_is_ours(port))
}

/// Judges the `Origin` of a request that arrived at `local`. `proxied`: through a trusted proxy, whose public names
/// only the owner's list can tell from anybody else's.
pub fn judge(head: &RequestHead<'_>, local: SocketAddr, proxied: bool, policy: &AuthPolicy) -> PageOrigin {
    let origin = match shown(head) {
        Ok(origin) => origin,
        Err(page) => return page,
    };
    if !proxied && is_own(&origin, head, local, policy) {
        PageOrigin::Own
    } else if policy.allowed_origins.allows(&origin) || (!proxied && is_tunnelled(&origin, local, policy)) {
        PageOrigin::Allowed
    } else {
        PageOrigin::Foreign
    }
}

/// The origin that the request shows, or what its absence says.
fn shown(head: &RequestHead<'_>) -> Result<WebOrigin, PageOrigin> {
    match head.single("origin") {
        Single::Absent if looks_like_a_browser(head) => Err(PageOrigin::Invalid),
        Single::Absent => Err(PageOrigin::Absent),
        Single::Text(text) => WebOrigin::parse(text).ok_or(PageOrigin::Invalid),
        Single::Unusable => Err(PageOrigin::Invalid),
    }
}

/// As [`judge`], for a request that Tailscale passed on over TLS to this machine's MagicDNS name. While that name is
/// not known, any of Tailscale's is taken: the daemon holds no certificate for somebody else's.
pub fn judge_routed(head: &RequestHead<'_>, name: Option<&str>, policy: &AuthPolicy) -> PageOrigin {
    let origin = match shown(head) {
        Ok(origin) => origin,
        Err(page) => return page,
    };
    let host = match head.single("host") {
        Single::Text(text) => Host::parse(text),
        _ => None,
    };
    let is_ours = |host: &Host| match (host, name) {
        (Host::Name(host), Some(name)) => host.eq_ignore_ascii_case(name),
        (Host::Name(host), None) => host.ends_with(".ts.net"),
        (Host::Address(_), _) => false,
    };
    let same = origin.scheme == "https"
        && host.is_some_and(|(host, port)| origin.host == host && origin.port == port.or(Some(443)));
    if same && is_ours(&origin.host) {
        PageOrigin::Own
    } else if policy.allowed_origins.allows(&origin) {
        PageOrigin::Allowed
    } else {
        PageOrigin::Foreign
    }
}

fn is_own(origin: &WebOrigin, head: &RequestHead<'_>, local: SocketAddr, policy: &AuthPolicy) -> bool {
    let scheme = if policy.tls { "https" } else { "http" };
    if origin.scheme != scheme || origin.port != Some(local.port()) {
        return false;
    }
    let local_address = local.ip().to_canonical();
    if local_address.is_loopback() {
        return origin.host.is_loopback() && host_is_loopback(head, local);
    }
    let at_this_address = Host::Address(local_address);
    let host = match head.single("host") {
        Single::Text(text) => Host::parse(text),
        _ => None,
    };
    is_private(local_address)
        && origin.host == at_this_address
        && host.is_some_and(|(h, _)| h == at_this_address)
}

/// A listener that others can reach is expected to be tunnelled to the same port of the visitor's own machine.
fn is_tunnelled(origin: &WebOrigin, local: SocketAddr, policy: &AuthPolicy) -> bool {
    !policy.loopback_only
        && !local.ip().to_canonical().is_loopback()
        && matches!(origin.scheme.as_str(), "http" | "https")
        && origin.port == Some(local.port())
        && origin.host.is_loopback()
}

/// Signs of a page that shows no origin; a browser sets these and no page can change them. Our own pages and the
/// address bar are let be: they send none for plain reads.
fn looks_like_a_browser(head: &RequestHead<'_>) -> bool {
    let opens_a_socket = head.single("sec-fetch-mode") == Single::Text("websocket");
    let site = head.single("sec-fetch-site");
    opens_a_socket || !matches!(site, Single::Absent | Single::Text("same-origin" | "none"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::policy::AllowedOrigins;

    fn policy() -> AuthPolicy {
        AuthPolicy {
            allowed_origins: AllowedOrigins::from_settings(["https://gw.example/"]),
            ..AuthPolicy::open_on_loopback()
        }
    }

    fn judged(policy: &AuthPolicy, local: &str, host: &str, origin: &str) -> PageOrigin {
        let head = RequestHead::from_iter([("host", host.as_bytes()), ("origin", origin.as_bytes())]);
        judge(&head, local.parse().unwrap(), false, policy)
    }

    #[test]
    fn on_loopback_only_our_own_port_is_ours() {
        let policy = policy();
        let on_loopback = |host: &str, origin: &str| judged(&policy, "127.0.0.1:18789", host, origin);
        for (host, origin) in [
            ("127.0.0.1:18789", "http://127.0.0.1:18789"),
            ("localhost:18789", "http://localhost:18789"),
            ("127.0.0.1:18789", "http://localhost:18789"),
            ("[::1]:18789", "http://[::1]:18789"),
        ] {
            assert_eq!(on_loopback(host, origin), PageOrigin::Own, "{host} {origin}");
        }
        for (host, origin) in [
            ("evil.example", "http://evil.example"),
            ("evil.example:18789", "http://evil.example:18789"),
            ("evil.example:18789", "http://127.0.0.1:18789"),
            ("127.0.0.1:18789", "http://localhost:3000"),
            ("localhost:3000", "http://localhost:3000"),
            ("127.0.0.1:18789", "https://127.0.0.1:18789"),
            ("my-mac.local:18789", "http://my-mac.local:18789"),
            ("box.tail1234.ts.net", "https://box.tail1234.ts.net"),
            ("192.168.1.9:18789", "http://192.168.1.9:18789"),
            ("127.0.0.1:18789", "http://127.0.0.1"),
            ("127.0.0.1:18789", "chrome-extension://abcdef"),
        ] {
            assert_eq!(on_loopback(host, origin), PageOrigin::Foreign, "{host} {origin}");
        }
        for origin in
            ["null", "", "http://", "http://127.0.0.1:18789/", "http://a@127.0.0.1:18789", "file://"]
        {
            assert_eq!(on_loopback("127.0.0.1:18789", origin), PageOrigin::Invalid, "{origin}");
        }
        assert_eq!(on_loopback("127.0.0.1:18789", "https://gw.example"), PageOrigin::Allowed);
    }

    #[test]
    fn under_tls_own_pages_are_https() {
        let policy = AuthPolicy { tls: true, ..policy() };
        let of = |origin: &str| judged(&policy, "127.0.0.1:18789", "localhost:18789", origin);
        assert_eq!(of("https://localhost:18789"), PageOrigin::Own);
        for origin in
            ["http://localhost:18789", "https://localhost", "https://localhost:8443", "wss://localhost:18789"]
        {
            assert_eq!(of(origin), PageOrigin::Foreign, "{origin}");
        }
    }

    #[test]
    fn elsewhere_only_the_private_address_that_was_dialled_is_ours() {
        let policy = AuthPolicy { loopback_only: false, ..policy() };
        let lan = "192.168.1.5:18789";
        let own = "http://192.168.1.5:18789";
        assert_eq!(judged(&policy, lan, "192.168.1.5:18789", own), PageOrigin::Own);
        assert_eq!(judged(&policy, lan, "evil.example", own), PageOrigin::Foreign);
        let other = judged(&policy, lan, "192.168.1.6:18789", "http://192.168.1.6:18789");
        assert_eq!(other, PageOrigin::Foreign);
        let public = judged(&policy, "192.0.2.2:18789", "192.0.2.2:18789", "http://192.0.2.2:18789");
        assert_eq!(public, PageOrigin::Foreign, "a public address may be anybody's tomorrow");
        let tunnelled = judged(&policy, lan, "192.168.1.5:18789", "http://localhost:18789");
        assert_eq!(tunnelled, PageOrigin::Allowed);
    }

    #[test]
    fn a_browser_cannot_hide_that_it_is_one() {
        let local = "127.0.0.1:18789".parse().unwrap();
        let quiet = RequestHead::from_iter([("host", &b"127.0.0.1:18789"[..])]);
        assert_eq!(judge(&quiet, local, false, &policy()), PageOrigin::Absent);
        let fetch = [("host", &b"127.0.0.1:18789"[..]), ("sec-fetch-mode", b"websocket")];
        assert_eq!(judge(&RequestHead::from_iter(fetch), local, false, &policy()), PageOrigin::Invalid);
        for (site, expected) in [
            ("cross-site", PageOrigin::Invalid),
            ("same-site", PageOrigin::Invalid),
            ("same-origin", PageOrigin::Absent),
            ("none", PageOrigin::Absent),
        ] {
            let read = [("host", &b"127.0.0.1:18789"[..]), ("sec-fetch-site", site.as_bytes())];
            assert_eq!(judge(&RequestHead::from_iter(read), local, false, &policy()), expected, "{site}");
        }
        let twice = [("origin", &b"http://127.0.0.1:18789"[..]), ("origin", b"https://evil.example")];
        assert_eq!(judge(&RequestHead::from_iter(twice), local, false, &policy()), PageOrigin::Invalid);
    }
}
