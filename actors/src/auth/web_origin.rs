//! Hosts and origins as browsers write them, read strictly.

use std::net::IpAddr;

/// Host part of a `Host` header or an origin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Host {
    Address(IpAddr),
    /// Lower case.
    Name(String),
}

/// A page's origin: scheme, host and port, with the scheme's default port filled in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebOrigin {
    pub scheme: String,
    pub host: Host,
    pub port: Option<u16>,
}

impl Host {
    /// Splits `host[:port]`. `None` unless it is a plain name or address with an optional port.
    pub fn parse(text: &str) -> Option<(Self, Option<u16>)> {
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (inside, after) = rest.split_once(']')?;
                let address: std::net::Ipv6Addr = inside.parse().ok()?;
                let port = if after.is_empty() { None } else { Some(after.strip_prefix(':')?) };
                (Self::Address(IpAddr::V6(address).to_canonical()), port)
            }
            None => match text.split_once(':') {
                Some((host, port)) => (Self::name(host)?, Some(port)),
                None => (Self::name(text)?, None),
            },
        };
        let port = match port {
            Some(port) => Some(Self::port(port)?),
            None => None,
        };
        Some((host, port))
    }

    /// A port as browsers write it: no sign, no leading zero.
    fn port(text: &str) -> Option<u16> {
        let plain = text.bytes().all(|byte| byte.is_ascii_digit()) && !text.starts_with('0');
        plain.then(|| text.parse().ok()).flatten()
    }

    fn name(text: &str) -> Option<Self> {
        if let Ok(address) = text.parse::<std::net::Ipv4Addr>() {
            return Some(Self::Address(IpAddr::V4(address)));
        }
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
        (!text.is_empty() && text.bytes().all(plain)).then(|| Self::Name(text.to_ascii_lowercase()))
    }

    /// A loopback literal or `localhost`, spelled exactly so.
    pub fn is_loopback(&self) -> bool {
        match self {
            Self::Address(address) => address.to_canonical().is_loopback(),
            Self::Name(name) => name == "localhost",
        }
    }
}

impl WebOrigin {
    pub fn parse(text: &str) -> Option<Self> {
        let (scheme, rest) = text.split_once("://")?;
        let scheme = scheme.to_ascii_lowercase();
        if scheme.is_empty() || !scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b)) {
            return None;
        }
        let (host, port) = Host::parse(rest)?;
        let default = match scheme.as_str() {
            "http" => Some(80),
            "https" => Some(443),
            _ => None,
        };
        Some(Self { scheme, host, port: port.or(default) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_read_strictly() {
        let loopback = |text: &str| Host::parse(text).is_some_and(|(host, _)| host.is_loopback());
        for ours in
            ["localhost", "LOCALHOST:18789", "127.0.0.1", "127.9.9.9:1", "[::1]:18789", "[::ffff:127.0.0.1]"]
        {
            assert!(loopback(ours), "{ours}");
        }
        for other in [
            "",
            "localhost.evil.example",
            "evil.localhost",
            "localhost.",
            "127.1",
            "2130706433",
            "0x7f.1",
            "::1",
            "[::1",
            "[::1]x",
            "127.0.0.1:",
            "127.0.0.1:+1",
            "127.0.0.1:018789",
            "[::1]:00000000018789",
            "127.0.0.1:99999",
            "user@localhost",
            "localhost:1:2",
            "0.0.0.0",
            "192.168.0.1",
            "[::]",
            "my pc",
        ] {
            assert!(!loopback(other), "{other}");
        }
    }
}
