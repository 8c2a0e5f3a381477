//! What a gateway says about itself to its network: one DNS-SD service, and hints in its TXT record.
//!
//! Anyone on a network can announce anything, so a hint is something to show to a person. Where a gateway is comes
//! from its SRV and address records, which certificate to accept from the user or from what was stored before.

use std::collections::BTreeMap;

/// The service type, without a domain (`docs/gateway/bonjour.md`).
pub const SERVICE: &str = "_openclaw-gw._tcp";

/// One string of a TXT record, key included, takes no more (RFC 6763, 6.1).
const LONGEST: usize = 255;

/// The keys of the TXT record (`docs/gateway/discovery.md`, and what the official advertiser sends).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hints {
    /// What people call the gateway.
    pub display_name: Option<String>,
    /// The host's name on its LAN, `*.local`.
    pub lan_host: Option<String>,
    /// WebSocket and HTTP port.
    pub gateway_port: Option<u16>,
    /// Set only when TLS is on.
    pub tls: bool,
    /// SHA-256 of the certificate in hex.
    pub tls_sha256: Option<String>,
    /// Set only when it listens beyond loopback.
    pub direct: bool,
    /// MagicDNS name; not in the LAN's minimal mode.
    pub tailnet_dns: Option<String>,
    /// In full mode only.
    pub ssh_port: Option<u16>,
    /// In full mode only: it tells a user's name and what is installed.
    pub cli_path: Option<String>,
}

impl Hints {
    /// As they stand in the record. A value that is too long for one is left out.
    pub fn to_txt(&self) -> Vec<(&'static str, String)> {
        let flag = |set: bool| set.then(|| "1".to_owned());
        let port = |port: Option<u16>| port.map(|port| port.to_string());
        let all = [
            ("role", Some("gateway".to_owned())),
            ("transport", Some("gateway".to_owned())),
            ("displayName", self.display_name.clone()),
            ("lanHost", self.lan_host.clone()),
            ("gatewayPort", port(self.gateway_port)),
            ("gatewayTls", flag(self.tls)),
            ("gatewayTlsSha256", self.tls_sha256.clone().filter(|_| self.tls)),
            ("gatewayDirectReachable", flag(self.direct)),
            ("tailnetDns", self.tailnet_dns.clone()),
            ("sshPort", port(self.ssh_port)),
            ("cliPath", self.cli_path.clone()),
        ];
        all.into_iter()
            .filter_map(|(key, value)| value.map(|value| (key, value)))
            .filter(|(key, value)| key.len() + 1 + value.len() <= LONGEST)
            .collect()
    }

    /// Reads a stranger's record: what is not understood is not there.
    pub fn from_txt<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let mut found = BTreeMap::new();
        for (key, value) in pairs {
            // Keys have no case, and the first of several counts (RFC 6763, 6.4).
            found.entry(key.to_ascii_lowercase()).or_insert(value);
        }
        let text =
            |key: &str| found.get(key).filter(|value| !value.is_empty()).map(|value| (*value).to_owned());
        let port = |key: &str| found.get(key).and_then(|value| value.parse().ok()).filter(|port| *port != 0);
        let flag = |key: &str| {
            let value = found.get(key).map(|value| value.to_ascii_lowercase());
            matches!(value.as_deref(), Some("1" | "true" | "yes"))
        };
        Self {
            display_name: text("displayname"),
            lan_host: text("lanhost"),
            gateway_port: port("gatewayport"),
            tls: flag("gatewaytls"),
            tls_sha256: text("gatewaytlssha256"),
            direct: flag("gatewaydirectreachable"),
            tailnet_dns: text("tailnetdns"),
            ssh_port: port("sshport"),
            cli_path: text("clipath"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn everything() -> Hints {
        Hints {
            display_name: Some("Küche".to_owned()),
            lan_host: Some("kitchen.local".to_owned()),
            gateway_port: Some(18_789),
            tls: true,
            tls_sha256: Some("ab".repeat(32)),
            direct: true,
            tailnet_dns: Some("kitchen.tail1.ts.net".to_owned()),
            ssh_port: Some(22),
            cli_path: Some("/usr/bin/tidegate".to_owned()),
        }
    }

    #[test]
    fn what_is_written_is_read_again() {
        let txt = everything().to_txt();
        let pairs = txt.iter().map(|(key, value)| (*key, value.as_str()));
        assert_eq!(Hints::from_txt(pairs), everything());
        let keys: Vec<_> = Hints::default().to_txt().into_iter().map(|(key, _)| key).collect();
        assert_eq!(keys, ["role", "transport"]);
    }

    #[test]
    fn a_fingerprint_is_sent_only_with_tls() {
        let hints = Hints { tls: false, ..everything() };
        assert!(!hints.to_txt().iter().any(|(key, _)| key.starts_with("gatewayTls")));
    }

    #[test]
    fn what_does_not_fit_is_left_out_or_not_there() {
        let long = Hints { cli_path: Some("x".repeat(250)), ..everything() };
        assert!(!long.to_txt().iter().any(|(key, _)| *key == "cliPath"));
        let odd = [
            ("gatewayPort", "99999"),
            ("sshPort", "0"),
            ("gatewayTls", "maybe"),
            ("lanHost", ""),
            ("x", "y"),
        ];
        assert_eq!(Hints::from_txt(odd), Hints::default());
        let twice = Hints::from_txt([("DISPLAYNAME", "first"), ("displayName", "second")]);
        assert_eq!(twice.display_name.as_deref(), Some("first"));
    }
}
