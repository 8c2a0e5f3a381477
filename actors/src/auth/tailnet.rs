//! Requests that Tailscale passed on: who sent them, by the headers that the daemon writes.
//!
//! All of this holds only on the listener that this gateway opened for its own Serve or Funnel route. Tailscale
//! overwrites `X-Forwarded-For`, `-Proto` and `-Host` and takes `Tailscale-User-*` and `Tailscale-Funnel-Request`
//! out of what the client sent (`ipn/ipnlocal/serve.go`). A local process could write them all the same, so a name
//! is a claim until the daemon confirms that the address is that person's.

use super::head::{RequestHead, Single};
use super::origin;
use super::peer::{HttpRefusal, Peer, PeerClass};
use super::person::{Sender, TailnetUser};
use super::policy::AuthPolicy;
use super::proxy::ProxyUser;
use std::net::IpAddr;

/// The route that leads to our own listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Open to the internet.
    pub funnel: bool,
    /// The MagicDNS name of this machine, once the daemon said it.
    pub name: Option<String>,
}

/// As [`super::classify()`], for a request that arrived at the listener of `route` from `from`.
///
/// # Errors
/// If Tailscale can't have passed it on, or did so from where this route is not open.
pub fn classify_routed(
    head: &RequestHead<'_>,
    from: IpAddr,
    route: &Route,
    policy: &AuthPolicy,
) -> Result<Peer, HttpRefusal> {
    let host = match head.single("host") {
        Single::Text(host) if !host.is_empty() => host,
        _ => return Err(HttpRefusal::BadHost),
    };
    let forwarded = from.to_canonical().is_loopback()
        && filled(head, "x-forwarded-proto").is_some()
        && filled(head, "x-forwarded-host").is_some();
    let client = if forwarded { client(head) } else { None };
    let addr = client.ok_or(HttpRefusal::ProxyAttributionRequired)?;
    let public = match head.single("tailscale-funnel-request") {
        Single::Absent => false,
        Single::Text("?1") => true,
        Single::Text(_) | Single::Unusable => return Err(HttpRefusal::ProxyAttributionRequired),
    };
    let class = match (route.funnel, public) {
        (true, _) => PeerClass::TailscaleFunnel,
        (false, false) => PeerClass::TailscaleServe { sender: sender(head) },
        // Somebody made the tailnet's route public behind our back.
        (false, true) => return Err(HttpRefusal::ProxyAttributionRequired),
    };
    let text = |name: &str| head.all(name).next().map(|value| String::from_utf8_lossy(value).into_owned());
    Ok(Peer {
        addr,
        class,
        page: origin::judge_routed(head, route.name.as_deref(), policy),
        // Anybody in the tailnet can send another proxy's headers through Serve.
        user: ProxyUser::UntrustedSource,
        origin: text("origin"),
        host: Some(host.to_owned()),
        user_agent: text("user-agent"),
    })
}

/// Tailscale writes one address. More than that, or one of this machine's own, is somebody else's work.
fn client(head: &RequestHead<'_>) -> Option<IpAddr> {
    let address = filled(head, "x-forwarded-for")?.parse::<IpAddr>().ok()?.to_canonical();
    let elsewhere = !address.is_loopback() && !address.is_unspecified() && !address.is_multicast();
    elsewhere.then_some(address)
}

fn sender(head: &RequestHead<'_>) -> Sender {
    match filled(head, "tailscale-user-login") {
        None => Sender::Unnamed,
        Some(login) => Sender::Claimed(TailnetUser {
            login: login.to_owned(),
            name: filled(head, "tailscale-user-name").map(str::to_owned),
            picture: filled(head, "tailscale-user-profile-pic").map(str::to_owned),
        }),
    }
}

fn filled<'h>(head: &'h RequestHead<'_>, name: &str) -> Option<&'h str> {
    match head.single(name) {
        Single::Text(text) if !text.trim().is_empty() => Some(text.trim()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::origin::PageOrigin;
    use crate::settings::Settings;

    const FORWARDED: [(&str, &str); 4] = [
        ("host", "gateway.tail1.ts.net"),
        ("x-forwarded-for", "100.64.0.7"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", "gateway.tail1.ts.net"),
    ];

    /// `FORWARDED` with these headers instead of those of the same name; an empty value takes one away.
    fn asked(funnel: bool, changes: &[(&str, &str)]) -> Result<Peer, HttpRefusal> {
        let mut headers: Vec<(&str, &str)> = FORWARDED.to_vec();
        headers.retain(|(name, _)| !changes.iter().any(|(changed, _)| changed == name));
        headers.extend(changes.iter().filter(|(_, value)| !value.is_empty()));
        let head = headers.iter().map(|(name, value)| (*name, value.as_bytes())).collect();
        let route = Route { funnel, name: Some("gateway.tail1.ts.net".to_owned()) };
        let policy = AuthPolicy::from_settings(&Settings::default());
        classify_routed(&head, IpAddr::from([127, 0, 0, 1]), &route, &policy)
    }

    #[test]
    fn a_name_in_a_header_is_only_a_claim() {
        let peer = asked(false, &[("tailscale-user-login", "owner@example.com")]).unwrap();
        assert_eq!(peer.addr.to_string(), "100.64.0.7");
        let PeerClass::TailscaleServe { sender } = &peer.class else { panic!("{peer:?}") };
        assert!(matches!(sender, Sender::Claimed(user) if user.login == "owner@example.com"));
        assert_eq!(sender.confirmed(), None);
        assert!(!peer.is_direct_local() && !peer.may_see_details());
        let tagged = asked(false, &[]).unwrap();
        assert_eq!(tagged.class, PeerClass::TailscaleServe { sender: Sender::Unnamed });
        let twice = [("tailscale-user-login", "a@example.com"), ("tailscale-user-login", "b@example.com")];
        assert_eq!(
            asked(false, &twice).unwrap().class,
            PeerClass::TailscaleServe { sender: Sender::Unnamed }
        );
    }

    #[test]
    fn what_tailscale_would_not_send_is_refused() {
        for change in [
            ("x-forwarded-for", ""),
            ("x-forwarded-proto", ""),
            ("x-forwarded-host", ""),
            ("x-forwarded-for", "127.0.0.1"),
            ("x-forwarded-for", "::1"),
            ("x-forwarded-for", "::ffff:127.0.0.1"),
            ("x-forwarded-for", "0.0.0.0"),
            ("x-forwarded-for", "garbage"),
            ("x-forwarded-for", "203.0.113.1, 100.64.0.7"),
            ("tailscale-funnel-request", "?0"),
        ] {
            for funnel in [false, true] {
                assert_eq!(
                    asked(funnel, &[change]).unwrap_err(),
                    HttpRefusal::ProxyAttributionRequired,
                    "{change:?}"
                );
            }
        }
        let two = [("x-forwarded-for", "100.64.0.7"), ("x-forwarded-for", "100.64.0.8")];
        assert!(asked(false, &two).is_err());
        assert_eq!(asked(false, &[("host", "")]).unwrap_err(), HttpRefusal::BadHost);
    }

    #[test]
    fn a_request_from_the_internet_never_has_a_name() {
        let public = [("tailscale-funnel-request", "?1"), ("tailscale-user-login", "owner@example.com")];
        assert_eq!(asked(true, &public).unwrap().class, PeerClass::TailscaleFunnel);
        assert_eq!(asked(true, &public[1..]).unwrap().class, PeerClass::TailscaleFunnel);
        assert!(asked(false, &public).is_err(), "Serve is not public");
    }

    #[test]
    fn own_pages_are_those_of_the_magicdns_name() {
        let page =
            |origin: &str, host: &str| asked(false, &[("origin", origin), ("host", host)]).unwrap().page;
        let host = "gateway.tail1.ts.net";
        assert_eq!(page("https://gateway.tail1.ts.net", host), PageOrigin::Own);
        assert_eq!(page("https://Gateway.tail1.ts.net", "gateway.tail1.ts.net:443"), PageOrigin::Own);
        for (origin, host) in [
            ("http://gateway.tail1.ts.net", host),
            ("https://gateway.tail1.ts.net:8443", host),
            ("https://evil.tail2.ts.net", host),
            ("https://evil.tail2.ts.net", "evil.tail2.ts.net"),
            ("https://gateway.tail1.ts.net", "127.0.0.1:4000"),
            ("http://127.0.0.1:18789", "127.0.0.1:18789"),
        ] {
            assert_eq!(page(origin, host), PageOrigin::Foreign, "{origin} {host}");
        }
        assert_eq!(page("null", host), PageOrigin::Invalid);
        assert_eq!(page("", host), PageOrigin::Absent);
    }
}
