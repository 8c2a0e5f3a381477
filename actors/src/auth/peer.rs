//! Who a request comes from: this machine's owner, somebody direct, or somebody behind a proxy that is believed.

use super::head::{RequestHead, Single};
use super::origin::{self, PageOrigin};
use super::person::{Sender, TailnetUser};
use super::policy::AuthPolicy;
use super::proxy::{self, ProxyUser};
use super::web_origin::WebOrigin;
use std::net::{IpAddr, SocketAddr};

/// A request's sender, as far as the transport tells.
#[derive(Debug, Clone)]
pub struct Peer {
    /// The address that limits are counted by: the client's, behind a trusted proxy too.
    pub addr: IpAddr,
    pub class: PeerClass,
    pub page: PageOrigin,
    pub user: ProxyUser,
    /// As sent; for limits and logs only.
    pub origin: Option<String>,
    pub host: Option<String>,
    pub user_agent: Option<String>,
}

/// How the request reached us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PeerClass {
    /// From this machine, meant for a loopback name, with no header but those that clients send by themselves.
    DirectLocal,
    DirectRemote,
    /// Through a proxy that the owner trusts to name the client.
    Proxied {
        hop: IpAddr,
    },
    /// From the tailnet, through the Serve route that this gateway holds.
    TailscaleServe {
        sender: Sender,
    },
    /// Through the Funnel route that this gateway holds: from the internet, or from the tailnet.
    TailscaleFunnel,
}

/// Why a request is answered on the HTTP level and goes no further.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HttpRefusal {
    /// Something passed the request on that is not trusted to, or that does not say for whom.
    ProxyAttributionRequired,
    /// No host, several, or none that can be read.
    BadHost,
}

impl HttpRefusal {
    pub fn status(self) -> u16 {
        match self {
            Self::ProxyAttributionRequired => 403,
            Self::BadHost => 400,
        }
    }

    /// The body, `application/json`.
    pub fn body(self) -> &'static str {
        match self {
            Self::ProxyAttributionRequired => concat!(
                r#"{"error":{"message":"This request was forwarded, but not by a proxy that is trusted to say for "#,
                r#"whom. List the proxy in gateway.trustedProxies and let it rewrite X-Forwarded-For."#,
                r#"","type":"proxy_attribution_required"}}"#
            ),
            Self::BadHost => r#"{"error":{"message":"one valid Host header is required","type":"bad_host"}}"#,
        }
    }
}

/// Which share of the pre-handshake budget a socket draws on: pages must not use up the owner's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SocketClass {
    /// No page behind it.
    Program,
    /// A page that we served or that the owner listed.
    KnownPage,
    /// Any other page.
    ForeignPage,
}

impl Peer {
    pub fn is_direct_local(&self) -> bool {
        self.class == PeerClass::DirectLocal
    }

    /// The owner's own programs: on this machine, and no web page.
    pub fn is_local_program(&self) -> bool {
        self.is_direct_local() && self.page == PageOrigin::Absent
    }

    /// The tailnet user whom the daemon confirmed.
    pub fn tailnet_user(&self) -> Option<&TailnetUser> {
        match &self.class {
            PeerClass::TailscaleServe { sender } => sender.confirmed(),
            _ => None,
        }
    }

    /// Whether answers may show more than that the gateway is alive: not to a page of somebody else, nor to a name
    /// that only happens to resolve to us.
    pub fn may_see_details(&self) -> bool {
        self.is_direct_local()
            && matches!(self.page, PageOrigin::Absent | PageOrigin::Own | PageOrigin::Allowed)
    }

    /// The page whose guesses are counted together, if there is one. The gateway's own pages have several names, and
    /// so has a page of this machine: each is one page, lest every name bring guesses of its own.
    pub fn guessing_page(&self) -> Option<String> {
        let text = self.origin.as_deref()?;
        Some(match WebOrigin::parse(text) {
            _ if self.page == PageOrigin::Own => "ours".to_owned(),
            Some(origin) if origin.host.is_loopback() => "ours".to_owned(),
            Some(origin) => format!("{origin:?}"),
            None => text.to_owned(),
        })
    }

    pub fn socket_class(&self) -> SocketClass {
        match self.page {
            PageOrigin::Absent => SocketClass::Program,
            PageOrigin::Own | PageOrigin::Allowed => SocketClass::KnownPage,
            PageOrigin::Invalid | PageOrigin::Foreign => SocketClass::ForeignPage,
        }
    }
}

/// Judges a request that came from `from` to our socket `local`. Any doubt makes it remote or refuses it.
pub fn classify(
    head: &RequestHead<'_>,
    from: IpAddr,
    local: SocketAddr,
    policy: &AuthPolicy,
) -> Result<Peer, HttpRefusal> {
    let from = from.to_canonical();
    let host = match head.single("host") {
        Single::Text(host) if !host.is_empty() => host,
        _ => return Err(HttpRefusal::BadHost),
    };
    let (addr, class) = if proxy::is_forwarded(head, policy) {
        let trusted = policy.trusted_proxies.iter().any(|trusted| trusted.contains(from));
        let client = if trusted { proxy::client_address(head, policy) } else { None };
        (client.ok_or(HttpRefusal::ProxyAttributionRequired)?, PeerClass::Proxied { hop: from })
    } else if from.is_loopback() && origin::host_is_loopback(head, local) && !proxy::is_doubtful(head) {
        (from, PeerClass::DirectLocal)
    } else {
        (from, PeerClass::DirectRemote)
    };
    let proxied = matches!(class, PeerClass::Proxied { .. });
    Ok(Peer {
        addr,
        page: origin::judge(head, local, proxied, policy),
        user: proxy::proxy_user(head, from, policy),
        class,
        origin: text_of(head, "origin"),
        host: Some(host.to_owned()),
        user_agent: text_of(head, "user-agent"),
    }
    .without_foreign_trust())
}

impl Peer {
    /// A foreign page on this machine is not the owner, whatever address its browser has.
    fn without_foreign_trust(mut self) -> Self {
        if self.is_direct_local() && matches!(self.page, PageOrigin::Foreign | PageOrigin::Invalid) {
            self.class = PeerClass::DirectRemote;
        }
        self
    }
}

fn text_of(head: &RequestHead<'_>, name: &str) -> Option<String> {
    head.all(name).next().map(|value| String::from_utf8_lossy(value).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::policy::AllowedOrigins;

    const LOCAL: &str = "127.0.0.1:18789";

    fn policy(proxies: &[&str]) -> AuthPolicy {
        AuthPolicy {
            trusted_proxies: proxies.iter().map(|text| text.parse().unwrap()).collect(),
            ..AuthPolicy::open_on_loopback()
        }
    }

    fn asked(policy: &AuthPolicy, from: &str, headers: &[(&str, &str)]) -> Result<Peer, HttpRefusal> {
        let mut all = vec![("host", &b"127.0.0.1:18789"[..])];
        if headers.iter().any(|(name, _)| *name == "host") {
            all.clear();
        }
        all.extend(headers.iter().map(|(name, value)| (*name, value.as_bytes())));
        classify(&RequestHead::from_iter(all), from.parse().unwrap(), LOCAL.parse().unwrap(), policy)
    }

    fn class(policy: &AuthPolicy, from: &str, headers: &[(&str, &str)]) -> Option<PeerClass> {
        asked(policy, from, headers).ok().map(|peer| peer.class)
    }

    #[test]
    fn local_is_loopback_address_and_loopback_host_without_any_doubt() {
        let policy = policy(&[]);
        assert_eq!(class(&policy, "127.0.0.1", &[]), Some(PeerClass::DirectLocal));
        assert_eq!(
            class(&policy, "::ffff:127.0.0.1", &[("host", "localhost")]),
            Some(PeerClass::DirectLocal)
        );
        assert_eq!(class(&policy, "::1", &[("host", "[::1]:18789")]), Some(PeerClass::DirectLocal));
        let tunnelled = asked(&policy, "127.0.0.1", &[("host", "localhost:1234")]).unwrap();
        assert!(tunnelled.is_local_program(), "the near end of a tunnel may have any port");
        for origin in ["http://localhost:18789", "http://localhost:1234"] {
            let page =
                asked(&policy, "127.0.0.1", &[("host", "localhost:1234"), ("origin", origin)]).unwrap();
            assert!(!page.is_direct_local(), "{origin}");
        }
        for host in ["evil.example", "my.local:18789", "x.ts.net", "10.0.0.9:18789", "localhost.:18789"] {
            assert_eq!(
                class(&policy, "127.0.0.1", &[("host", host)]),
                Some(PeerClass::DirectRemote),
                "{host}"
            );
        }
        assert_eq!(class(&policy, "192.168.1.7", &[]), Some(PeerClass::DirectRemote));
        for origin in ["https://evil.example", "null", "http://localhost:3000"] {
            let seen = asked(&policy, "127.0.0.1", &[("origin", origin)]).unwrap();
            assert!(!seen.is_direct_local() && !seen.may_see_details(), "{origin}");
            assert_eq!(seen.socket_class(), SocketClass::ForeignPage);
        }
        let own = asked(&policy, "127.0.0.1", &[("origin", "http://127.0.0.1:18789")]).unwrap();
        assert!(own.is_direct_local() && !own.is_local_program());
        assert_eq!(own.socket_class(), SocketClass::KnownPage);
    }

    #[test]
    fn every_sign_of_a_proxy_is_refused_where_none_is_trusted() {
        let policy = policy(&[]);
        for name in [
            "X-Forwarded-For",
            "x-forwarded-proto",
            "x-forwarded-host",
            "x-forwarded",
            "X-Real-IP",
            "Forwarded",
            "Via",
            "CF-Connecting-IP",
            "cf-ray",
            "True-Client-IP",
            "X-Client-IP",
            "Tailscale-User-Login",
            "Tailscale-Funnel-Request",
            "x-envoy-external-address",
            "Fly-Client-IP",
            "x-azure-clientip",
            "X-Cluster-Client-IP",
            "cdn-loop",
            "x-ngrok-id",
            "X_Forwarded_For",
            "Forwarded-For",
            "HTTP_X_FORWARDED_FOR",
            "WL-Proxy-Client-IP",
            "X-Originating-IP",
            "X-Remote-User",
            "Front-End-Https",
            "X-Real-Port",
            "Oxy-Client-Ip",
            "X-Gateway-Host",
        ] {
            for from in ["127.0.0.1", "203.0.113.1"] {
                let refused = asked(&policy, from, &[(name, "127.0.0.1")]).unwrap_err();
                assert_eq!(refused, HttpRefusal::ProxyAttributionRequired, "{name}");
            }
        }
    }

    #[test]
    fn a_header_that_no_client_sends_by_itself_makes_the_sender_remote() {
        let policy = policy(&[]);
        for name in
            ["X-Request-Id", "X-B3-TraceId", "SSL-Client-Cert", "Device-Stock-UA", "x_openclaw_scopes"]
        {
            let class = class(&policy, "127.0.0.1", &[(name, "1")]);
            assert_eq!(class, Some(PeerClass::DirectRemote), "{name}");
        }
        for name in [
            "Sec-WebSocket-Extensions",
            "Sec-GPC",
            "Accept-Language",
            "User-Agent",
            "Cookie",
            "Authorization",
            "Content-Length",
            "Traceparent",
            "x-openclaw-scopes",
        ] {
            let class = class(&policy, "127.0.0.1", &[(name, "1")]);
            assert_eq!(class, Some(PeerClass::DirectLocal), "{name}");
        }
    }

    #[test]
    fn a_trusted_chain_is_walked_from_the_right() {
        let policy = policy(&["127.0.0.1", "10.0.0.0/8"]);
        let client = |chain: &str| {
            asked(&policy, "127.0.0.1", &[("x-forwarded-for", chain)]).ok().map(|p| p.addr.to_string())
        };
        assert_eq!(client("203.0.113.9").as_deref(), Some("203.0.113.9"));
        assert_eq!(client("127.0.0.1, 203.0.113.9").as_deref(), Some("203.0.113.9"));
        assert_eq!(client("203.0.113.9, 127.0.0.1").as_deref(), Some("203.0.113.9"));
        assert_eq!(client("1.1.1.1, 203.0.113.9,10.2.3.4").as_deref(), Some("203.0.113.9"));
        assert_eq!(client("garbage, 203.0.113.9:4711").as_deref(), Some("203.0.113.9"));
        assert_eq!(client("[2001:db8::1]:443").as_deref(), Some("2001:db8::1"));
        for refused in
            ["127.0.0.1", "127.8.8.8", "::1", "garbage", "", "203.0.113.9, garbage", ", ", "0.0.0.0"]
        {
            assert_eq!(client(refused), None, "{refused}");
        }
        let two = [("x-forwarded-for", "9.9.9.9"), ("x-forwarded-for", "203.0.113.9")];
        assert_eq!(asked(&policy, "127.0.0.1", &two).unwrap().addr.to_string(), "203.0.113.9");
        assert!(
            asked(&policy, "192.168.1.1", &[("x-forwarded-for", "203.0.113.9")]).is_err(),
            "not that proxy"
        );
        assert_eq!(class(&policy, "127.0.0.1", &[]), Some(PeerClass::DirectLocal), "no header: direct");
    }

    #[test]
    fn other_headers_name_a_client_only_where_the_owner_says_so() {
        let strict = policy(&["127.0.0.1"]);
        let real_ip = [("x-real-ip", "203.0.113.9")];
        assert!(asked(&strict, "127.0.0.1", &real_ip).is_err());
        assert!(asked(&strict, "127.0.0.1", &[("cf-connecting-ip", "203.0.113.9")]).is_err());
        let lenient = AuthPolicy { allow_real_ip: true, ..strict };
        assert_eq!(asked(&lenient, "127.0.0.1", &real_ip).unwrap().addr.to_string(), "203.0.113.9");
        assert!(asked(&lenient, "127.0.0.1", &[("x-real-ip", "127.0.0.1")]).is_err());
    }

    #[test]
    fn a_page_is_one_guesser_by_whatever_name() {
        let mut policy = policy(&[]);
        policy.allowed_origins =
            AllowedOrigins::from_settings(["https://gw.example", "https://other.example"]);
        let page = |origin: &str| {
            asked(&policy, "127.0.0.1", &[("origin", origin)]).unwrap().guessing_page().unwrap()
        };
        let own = page("http://127.0.0.1:18789");
        for name in [
            "http://localhost:18789",
            "http://[::1]:18789",
            "HTTP://LOCALHOST:18789",
            "http://127.9.9.9:18789",
        ] {
            assert_eq!(page(name), own, "{name}");
        }
        assert_eq!(page("https://GW.example:443"), page("https://gw.example"));
        assert_ne!(page("https://gw.example"), page("https://other.example"));
        assert_ne!(page("https://gw.example"), own);
        assert_eq!(asked(&policy, "127.0.0.1", &[]).unwrap().guessing_page(), None);
    }

    #[test]
    fn one_host_is_required() {
        let policy = policy(&[]);
        for hosts in [vec![("host", "")], vec![("host", "127.0.0.1"), ("host", "evil.example")]] {
            assert_eq!(asked(&policy, "127.0.0.1", &hosts).unwrap_err(), HttpRefusal::BadHost);
        }
        assert_eq!(HttpRefusal::BadHost.status(), 400);
        for refusal in [HttpRefusal::BadHost, HttpRefusal::ProxyAttributionRequired] {
            assert!(serde_json::from_str::<serde_json::Value>(refusal.body()).is_ok());
        }
    }
}
