//! Which certificate of a gateway a node host accepts where its options don't say.

use super::NodeRun;
use crate::{
    client::{Endpoint, Pin},
    config::{self, Environment, Flags, Place},
    gateway::own_port,
    tls::TlsFiles,
};

/// What the configuration of this machine knows about a gateway.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Trust {
    /// What the options say, or the authorities of this machine.
    Options,
    /// `gateway.remote.tlsFingerprint`.
    Remote(Pin),
    /// The gateway of this machine, whose certificate can be read, and may be another at the next attempt.
    Local(TlsFiles),
}

impl Trust {
    pub(super) fn find(args: &NodeRun, endpoint: &Endpoint, place: &Place, env: &Environment) -> Self {
        if args.no_tls || endpoint.pin.is_some() {
            return Self::Options;
        }
        let Ok(loaded) = config::load(place, env, &Flags::default()) else { return Self::Options };
        let gateway = &loaded.settings.gateway;
        let remote = gateway.remote.url.as_deref().and_then(|url| Endpoint::parse(url).ok());
        let pin = gateway.remote.tls_fingerprint.as_deref().and_then(Pin::parse);
        if let (Some(remote), Some(pin)) = (remote, pin)
            && remote.tls
            && remote.authority() == endpoint.authority()
        {
            return Self::Remote(pin);
        }
        let home = own_port(gateway.port(), place.state.root());
        if gateway.tls.enabled && endpoint.is_loopback() && endpoint.port == home {
            return Self::Local(TlsFiles::of(&gateway.tls, &place.state));
        }
        Self::Options
    }

    /// The endpoint as the next attempt should use it.
    pub(super) fn apply(&self, endpoint: &mut Endpoint) {
        match self {
            Self::Options => {}
            Self::Remote(pin) => (endpoint.tls, endpoint.pin) = (true, Some(*pin)),
            Self::Local(files) => (endpoint.tls, endpoint.pin) = (true, files.pin().ok()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::PlaceFlags;

    fn found(config: &str, args: NodeRun) -> Endpoint {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("tidegate.json"), config).unwrap();
        let flags = PlaceFlags { state_dir: Some(folder.path().display().to_string()), ..Default::default() };
        let env = Environment::default();
        let place = Place::find(&flags, &env).unwrap();
        let mut endpoint = args.endpoint(&env, None, crate::client::DEFAULT_PORT).unwrap();
        Trust::find(&args, &endpoint, &place, &env).apply(&mut endpoint);
        endpoint
    }

    fn args(host: &str, port: u16) -> NodeRun {
        NodeRun { host: Some(host.into()), port: Some(port), ..NodeRun::default() }
    }

    #[test]
    fn the_gateway_of_this_machine_is_met_as_its_configuration_says() {
        let config = "{gateway: {tls: {enabled: true}}}";
        assert!(found(config, args("127.0.0.1", 18_789)).tls);
        assert!(!found(config, args("127.0.0.1", 4000)).tls, "a tunnel to another gateway");
        assert!(!found(config, args("10.0.0.1", 18_789)).tls);
        assert!(!found(config, NodeRun { no_tls: true, ..args("127.0.0.1", 18_789) }).tls);
        assert!(!found("{}", args("127.0.0.1", 18_789)).tls);
    }

    #[test]
    fn the_remote_gateways_fingerprint_is_for_that_gateway_alone() {
        let pin = "ab".repeat(32);
        let config = format!("{{gateway: {{remote: {{url: 'wss://g.example', tlsFingerprint: '{pin}'}}}}}}");
        assert_eq!(found(&config, args("g.example", 443)).pin, Pin::parse(&pin));
        assert_eq!(found(&config, args("g.example", 444)).pin, None);
        let own = NodeRun { tls_fingerprint: Some("cd".repeat(32)), ..args("g.example", 443) };
        assert_eq!(found(&config, own).pin, Pin::parse(&"cd".repeat(32)));
    }
}
