//! The zone that lists this machine's gateway, for CoreDNS or any other server that reads zone files (RFC 1035, 5).

use std::{fmt::Write, net::IpAddr};

use tidegate_protocol::discovery::{Hints, SERVICE};

use super::Domain;

/// What the zone says.
#[derive(Clone, Debug)]
pub struct Zone {
    pub domain: Domain,
    /// The host, and the name of its gateway in the list: a label.
    pub host: String,
    /// Where the host is, and the DNS server with it.
    pub addresses: Vec<IpAddr>,
    pub port: u16,
    pub hints: Hints,
}

impl Zone {
    /// The zone's text. A server takes a changed zone only with a greater `serial`.
    pub fn render(&self, serial: u32) -> String {
        let Self { domain, host, addresses, port, hints } = self;
        let mut zone = format!(
            "$ORIGIN {domain}.\n$TTL 60\n@ IN SOA ns1 hostmaster {serial} 7200 3600 1209600 60\n@ IN NS ns1\n"
        );
        // Writing to a text can't fail.
        for name in ["ns1", host] {
            for address in addresses {
                let kind = if address.is_ipv4() { "A" } else { "AAAA" };
                let _ = writeln!(zone, "{name} IN {kind} {address}");
            }
        }
        let txt: Vec<_> =
            hints.to_txt().iter().map(|(key, value)| quoted(&format!("{key}={value}"))).collect();
        let instance = format!("{host}-gateway");
        let _ = writeln!(zone, "{SERVICE} IN PTR {instance}.{SERVICE}");
        let _ = writeln!(zone, "{instance}.{SERVICE} IN SRV 0 0 {port} {host}");
        let _ = writeln!(zone, "{instance}.{SERVICE} IN TXT {}", txt.join(" "));
        zone
    }

    /// What the file should hold now, and whether that is news. `now` is in seconds and makes a serial that grows.
    pub fn next(&self, old: Option<&str>, now: u32) -> (String, bool) {
        let serial = old.and_then(serial_of);
        match (old, serial) {
            (Some(old), Some(serial)) if self.render(serial) == old => (old.to_owned(), false),
            (_, serial) => {
                let after = serial.map_or(0, |serial| serial.wrapping_add(1));
                // Serials go round (RFC 1982): `now` counts as greater when it is ahead by less than half the circle.
                let ahead = serial.is_none_or(|serial| (1..1 << 31).contains(&now.wrapping_sub(serial)));
                (self.render(if ahead { now } else { after }), true)
            }
        }
    }
}

fn serial_of(zone: &str) -> Option<u32> {
    let soa = zone.lines().find(|line| line.contains(" SOA "))?;
    soa.split_whitespace().skip_while(|word| *word != "SOA").nth(3)?.parse().ok()
}

/// A character string: what would end it, or can't be typed, as `\DDD`.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for byte in text.bytes() {
        match byte {
            b'"' | b'\\' => out.extend(['\\', char::from(byte)]),
            b' '..=b'~' => out.push(char::from(byte)),
            other => {
                let _ = write!(out, "\\{other:03}");
            }
        }
    }
    out + "\""
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zone() -> Zone {
        Zone {
            domain: "openclaw.internal".parse().unwrap(),
            host: "attic".to_owned(),
            addresses: vec!["100.64.0.7".parse().unwrap(), "fd7a:115c:a1e0::7".parse().unwrap()],
            port: 18_789,
            hints: Hints { display_name: Some("At\"tic \\ ü\n".to_owned()), ..Hints::default() },
        }
    }

    #[test]
    fn a_zone_has_the_records_of_the_service() {
        let text = zone().render(7);
        for line in [
            "$ORIGIN openclaw.internal.",
            "@ IN SOA ns1 hostmaster 7 7200 3600 1209600 60",
            "ns1 IN A 100.64.0.7",
            "attic IN AAAA fd7a:115c:a1e0::7",
            "_openclaw-gw._tcp IN PTR attic-gateway._openclaw-gw._tcp",
            "attic-gateway._openclaw-gw._tcp IN SRV 0 0 18789 attic",
            "attic-gateway._openclaw-gw._tcp IN TXT \"role=gateway\" \"transport=gateway\" \
             \"displayName=At\\\"tic \\\\ \\195\\188\\010\"",
        ] {
            assert!(text.lines().any(|have| have == line), "{line} is not in\n{text}");
        }
    }

    #[test]
    fn a_serial_grows_with_every_change_and_only_then() {
        let (first, news) = zone().next(None, 1_000);
        assert!(news && serial_of(&first) == Some(1_000));
        assert_eq!(zone().next(Some(&first), 2_000), (first.clone(), false));
        let moved = Zone { port: 1, ..zone() };
        assert_eq!(serial_of(&moved.next(Some(&first), 2_000).0), Some(2_000));
        // Changed twice within a second, or written by a tool that counts otherwise.
        assert_eq!(serial_of(&moved.next(Some(&first), 1_000).0), Some(1_001));
        assert_eq!(serial_of(&moved.next(Some("garbage"), 5).0), Some(5));
    }
}
