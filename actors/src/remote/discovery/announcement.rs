//! What is announced: a name, a port, hints, and the addresses where it is true.

use crate::auth::is_tailnet;
use crate::host::shown_host_name;
use crate::remote::Whereabouts;
use crate::settings::GatewaySettings;
use crate::settings::Settings;
use crate::settings::discovery::{MdnsMode, MdnsSettings};
use crate::settings::gateway::Bind;
use std::net::IpAddr;
use tidegate_protocol::discovery::Hints;

/// Bytes in one label of a DNS name.
const LABEL: usize = 63;

/// The port that SSH has unless somebody says otherwise.
const SSH_PORT: u16 = 22;

/// What a LAN hears of a gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Announcement {
    /// Name of the service, as people see it. Another one on the LAN gets a number behind it.
    pub instance: String,
    /// The host's name, one label without `.local`.
    pub host: String,
    pub port: u16,
    pub hints: Hints,
    /// The addresses listened on; an unspecified one stands for all.
    listening: Vec<IpAddr>,
}

impl Announcement {
    /// None when there is nothing to announce: it is turned off, or no listener is on a LAN. Multicast goes neither
    /// into a tailnet nor off this machine, so addresses of those kinds are never announced.
    pub fn on_lan(settings: &Settings, known: &Whereabouts) -> Option<Self> {
        let mdns = &settings.discovery.mdns;
        if mdns.mode == MdnsMode::Off {
            return None;
        }
        let open: Vec<_> = known.listening.iter().filter(|address| can_be_on_lan(address.ip())).collect();
        let port = open.first()?.port();
        let host = host_label(mdns);
        let mut hints =
            Hints { lan_host: Some(format!("{host}.local")), ..hints(settings, known, port, &host) };
        if mdns.mode == MdnsMode::Minimal {
            hints.tailnet_dns = None;
        }
        let instance = instance(&host, port);
        Some(Self {
            instance,
            host,
            port,
            hints,
            listening: open.iter().map(|address| address.ip()).collect(),
        })
    }

    /// Whether the gateway answers on this address of the host, and a LAN can know it.
    pub fn covers(&self, ip: IpAddr) -> bool {
        can_be_on_lan(ip)
            && self.listening.iter().any(|listening| match listening {
                // A wildcard of IPv6 takes IPv4 as well, unless the system is told otherwise.
                IpAddr::V6(any) if any.is_unspecified() => true,
                IpAddr::V4(any) if any.is_unspecified() => ip.is_ipv4(),
                one => *one == ip,
            })
    }
}

/// What a DNS server tells of a gateway; the official one names the tailnet here in every mode.
pub fn wide_area_hints(settings: &Settings, known: &Whereabouts) -> Hints {
    let direct = !matches!(settings.gateway.bind, Bind::Loopback | Bind::Auto);
    Hints { direct, ..hints(settings, known, settings.gateway.port(), &host_label(&settings.discovery.mdns)) }
}

fn hints(settings: &Settings, known: &Whereabouts, port: u16, host: &str) -> Hints {
    let mdns = &settings.discovery.mdns;
    let full = mdns.mode == MdnsMode::Full;
    let own_path = || Some(std::env::current_exe().ok()?.to_str()?.to_owned());
    Hints {
        display_name: Some(name_of(host, port)),
        lan_host: None,
        gateway_port: Some(port),
        tls: settings.gateway.tls.enabled,
        tls_sha256: known.tls_sha256.clone(),
        direct: true,
        tailnet_dns: mdns.tailnet_dns.clone().map(without_dot),
        ssh_port: full.then(|| mdns.ssh_port.unwrap_or(SSH_PORT)),
        cli_path: if full { mdns.cli_path.clone().or_else(own_path) } else { None },
    }
}

/// Two gateways of one host differ in their ports, so with its port a gateway has the same name after every start.
pub fn name_of(host: &str, port: u16) -> String {
    if port == GatewaySettings::DEFAULT_PORT { host.to_owned() } else { format!("{host}:{port}") }
}

fn instance(host: &str, port: u16) -> String {
    let suffix = " (Tidegate)";
    let mut name = name_of(host, port);
    // A label of 63 and a port: the label gives way.
    if let Some(excess) = (name.len() + suffix.len()).checked_sub(LABEL).filter(|excess| *excess > 0) {
        name = name_of(&host[..host.len() - excess], port);
    }
    name + suffix
}

/// The host's name as a label of a DNS name.
pub fn host_label(mdns: &MdnsSettings) -> String {
    let name = mdns.hostname.clone().unwrap_or_else(shown_host_name);
    let label = name.trim().split('.').next().unwrap_or_default();
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '-';
    let good = !label.is_empty()
        && label.len() <= LABEL
        && label.chars().all(fits)
        && !label.starts_with('-')
        && !label.ends_with('-');
    if good { label.to_owned() } else { "tidegate".to_owned() }
}

fn without_dot(name: String) -> String {
    name.trim().trim_end_matches('.').to_owned()
}

fn can_be_on_lan(ip: IpAddr) -> bool {
    !ip.is_loopback() && !is_tailnet(ip)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn settings(discovery: Value) -> Settings {
        serde_json::from_value(json!({ "discovery": discovery })).unwrap()
    }

    fn at(addresses: &[&str]) -> Whereabouts {
        let listening = addresses.iter().map(|address| address.parse().unwrap()).collect();
        Whereabouts { listening, ..Whereabouts::default() }
    }

    fn keys(discovery: Value) -> Vec<&'static str> {
        let announcement = Announcement::on_lan(&settings(discovery), &at(&["0.0.0.0:18789"])).unwrap();
        announcement.hints.to_txt().into_iter().map(|(key, _)| key).collect()
    }

    #[test]
    fn only_full_mode_tells_paths_ports_and_the_tailnet() {
        let minimal =
            ["role", "transport", "displayName", "lanHost", "gatewayPort", "gatewayDirectReachable"];
        assert_eq!(keys(json!({})), minimal);
        assert_eq!(keys(json!({"mdns": {"mode": "minimal", "cliPath": "/x", "sshPort": 2222}})), minimal);
        let full = keys(json!({"mdns": {"mode": "full", "tailnetDns": "host.tail1.ts.net."}}));
        assert_eq!(full, [&minimal[..], &["tailnetDns", "sshPort", "cliPath"]].concat());
    }

    #[test]
    fn tls_is_told_with_the_fingerprint_that_is_known() {
        let settings: Settings =
            serde_json::from_value(json!({"gateway": {"tls": {"enabled": true}}})).unwrap();
        let known = Whereabouts { tls_sha256: Some("ab".repeat(32)), ..at(&["0.0.0.0:18789"]) };
        let hints = Announcement::on_lan(&settings, &known).unwrap().hints;
        assert!(hints.tls && hints.tls_sha256 == known.tls_sha256);
        assert!(wide_area_hints(&settings, &known).tls_sha256.is_some());
    }

    #[test]
    fn nothing_is_announced_where_no_lan_hears_it() {
        let silent = |discovery: Value, addresses: &[&str]| {
            Announcement::on_lan(&settings(discovery), &at(addresses)).is_none()
        };
        assert!(silent(json!({}), &[]));
        assert!(silent(json!({}), &["127.0.0.1:18789", "[::1]:18789"]));
        assert!(silent(json!({}), &["100.100.1.1:18789", "127.0.0.1:18789"]));
        assert!(silent(json!({"mdns": {"mode": "off"}}), &["0.0.0.0:18789"]));
        assert!(!silent(json!({}), &["192.168.1.5:18789", "127.0.0.1:18789"]));
    }

    #[test]
    fn only_addresses_that_are_listened_on_are_announced() {
        let covers = |listening: &[&str], ip: &str| {
            let announcement = Announcement::on_lan(&settings(json!({})), &at(listening)).unwrap();
            announcement.covers(ip.parse().unwrap())
        };
        assert!(covers(&["192.168.1.5:1", "127.0.0.1:1"], "192.168.1.5"));
        assert!(!covers(&["192.168.1.5:1", "127.0.0.1:1"], "192.168.1.6"));
        assert!(!covers(&["192.168.1.5:1", "127.0.0.1:1"], "127.0.0.1"));
        assert!(covers(&["0.0.0.0:1"], "10.0.0.1") && !covers(&["0.0.0.0:1"], "fd00::1"));
        assert!(covers(&["[::]:1"], "10.0.0.1") && covers(&["[::]:1"], "fd00::1"));
        assert!(!covers(&["0.0.0.0:1"], "127.0.0.1") && !covers(&["0.0.0.0:1"], "100.64.1.1"));
    }

    #[test]
    fn gateways_of_one_host_have_names_of_their_own() {
        assert_eq!(instance("attic", 18_789), "attic (Tidegate)");
        assert_eq!(instance("attic", 19_001), "attic:19001 (Tidegate)");
        assert!(instance(&"x".repeat(63), 19_001).len() <= LABEL);
        let host =
            |name: &str| host_label(&MdnsSettings { hostname: Some(name.to_owned()), ..Default::default() });
        assert_eq!(host("attic.example.net"), "attic");
        assert_eq!(host("my attic"), "tidegate");
        assert_eq!(host("-"), "tidegate");
    }
}
