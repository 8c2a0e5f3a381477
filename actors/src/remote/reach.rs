//! Where other machines find this gateway: the address that a setup code carries.

use super::{Interface, interfaces};
use crate::Gateway;
use crate::auth::{is_private, is_tailnet};
use crate::pin::Pin;
use crate::settings::{Settings, gateway::Bind, gateway::TailscaleMode};
use reqwest::Url;
use std::net::{IpAddr, Ipv4Addr};

/// What the settings don't say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Known {
    /// Of the certificate that the gateway itself shows now.
    tls_fingerprint: Option<String>,
    /// Nobody but the gateway vouches for it.
    tls_self_made: bool,
    /// The name under which Tailscale publishes the gateway.
    served_host: Option<String>,
}

impl Known {
    fn of(gateway: &Gateway) -> Self {
        let name = |url: String| Some(Url::parse(&url).ok()?.host_str()?.to_owned());
        Self {
            tls_fingerprint: gateway.whereabouts.borrow().tls_sha256.clone(),
            tls_self_made: gateway.whereabouts.borrow().tls_self_made,
            served_host: gateway.tailscale.url().and_then(name),
        }
    }
}

/// The address of this gateway for others, by what the settings say and what is known now.
///
/// # Errors
/// If there is none that a code may carry, with what to set.
pub async fn address(gateway: &Gateway, wish: Wish) -> Result<Address, NoAddress> {
    let (settings, known) = (gateway.settings.get(), Known::of(gateway));
    let found = tokio::task::spawn_blocking(candidates).await.unwrap_or_default();
    Finder { settings: &settings, known: &known, candidates: &found }.find(&wish)
}

/// What the asker wants of the address.
#[derive(Debug, Clone, Default)]
pub struct Wish {
    /// This one and no other.
    pub public_url: Option<String>,
    /// `gateway.remote.url` before anything else.
    pub prefer_remote: bool,
}

/// An address and where it comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// `ws://` or `wss://`, as the official clients would write it themselves.
    pub url: String,
    /// The setting behind it.
    pub source: String,
    /// Of the certificate there, where it is known: 64 lowercase hex digits.
    pub tls_fingerprint: Option<String>,
    /// The certificate there is known to be one that only its fingerprint speaks for.
    pub self_made: bool,
}

/// Why there is no address for others.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoAddress {
    #[error(
        "Gateway is only bound to loopback, where no other machine reaches it: set gateway.bind to \"lan\", \
         gateway.tailscale.mode to \"serve\", or plugins.entries.device-pair.config.publicUrl to the address that \
         others use"
    )]
    LoopbackOnly,
    #[error("{0} is no gateway address: it must begin with wss:// or ws://, without user, password or query")]
    Invalid(&'static str),
    #[error(
        "{source_key} is set, but this machine has no {kind} now: set plugins.entries.device-pair.config.publicUrl to \
         the address that others use"
    )]
    NoInterface { source_key: &'static str, kind: &'static str },
    #[error("gateway.bind is \"custom\": set gateway.customBindHost")]
    NoCustomHost,
    #[error("{0} is on, but its name for this machine is not known yet")]
    NotServed(&'static str),
    #[error(
        "{url} (from {source_key}) would carry secrets in the clear: ws:// is for this machine and private networks \
         only. Set gateway.tls.enabled, gateway.tailscale.mode to \"serve\", or \
         plugins.entries.device-pair.config.publicUrl to a wss:// address"
    )]
    Cleartext { url: String, source_key: String },
}

/// An IPv4 address of this machine that is not loopback.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Candidate {
    address: Ipv4Addr,
    /// Whether the way to everywhere else begins there.
    is_default: bool,
}

struct Finder<'a> {
    settings: &'a Settings,
    known: &'a Known,
    candidates: &'a [Candidate],
}

const PUBLIC_URL: &str = "plugins.entries.device-pair.config.publicUrl";
const REMOTE_URL: &str = "gateway.remote.url";

impl Finder<'_> {
    fn find(&self, wish: &Wish) -> Result<Address, NoAddress> {
        let (url, source) = self.choose(wish)?;
        let tls_fingerprint = self.pin(&url, &source);
        let self_made = tls_fingerprint.is_some() && self.shows_own(&source) && self.known.tls_self_made;
        let address = Address { tls_fingerprint, self_made, url, source };
        if address.is_cleartext() && !address.is_nearby() {
            return Err(NoAddress::Cleartext { url: address.url, source_key: address.source });
        }
        Ok(address)
    }

    fn choose(&self, wish: &Wish) -> Result<(String, String), NoAddress> {
        let gateway = &self.settings.gateway;
        let filled = |text: &Option<String>| text.clone().filter(|text| !text.trim().is_empty());
        if let Some(url) = &wish.public_url {
            return Ok((self.tidy(url).ok_or(NoAddress::Invalid("publicUrl"))?, "request.publicUrl".into()));
        }
        let configured = filled(&self.settings.plugins.entries.device_pair.config.public_url);
        if let Some(url) = configured.filter(|_| !wish.prefer_remote) {
            return Ok((self.tidy(&url).ok_or(NoAddress::Invalid(PUBLIC_URL))?, PUBLIC_URL.into()));
        }
        let remote = filled(&gateway.remote.url)
            .map(|url| self.tidy(&url).ok_or(NoAddress::Invalid(REMOTE_URL)))
            .transpose()?;
        let remote = remote.map(|url| (url, REMOTE_URL.to_owned()));
        let served = self.served()?;
        if wish.prefer_remote {
            return remote.or(served).map_or_else(|| self.bound(), Ok);
        }
        served.or(remote).map_or_else(|| self.bound(), Ok)
    }

    fn served(&self) -> Result<Option<(String, String)>, NoAddress> {
        let source = match self.settings.gateway.tailscale.mode {
            TailscaleMode::Off => return Ok(None),
            TailscaleMode::Serve => "gateway.tailscale.mode=serve",
            TailscaleMode::Funnel => "gateway.tailscale.mode=funnel",
        };
        let host = self.known.served_host.as_ref().ok_or(NoAddress::NotServed("gateway.tailscale.mode"))?;
        Ok(Some((format!("wss://{host}"), source.into())))
    }

    fn bound(&self) -> Result<(String, String), NoAddress> {
        let gateway = &self.settings.gateway;
        let at = |host: &str, source: &str| {
            let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
            let url = self.tidy(&format!("{}://{host}:{}", self.scheme(), gateway.port()));
            Ok((url.ok_or(NoAddress::NoCustomHost)?, source.to_owned()))
        };
        match gateway.bind {
            Bind::Loopback | Bind::Auto => Err(NoAddress::LoopbackOnly),
            Bind::Custom => match gateway.custom_bind_host.as_deref().map(str::trim) {
                Some(host) if !host.is_empty() => at(host, "gateway.bind=custom"),
                _ => Err(NoAddress::NoCustomHost),
            },
            Bind::Lan => {
                let (source_key, kind) = ("gateway.bind=lan", "private IPv4 address");
                let host = self.interface(|ip| ip.is_private());
                at(&host.ok_or(NoAddress::NoInterface { source_key, kind })?, source_key)
            }
            Bind::Tailnet => {
                let (source_key, kind) = ("gateway.bind=tailnet", "Tailscale IPv4 address");
                let host = self.interface(|ip| is_tailnet(ip.into()));
                at(&host.ok_or(NoAddress::NoInterface { source_key, kind })?, source_key)
            }
        }
    }

    /// The one on the way to everywhere else, if it fits; else the first that does.
    fn interface(&self, fits: impl Fn(Ipv4Addr) -> bool) -> Option<String> {
        let fitting: Vec<&Candidate> = self.candidates.iter().filter(|one| fits(one.address)).collect();
        let best = fitting.iter().find(|one| one.is_default).or(fitting.first());
        best.map(|one| one.address.to_string())
    }

    fn scheme(&self) -> &'static str {
        if self.settings.gateway.tls.enabled { "wss" } else { "ws" }
    }

    /// An address as the official clients write it: they refuse a code that has another spelling.
    fn tidy(&self, text: &str) -> Option<String> {
        let text = text.trim();
        let whole =
            if text.contains("://") { text.to_owned() } else { format!("{}://{text}", self.scheme()) };
        let url = Url::parse(&whole).ok()?;
        let scheme = match url.scheme() {
            "ws" | "http" => "ws",
            "wss" | "https" => "wss",
            _ => return None,
        };
        let plain = url.username().is_empty() && url.password().is_none() && url.query().is_none();
        let host = url.host_str().filter(|host| plain && !host.is_empty())?;
        let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
        let path = url.path().trim_end_matches('/');
        Some(format!("{scheme}://{host}{port}{path}"))
    }

    /// Whether it is the gateway itself that answers there.
    fn shows_own(&self, source: &str) -> bool {
        source.starts_with("gateway.bind=")
    }

    /// Only where the certificate is surely the one that the other side will see.
    fn pin(&self, url: &str, source: &str) -> Option<String> {
        let known = if self.shows_own(source) {
            self.known.tls_fingerprint.as_deref()
        } else if source == REMOTE_URL {
            self.settings.gateway.remote.tls_fingerprint.as_deref()
        } else {
            None
        };
        known.filter(|_| url.starts_with("wss://")).and_then(Pin::parse).map(|pin| pin.hex())
    }
}

impl Address {
    pub fn is_cleartext(&self) -> bool {
        self.url.starts_with("ws://")
    }

    /// Whether only this machine reaches it.
    pub fn is_loopback(&self) -> bool {
        match self.host() {
            Host::Ip(ip) => ip.is_loopback(),
            Host::Name(name) => name == "localhost",
        }
    }

    /// This machine, a private network, or a name of the local link.
    fn is_nearby(&self) -> bool {
        match self.host() {
            // The official clients take a carrier's addresses, and so a tailnet's, for public ones.
            Host::Ip(ip) => is_private(ip) && !(ip.is_ipv4() && is_tailnet(ip)),
            Host::Name(name) => name.ends_with(".local") || self.is_loopback(),
        }
    }

    fn host(&self) -> Host {
        let url = Url::parse(&self.url).ok();
        let host = url.as_ref().and_then(Url::host_str).unwrap_or_default();
        let bare = host.trim_start_matches('[').trim_end_matches(']').trim_end_matches('.');
        bare.parse().map_or_else(|_| Host::Name(bare.to_ascii_lowercase()), Host::Ip)
    }

    /// Where a code with this address can be fetched from, with `end` as the last part. `None`: nowhere, since it
    /// would cross a network in the clear.
    pub fn join_url(&self, end: &str) -> Option<String> {
        let (scheme, rest) = match self.url.strip_prefix("wss://") {
            Some(rest) => ("https", rest),
            None => ("http", self.url.strip_prefix("ws://").filter(|_| self.is_loopback())?),
        };
        Some(format!("{scheme}://{rest}/j/{end}"))
    }
}

enum Host {
    Ip(IpAddr),
    Name(String),
}

fn candidates() -> Vec<Candidate> {
    // A hardened service sees processes and nothing else of `/proc`.
    let routes = std::fs::read_to_string("/proc/self/net/route").unwrap_or_default();
    let default = default_interface(&routes);
    let candidate = |one: Interface| match one.address {
        IpAddr::V4(address) if !address.is_loopback() => {
            Some(Candidate { address, is_default: default.as_ref() == Some(&one.name) })
        }
        _ => None,
    };
    interfaces().into_iter().filter_map(candidate).collect()
}

/// From the kernel's table of routes: `eth0 00000000 ...` is the way to everywhere.
fn default_interface(routes: &str) -> Option<String> {
    let mut lines = routes.lines().map(str::split_whitespace);
    lines.find_map(|mut words| {
        let name = words.next()?;
        (words.next()? == "00000000").then(|| name.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn found(settings: Value, wish: Wish) -> Result<(String, String, bool), String> {
        let settings: Settings = serde_json::from_value(settings).unwrap();
        let known = Known {
            tls_fingerprint: Some("AB".repeat(32)),
            served_host: Some("box.tail1.ts.net".into()),
            ..Known::default()
        };
        let candidates = [("172.17.0.1", false), ("192.168.1.5", true), ("100.100.3.4", false)]
            .map(|(address, is_default)| Candidate { address: address.parse().unwrap(), is_default });
        let finder = Finder { settings: &settings, known: &known, candidates: &candidates };
        let address = finder.find(&wish).map_err(|error| error.to_string())?;
        Ok((address.url, address.source, address.tls_fingerprint.is_some()))
    }

    #[test]
    fn the_address_comes_from_the_setting_that_says_most() {
        let public = |url: &str| json!({"entries": {"device-pair": {"config": {"publicUrl": url}}}});
        let remote =
            json!({"url": "wss://home.example/gw/", "tlsFingerprint": format!("sha256/{}", "cd".repeat(32))});
        let rows = [
            (json!({"bind": "lan", "port": 1}), json!({}), ("ws://192.168.1.5:1", "gateway.bind=lan", false)),
            (
                json!({"bind": "lan", "port": 1, "tls": {"enabled": true}}),
                json!({}),
                ("wss://192.168.1.5:1", "gateway.bind=lan", true),
            ),
            (
                json!({"bind": "tailnet", "tls": {"enabled": true}}),
                json!({}),
                ("wss://100.100.3.4:18789", "gateway.bind=tailnet", true),
            ),
            (
                json!({"bind": "custom", "customBindHost": "10.1.2.3", "port": 80}),
                json!({}),
                ("ws://10.1.2.3", "gateway.bind=custom", false),
            ),
            (
                json!({"tailscale": {"mode": "serve"}, "remote": remote}),
                json!({}),
                ("wss://box.tail1.ts.net", "gateway.tailscale.mode=serve", false),
            ),
            (
                json!({"remote": remote, "bind": "lan"}),
                json!({}),
                ("wss://home.example/gw", REMOTE_URL, true),
            ),
            (
                json!({"remote": remote, "bind": "lan"}),
                public("HTTPS://Gateway.Example:443/"),
                ("wss://gateway.example", PUBLIC_URL, false),
            ),
            (json!({}), public("ws://127.0.0.1:18852"), ("ws://127.0.0.1:18852", PUBLIC_URL, false)),
            (json!({}), public("box.local:18789"), ("ws://box.local:18789", PUBLIC_URL, false)),
        ];
        for (gateway, plugins, (url, source, pinned)) in rows {
            let settings = json!({"gateway": gateway, "plugins": plugins});
            let expected = Ok((url.to_owned(), source.to_owned(), pinned));
            assert_eq!(found(settings.clone(), Wish::default()), expected, "{settings}");
        }
        let settings = json!({"gateway": {"remote": remote}, "plugins": public("wss://public.example")});
        let wish = Wish { prefer_remote: true, ..Wish::default() };
        assert_eq!(found(settings.clone(), wish).unwrap().1, REMOTE_URL);
        let wish = Wish { public_url: Some("wss://asked.example:1".into()), ..Wish::default() };
        assert_eq!(found(settings, wish).unwrap().0, "wss://asked.example:1");
    }

    #[test]
    fn without_an_address_for_others_it_is_said_what_to_set() {
        let public =
            |url: &str| json!({"plugins": {"entries": {"device-pair": {"config": {"publicUrl": url}}}}});
        for (settings, says) in [
            (json!({}), "set gateway.bind to \"lan\""),
            (json!({"gateway": {"bind": "tailnet"}}), "in the clear"),
            (public("ws://gateway.example"), "in the clear"),
            (public("ws://8.8.8.8:1"), "in the clear"),
            (public("wss://user:pass@gateway.example"), "is no gateway address"),
            (public("ftp://gateway.example"), "is no gateway address"),
        ] {
            let error = found(settings.clone(), Wish::default()).unwrap_err();
            assert!(error.contains(says), "{settings}: {error}");
        }
    }

    #[test]
    fn a_host_with_public_addresses_alone_is_told_what_to_set() {
        let settings: Settings = serde_json::from_value(json!({"gateway": {"bind": "lan"}})).unwrap();
        let candidates = [Candidate { address: Ipv4Addr::new(8, 8, 8, 8), is_default: true }];
        let finder = Finder { settings: &settings, known: &Known::default(), candidates: &candidates };
        let error = finder.find(&Wish::default()).unwrap_err().to_string();
        assert!(error.contains("no private IPv4") && error.contains(PUBLIC_URL), "{error}");
    }

    #[test]
    fn a_code_is_fetched_over_tls_or_from_this_machine_only() {
        let at = |url: &str| Address {
            url: url.into(),
            source: String::new(),
            tls_fingerprint: None,
            self_made: false,
        };
        assert_eq!(at("wss://a.example/gw").join_url("x").unwrap(), "https://a.example/gw/j/x");
        assert_eq!(at("ws://127.0.0.1:1").join_url("x").unwrap(), "http://127.0.0.1:1/j/x");
        assert_eq!(at("ws://[::1]:1").join_url("x").unwrap(), "http://[::1]:1/j/x");
        assert_eq!(at("ws://192.168.1.5:1").join_url("x"), None);
    }

    #[test]
    fn the_interface_on_the_way_out_is_read_from_the_kernel() {
        let routes = "Iface\tDestination\tGateway\nbr0\t0000A8C0\t0\neth1\t00000000\t0101A8C0\n";
        assert_eq!(default_interface(routes).as_deref(), Some("eth1"));
        assert_eq!(default_interface("Iface Destination\n"), None);
    }
}
