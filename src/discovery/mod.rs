//! Finding gateways: on the LAN by multicast DNS, in a domain of one's own by DNS.
//!
//! All of it is hearsay. Where a gateway is comes from its SRV and address records; TXT values are shown to people and
//! decide neither where a client connects nor which certificate it accepts.

mod domain;
mod multicast;
mod wide_area;
pub mod zone;

pub use domain::Domain;

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use tidegate_protocol::discovery::Hints;

use crate::{client::Endpoint, telemetry::escape};

/// More than anyone owns; the rest is somebody who floods.
const MOST: usize = 256;

/// Where to look, and for how long.
#[derive(Clone, Debug)]
pub struct Search {
    /// Besides the LAN.
    pub domain: Option<Domain>,
    /// Whom to ask about it instead of the system's servers.
    pub nameserver: Option<SocketAddr>,
    pub time: Duration,
}

/// What a search brought.
#[derive(Debug, Default)]
pub struct Findings {
    /// Sorted by name.
    pub gateways: Vec<Found>,
    /// What could not be searched, and why.
    pub problems: Vec<String>,
}

/// A gateway that was announced. Every text is cleaned: it can be printed as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Name of the service.
    pub instance: String,
    /// `local.`, or the domain that was asked.
    pub domain: String,
    /// The SRV record's host.
    pub host: String,
    /// The SRV record's port.
    pub port: u16,
    /// The host's addresses, IPv4 first; none that needs an interface to mean something.
    pub addresses: Vec<IpAddr>,
    /// The TXT record: neither verified nor needed.
    pub hints: Hints,
}

impl Found {
    fn new(
        instance: &str,
        domain: &str,
        host: &str,
        port: u16,
        addresses: impl IntoIterator<Item = IpAddr>,
        hints: Hints,
    ) -> Self {
        let usable = |ip: &IpAddr| match ip {
            IpAddr::V4(ip) => !ip.is_unspecified() && !ip.is_multicast(),
            IpAddr::V6(ip) => !ip.is_unspecified() && !ip.is_multicast() && !ip.is_unicast_link_local(),
        };
        let mut addresses: Vec<_> = addresses.into_iter().filter(usable).collect();
        addresses.sort();
        addresses.dedup();
        Self {
            instance: clean(instance),
            domain: clean(domain),
            host: clean(host.trim_end_matches('.')),
            port,
            addresses,
            hints: cleaned(hints),
        }
    }

    /// Where a client would connect. No TXT value has a say in it but for whether to speak TLS, without which
    /// nothing works.
    pub fn endpoint(&self) -> Option<Endpoint> {
        let address = self.addresses.first().filter(|_| self.port != 0)?;
        Some(Endpoint { tls: self.hints.tls, ..Endpoint::plain(address.to_string(), self.port) })
    }

    /// What people call it.
    pub fn name(&self) -> &str {
        self.hints.display_name.as_deref().unwrap_or(&self.instance)
    }
}

/// Looks on the LAN and in the domain at the same time.
pub async fn search(search: &Search) -> Findings {
    let (lan, wide) = tokio::join!(multicast::search(search.time), async {
        match &search.domain {
            Some(domain) => wide_area::search(domain, search.nameserver, search.time).await,
            None => Ok(Vec::new()),
        }
    });
    let mut findings = Findings::default();
    for result in [lan, wide] {
        match result {
            Ok(found) => findings.gateways.extend(found),
            Err(problem) => findings.problems.push(problem),
        }
    }
    findings
        .gateways
        .sort_by(|a, b| (a.name(), &a.instance, &a.domain).cmp(&(b.name(), &b.instance, &b.domain)));
    findings
}

fn cleaned(hints: Hints) -> Hints {
    let text = |value: Option<String>| value.map(|value| clean(&value));
    Hints {
        display_name: text(hints.display_name),
        lan_host: text(hints.lan_host),
        tls_sha256: text(hints.tls_sha256),
        tailnet_dns: text(hints.tailnet_dns),
        cli_path: text(hints.cli_path),
        ..hints
    }
}

fn clean(text: &str) -> String {
    escape(text.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(addresses: &[&str], hints: Hints) -> Found {
        let addresses: Vec<IpAddr> = addresses.iter().map(|address| address.parse().unwrap()).collect();
        Found::new("attic", "local.", "attic.local.", 18_789, addresses, hints)
    }

    #[test]
    fn hints_say_neither_where_to_connect_nor_what_to_accept() {
        let forged = Hints {
            lan_host: Some("evil.example".to_owned()),
            gateway_port: Some(1),
            tailnet_dns: Some("evil.ts.net".to_owned()),
            tls: true,
            tls_sha256: Some("00".repeat(32)),
            ..Hints::default()
        };
        let endpoint = found(&["fd00::5", "192.168.1.5"], forged).endpoint().unwrap();
        assert_eq!(endpoint.to_string(), "wss://192.168.1.5:18789");
        assert_eq!(endpoint.pin, None);
        assert_eq!(found(&[], Hints::default()).endpoint(), None);
    }

    #[test]
    fn addresses_that_lead_nowhere_are_left_out() {
        let found = found(&["fe80::1", "0.0.0.0", "224.0.0.251", "10.0.0.1", "10.0.0.1"], Hints::default());
        assert_eq!(found.addresses, ["10.0.0.1".parse::<IpAddr>().unwrap()]);
    }

    #[test]
    fn a_strangers_text_does_not_act_on_a_terminal() {
        let hints = Hints { display_name: Some("\u{1b}[2Jattic\u{202e}\n".to_owned()), ..Hints::default() };
        let found = Found::new("a\u{9b}b", "local.", "h\u{7}", 1, [], hints);
        assert_eq!(found.name(), "\\u{1b}[2Jattic\\u{202e}");
        assert_eq!((found.instance.as_str(), found.host.as_str()), ("a\\u{9b}b", "h\\u{7}"));
    }
}
