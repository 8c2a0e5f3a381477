//! Where the gateway is to be found: told by those who know, watched by those who tell others.

use std::net::{IpAddr, SocketAddr};

/// What is known at the moment; each part is set by the one that knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Whereabouts {
    /// The listeners, once they are open.
    pub listening: Vec<SocketAddr>,
    /// SHA-256, 64 hex digits, of the certificate that they show.
    pub tls_sha256: Option<String>,
}

/// Whether an address is one that Tailscale gives out (100.64.0.0/10, fd7a:115c:a1e0::/48).
pub fn is_tailnet(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.octets()[0] == 100 && (64..128).contains(&ip.octets()[1]),
        IpAddr::V6(ip) => ip.segments()[..3] == [0xfd7a, 0x115c, 0xa1e0],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tailnet_address_is_told_from_others() {
        let tailnet = |ip: &str| is_tailnet(ip.parse().unwrap());
        assert!(tailnet("100.64.0.1") && tailnet("100.127.255.254") && tailnet("fd7a:115c:a1e0::5"));
        assert!(!tailnet("100.63.0.1") && !tailnet("100.128.0.1") && !tailnet("fd7a:115c:a1e1::5"));
    }
}
