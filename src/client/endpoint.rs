//! Where a gateway is.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
};

use tidegate_actors::auth::is_private;

use super::{ClientError, Pin};

/// The port a gateway listens on unless told otherwise.
pub const DEFAULT_PORT: u16 = 18789;

/// Address of a gateway: `ws://` or `wss://`, host, port and path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    pub host: String,
    pub port: u16,
    /// Starts with `/`.
    pub path: String,
    pub tls: bool,
    /// Which certificate to accept; only meaningful with `tls`.
    pub pin: Option<Pin>,
    /// Dialled through a tunnel; everything else stays as it is at the tunnel's far end.
    pub via: Option<Via>,
}

/// The near end of a tunnel.
///
/// The address stays the gateway's own, in `Host` and in what is shown and remembered; only the dialling goes elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Via {
    /// Whom the tunnel leads to. Two gateways that are both `127.0.0.1` at home differ by it.
    pub host: String,
    /// Where it starts on this machine.
    pub port: u16,
}

impl Endpoint {
    /// A gateway without TLS at `host` and `port`.
    pub fn plain(host: impl Into<String>, port: u16) -> Self {
        Self { host: host.into(), port, path: "/".to_owned(), tls: false, pin: None, via: None }
    }

    /// A gateway without TLS at this very address.
    pub fn at(address: SocketAddr) -> Self {
        Self::plain(address.ip().to_string(), address.port())
    }

    /// The same with TLS, and with the certificate to accept where it is known.
    pub fn secured(self, pin: Option<Pin>) -> Self {
        Self { tls: true, pin, ..self }
    }

    /// Reads `ws://`, `wss://`, `http://` or `https://` addresses.
    pub fn parse(url: &str) -> Result<Self, ClientError> {
        let bad =
            |problem: &str| ClientError::BadAddress { url: url.to_owned(), problem: problem.to_owned() };
        let (scheme, rest) = url.trim().split_once("://").ok_or_else(|| bad("it has no ws:// or wss://"))?;
        let tls = match scheme.to_ascii_lowercase().as_str() {
            "ws" | "http" => false,
            "wss" | "https" => true,
            _ => return Err(bad("only ws:// and wss:// are known")),
        };
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        if authority.contains('@') {
            return Err(bad("credentials do not belong into the address"));
        }
        let (host, port) = split_port(authority).ok_or_else(|| bad("the port is not a number"))?;
        if host.is_empty() || host.contains(|c: char| c.is_control() || c.is_whitespace()) {
            return Err(bad("it has no host"));
        }
        let path = path.split('#').next().unwrap_or_default();
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        let port = port.unwrap_or(if tls { 443 } else { DEFAULT_PORT });
        Ok(Self { host: host.to_owned(), port, path, tls, pin: None, via: None })
    }

    /// Whether the host is this machine by its very spelling.
    pub fn is_loopback(&self) -> bool {
        self.via.is_none() && self.names_loopback()
    }

    /// Host and port to open a socket to.
    pub(super) fn dialled(&self) -> (&str, u16) {
        self.via.as_ref().map_or((self.host.as_str(), self.port), |via| ("127.0.0.1", via.port))
    }

    fn names_loopback(&self) -> bool {
        self.host.eq_ignore_ascii_case("localhost") || self.ip().is_some_and(|ip| ip.is_loopback())
    }

    /// Host and port as they stand in an address.
    pub fn authority(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    /// Refuses to carry secrets in the clear beyond this machine, private networks named by number, and names that
    /// only exist in such a network: the official clients' rule.
    pub(crate) fn check_plaintext(&self) -> Result<(), ClientError> {
        let allowed = ["TIDEGATE_ALLOW_INSECURE_PRIVATE_WS", "OPENCLAW_ALLOW_INSECURE_PRIVATE_WS"]
            .iter()
            .any(|name| std::env::var(name).is_ok_and(|value| value == "1"));
        let private =
            self.names_loopback() || self.ip().map_or_else(|| is_private_name(&self.host), is_private);
        if self.tls || allowed || private {
            return Ok(());
        }
        Err(ClientError::Plaintext { host: self.host.clone() })
    }

    fn ip(&self) -> Option<IpAddr> {
        self.host.parse().ok()
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "wss" } else { "ws" };
        write!(out, "{scheme}://{}{}", self.authority(), if self.path == "/" { "" } else { &self.path })?;
        self.via.as_ref().map_or(Ok(()), |via| write!(out, " through SSH to {}", via.host))
    }
}

fn split_port(authority: &str) -> Option<(&str, Option<u16>)> {
    if let Some(rest) = authority.strip_prefix('[') {
        let (host, rest) = rest.split_once(']')?;
        return match rest.strip_prefix(':') {
            Some(port) => Some((host, Some(port.parse().ok()?))),
            None if rest.is_empty() => Some((host, None)),
            None => None,
        };
    }
    match authority.split_once(':') {
        Some((host, port)) => Some((host, Some(port.parse().ok()?))),
        None => Some((authority, None)),
    }
}

/// Multicast DNS and MagicDNS: names that the public DNS never has.
fn is_private_name(host: &str) -> bool {
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    [".local", ".ts.net"].iter().any(|zone| host.strip_suffix(zone).is_some_and(|name| !name.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_written() {
        for (url, shown) in [
            ("ws://127.0.0.1:18802", "ws://127.0.0.1:18802"),
            ("http://localhost", "ws://localhost:18789"),
            ("wss://gateway.example/base", "wss://gateway.example:443/base"),
            ("ws://[::1]:9/", "ws://[::1]:9"),
            ("ws://host:1/#token=x", "ws://host:1"),
        ] {
            assert_eq!(Endpoint::parse(url).unwrap().to_string(), shown, "{url}");
        }
        for url in ["127.0.0.1:1", "ftp://x", "ws://", "ws://h:port", "ws://user:pass@h", "ws://a b"] {
            assert!(Endpoint::parse(url).is_err(), "{url}");
        }
    }

    #[test]
    fn a_gateway_behind_a_tunnel_keeps_its_address_and_is_not_this_machine() {
        let via = Some(Via { host: "ann@box".to_owned(), port: 40_001 });
        let endpoint = Endpoint { via, ..Endpoint::plain("127.0.0.1", 18_789) };
        assert_eq!(endpoint.to_string(), "ws://127.0.0.1:18789 through SSH to ann@box");
        assert_eq!(
            (endpoint.authority().as_str(), endpoint.dialled()),
            ("127.0.0.1:18789", ("127.0.0.1", 40_001))
        );
        assert!(!endpoint.is_loopback() && endpoint.check_plaintext().is_ok());
    }

    #[test]
    fn secrets_stay_on_this_machine_and_in_private_networks() {
        for host in [
            "127.0.0.1",
            "localhost",
            "::1",
            "192.168.1.5",
            "10.0.0.1",
            "172.16.0.1",
            "169.254.1.1",
            "100.100.1.1",
            "fd00::1",
            "fe80::1",
            "home-pc.local",
            "box.tail1234.ts.net",
            "Box.Local.",
        ] {
            assert!(Endpoint::plain(host, 1).check_plaintext().is_ok(), "{host}");
        }
        for host in [
            "8.8.8.8",
            "gateway.example",
            "100.1.1.1",
            "172.32.0.1",
            "2001:db8::1",
            "0.0.0.0",
            ".local",
            "local",
            "x.local.example",
            "evil-ts.net",
            "127.0.0.1.example",
        ] {
            assert!(Endpoint::plain(host, 1).check_plaintext().is_err(), "{host}");
        }
    }
}
