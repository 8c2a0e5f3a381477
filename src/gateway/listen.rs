//! Where the gateway listens: from `gateway.bind` to bound sockets, all of them or none.

use super::{GatewayError, holder::Holder};
use crate::config::ConfigError;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use tidegate_actors::auth::is_tailnet;
use tidegate_actors::remote::interfaces;
use tidegate_actors::settings::{
    AuthMode, GatewaySettings,
    gateway::{Bind, custom_address},
};

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 1024;

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const LOOPBACK_6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);
const ALL: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
const ALL_6: IpAddr = IpAddr::V6(Ipv6Addr::UNSPECIFIED);

/// An address to listen on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Wanted {
    address: IpAddr,
    /// Left out on a host without this address; every other trouble with it ends the start.
    optional: bool,
}

fn must(address: IpAddr) -> Wanted {
    Wanted { address, optional: false }
}

fn if_there(address: IpAddr) -> Wanted {
    Wanted { address, optional: true }
}

/// Binds everything that this configuration listens on, before anything else starts.
///
/// # Errors
/// If one of the addresses can't be listened on: then none is.
pub(super) fn bind(gateway: &GatewaySettings) -> Result<Vec<TcpListener>, GatewayError> {
    let port = gateway.port();
    match gateway.bind {
        Bind::Loopback => bind_all(&loopback(), port),
        Bind::Lan => bind_all(&everywhere(), port),
        Bind::Custom => {
            bind_all(&custom(custom_address(gateway).ok_or_else(ConfigError::custom_host)?), port)
        }
        Bind::Tailnet => bind_all(&in_tailnet(tailnet_address()), port),
        Bind::Auto => match bind_all(&loopback(), port) {
            Err(GatewayError::NoSuchAddress { .. }) if gateway.auth.mode() == AuthMode::None => {
                Err(ConfigError::open(AuthMode::None).into())
            }
            Err(GatewayError::NoSuchAddress { .. }) => {
                tracing::warn!("this host has no loopback address: listening on all addresses");
                bind_all(&everywhere(), port)
            }
            bound => bound,
        },
    }
}

fn loopback() -> Vec<Wanted> {
    vec![must(LOOPBACK), if_there(LOOPBACK_6)]
}

fn everywhere() -> Vec<Wanted> {
    vec![must(ALL), if_there(ALL_6)]
}

/// Programs on this machine always find the gateway at 127.0.0.1.
fn custom(host: IpAddr) -> Vec<Wanted> {
    if host == LOOPBACK || host == ALL { vec![must(host)] } else { vec![must(host), must(LOOPBACK)] }
}

fn in_tailnet(address: Option<Ipv4Addr>) -> Vec<Wanted> {
    match address {
        Some(address) => vec![must(IpAddr::V4(address)), must(LOOPBACK)],
        None => {
            tracing::warn!(
                "gateway.bind is \"tailnet\" and this host has no Tailscale address: listening on loopback alone; \
                 restart the gateway once Tailscale is up"
            );
            loopback()
        }
    }
}

/// This host's Tailscale IPv4: an interface's address in 100.64.0.0/10.
fn tailnet_address() -> Option<Ipv4Addr> {
    let found = interfaces().into_iter().find_map(|interface| match interface.address {
        IpAddr::V4(address) => is_tailnet(address.into()).then_some(address),
        IpAddr::V6(_) => None,
    });
    if let Some(address) = found {
        tracing::info!(%address, "Tailscale address");
    }
    found
}

/// All of them, on one port, or none: whoever listens on a part would take clients that then fail.
fn bind_all(wanted: &[Wanted], port: u16) -> Result<Vec<TcpListener>, GatewayError> {
    let mut bound: Vec<TcpListener> = Vec::new();
    let mut port = port;
    for Wanted { address, optional } in wanted {
        let address = SocketAddr::new(*address, port);
        match listen(address) {
            Ok(listener) => {
                // Port 0 means any; the others then share the first one's.
                port = listener.local_addr()?.port();
                bound.push(listener);
            }
            Err(error) if *optional && is_absent(&error) => {
                tracing::debug!(%address, %error, "not on this host");
            }
            Err(error) => return Err(refused(address, &error)),
        }
    }
    Ok(bound)
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let domain = socket2::Domain::for_address(address);
    let socket = socket2::Socket::new(domain, socket2::Type::STREAM, Some(socket2::Protocol::TCP))?;
    // A restart must not wait for the last connections of the process before it to time out.
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        // IPv4 has a socket of its own: peers are seen under their own addresses.
        socket.set_only_v6(true)?;
    }
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// The host has no such address, or nothing of this family at all.
fn is_absent(error: &io::Error) -> bool {
    error.kind() == ErrorKind::AddrNotAvailable
        || matches!(error.raw_os_error(), Some(libc::EAFNOSUPPORT | libc::EPROTONOSUPPORT))
}

fn refused(address: SocketAddr, error: &io::Error) -> GatewayError {
    let reason = match error.kind() {
        ErrorKind::AddrInUse => format!(
            "address already in use by {}: stop it, or choose another port with --port",
            Holder::of_port(address.port())
        ),
        ErrorKind::PermissionDenied => "not permitted: choose a port above 1023 with --port".to_owned(),
        _ if is_absent(error) => {
            return GatewayError::NoSuchAddress { address };
        }
        _ => error.to_string(),
    };
    GatewayError::Bind { address, reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(listeners: &[TcpListener]) -> Vec<IpAddr> {
        listeners.iter().map(|listener| listener.local_addr().unwrap().ip()).collect()
    }

    #[test]
    fn programs_on_this_machine_find_the_gateway_whatever_else_it_listens_on() {
        let host = IpAddr::from([10, 0, 0, 5]);
        assert_eq!(custom(host), [must(host), must(LOOPBACK)]);
        assert_eq!(custom(LOOPBACK), [must(LOOPBACK)]);
        assert_eq!(custom(ALL), [must(ALL)]);
        let tailnet = Ipv4Addr::new(100, 100, 1, 2);
        assert_eq!(in_tailnet(Some(tailnet)), [must(tailnet.into()), must(LOOPBACK)]);
        assert_eq!(in_tailnet(None), loopback());
    }

    #[test]
    fn both_families_get_the_same_port() {
        let bound = bind_all(&loopback(), 0).unwrap();
        assert_eq!(addresses(&bound)[0], LOOPBACK);
        let ports: Vec<u16> = bound.iter().map(|listener| listener.local_addr().unwrap().port()).collect();
        assert!(ports.iter().all(|port| *port == ports[0] && *port != 0), "{ports:?}");
    }

    #[test]
    fn a_port_in_use_names_who_has_it_and_nothing_stays_bound() {
        let taken = listen(SocketAddr::new(LOOPBACK, 0)).unwrap();
        let port = taken.local_addr().unwrap().port();
        let other = IpAddr::from([127, 0, 0, 9]);
        let error = bind_all(&[must(other), must(LOOPBACK)], port).unwrap_err().to_string();
        assert!(error.contains(&format!("pid {}", std::process::id())), "{error}");
        drop(listen(SocketAddr::new(other, port)).unwrap());
    }

    #[test]
    fn an_address_that_the_host_lacks_is_refused_unless_it_is_optional() {
        let nowhere = IpAddr::from([192, 0, 2, 77]);
        let error = bind_all(&[must(nowhere)], 0).unwrap_err();
        assert!(matches!(error, GatewayError::NoSuchAddress { .. }), "{error}");
        assert!(bind_all(&[if_there(nowhere)], 0).unwrap().is_empty());
    }
}
