//! What must not start: a gateway that would be open, or that would ignore a setting
//! on which somebody's safety rests. Each refusal is one line that says what to set.

use std::net::IpAddr;

use tidegate_actors::settings::{
    AuthMode, GatewaySettings, Secret, Settings,
    gateway::{Bind, GatewayMode, TailscaleMode, custom_address},
};

use super::{ConfigError, strays};

/// Keys that restrict somebody and that this version doesn't act on.
const NOT_ENFORCED: [&str; 2] = ["gateway.roles", "gateway.auth.trustedProxy.deviceAutoApprove"];

/// Checks everything that doesn't depend on where the gateway listens, then that.
/// `unknown` are the keys in use that no setting reads.
pub(super) fn check(settings: &Settings, unknown: &[String]) -> Result<(), ConfigError> {
    let gateway = &settings.gateway;
    if gateway.mode == Some(GatewayMode::Remote) {
        return refuse("gateway.mode is \"remote\": set it to \"local\" to run a gateway on this machine");
    }
    if let Some(key) = NOT_ENFORCED.iter().find(|key| unknown.iter().any(|have| have == *key)) {
        return refuse(format!("{key} is not supported by this version: remove it"));
    }
    if let Some(why) = strays::dangerous(unknown) {
        return refuse(why);
    }
    served(gateway)?;
    real_secret(gateway.auth.token.as_ref(), "gateway.auth.token", "OPENCLAW_GATEWAY_TOKEN")?;
    real_secret(gateway.auth.password.as_ref(), "gateway.auth.password", "OPENCLAW_GATEWAY_PASSWORD")?;
    auth(gateway)?;
    listening(gateway)?;
    addresses("gateway.trustedProxies", &gateway.trusted_proxies)?;
    origins(gateway)?;
    let pairing = &gateway.nodes.pairing;
    addresses("gateway.nodes.pairing.autoApproveCidrs", &pairing.auto_approve_cidrs)?;
    addresses("gateway.nodes.pairing.sshVerify.cidrs", &pairing.ssh_verify.cidrs)
}

/// Whether the gateway makes its own token: only where nobody else can reach it.
pub(super) fn wants_own_token(gateway: &GatewaySettings) -> bool {
    gateway.auth.mode() == AuthMode::Token && gateway.auth.token.is_none()
}

fn served(gateway: &GatewaySettings) -> Result<(), ConfigError> {
    match gateway.tailscale.mode {
        TailscaleMode::Off => {}
        TailscaleMode::Funnel | TailscaleMode::Serve if gateway.auth.mode() == AuthMode::None => {
            return refuse(
                "gateway.auth.mode \"none\" can't be used with gateway.tailscale.mode: set a token or a password, or \
                 set gateway.tailscale.mode to \"off\"",
            );
        }
        TailscaleMode::Funnel if gateway.auth.mode() != AuthMode::Password => {
            return refuse(
                "tailscale funnel requires gateway.auth.mode \"password\": set gateway.auth.password or \
                 OPENCLAW_GATEWAY_PASSWORD",
            );
        }
        TailscaleMode::Funnel | TailscaleMode::Serve => {
            // Tailscale brings its own listener; a second way in from outside would go around it.
            if gateway.bind.may_be_reached(custom_address(gateway)) {
                return refuse(
                    "gateway.tailscale.mode needs gateway.bind \"loopback\": set that, or set gateway.tailscale.mode \
                     to \"off\"",
                );
            }
        }
    }
    Ok(())
}

fn real_secret(secret: Option<&Secret>, key: &str, variable: &str) -> Result<(), ConfigError> {
    let Some(secret) = secret else { return Ok(()) };
    if secret.is_placeholder() {
        return refuse(format!("{key} holds no real secret: set {key} or {variable} to a long random text"));
    }
    Ok(())
}

fn auth(gateway: &GatewaySettings) -> Result<(), ConfigError> {
    let auth = &gateway.auth;
    if auth.mode.is_none() && auth.token.is_some() && auth.password.is_some() {
        return refuse(
            "both a token and a password are set: set gateway.auth.mode to \"token\" or \"password\"",
        );
    }
    match auth.mode() {
        AuthMode::Password if auth.password.is_none() => {
            refuse("Set gateway.auth.password (or OPENCLAW_GATEWAY_PASSWORD), or pass --password.")
        }
        AuthMode::TrustedProxy => trusted_proxy(gateway),
        _ => Ok(()),
    }
}

fn trusted_proxy(gateway: &GatewaySettings) -> Result<(), ConfigError> {
    let proxy = gateway.auth.trusted_proxy.as_ref();
    if proxy.is_none_or(|proxy| proxy.user_header.trim().is_empty()) {
        return refuse(
            "gateway.auth.trustedProxy.userHeader must name the header in which the proxy names the user",
        );
    }
    if gateway.auth.token.is_some() {
        return refuse("gateway.auth.mode \"trusted-proxy\" excludes a token: remove gateway.auth.token");
    }
    if gateway.trusted_proxies.is_empty() {
        return refuse(
            "gateway.auth.mode \"trusted-proxy\" needs the proxy's address in gateway.trustedProxies",
        );
    }
    Ok(())
}

/// With a wildcard every page on the web would be one that the owner listed.
fn origins(gateway: &GatewaySettings) -> Result<(), ConfigError> {
    if gateway.control_ui.allowed_origins.iter().any(|origin| origin.contains('*')) {
        return refuse(
            "gateway.controlUi.allowedOrigins must not hold a wildcard: list each origin, as https://control.example",
        );
    }
    Ok(())
}

fn listening(gateway: &GatewaySettings) -> Result<(), ConfigError> {
    let custom = custom_address(gateway);
    if gateway.bind == Bind::Custom && custom.is_none() {
        return Err(ConfigError::custom_host());
    }
    let secret = match gateway.auth.mode() {
        AuthMode::None => false,
        AuthMode::Token => gateway.auth.token.is_some(),
        AuthMode::Password | AuthMode::TrustedProxy => true,
    };
    if gateway.bind.may_be_reached(custom) && !secret {
        return Err(ConfigError::open(gateway.auth.mode()));
    }
    Ok(())
}

/// Addresses or CIDR ranges, each readable.
fn addresses(key: &str, entries: &[String]) -> Result<(), ConfigError> {
    for entry in entries {
        let (address, bits) = match entry.trim().split_once('/') {
            Some((address, bits)) => (address, bits.parse::<u8>().ok()),
            None => (entry.trim(), Some(0)),
        };
        let fits = address
            .parse::<IpAddr>()
            .ok()
            .zip(bits)
            .is_some_and(|(address, bits)| bits <= if address.is_ipv4() { 32 } else { 128 });
        if !fits {
            return refuse(format!("{key}: `{entry}` is neither an address nor a range such as 10.0.0.0/8"));
        }
        if entry.contains('/') && bits == Some(0) {
            return refuse(format!(
                "{key} must not hold every address as `{entry}` does: list those that are meant"
            ));
        }
    }
    Ok(())
}

fn refuse(why: impl Into<String>) -> Result<(), ConfigError> {
    Err(ConfigError::refused(why))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::config::decode::decode;

    fn refusal(gateway: Value) -> Option<String> {
        let (settings, unknown) = decode(&json!({ "gateway": gateway })).unwrap();
        check(&settings, &unknown).err().map(|error| error.to_string())
    }

    #[test]
    fn what_would_be_open_does_not_start() {
        let refused = [
            (json!({"bind": "lan"}), "Set OPENCLAW_GATEWAY_TOKEN or OPENCLAW_GATEWAY_PASSWORD"),
            (
                json!({"bind": "lan", "auth": {"mode": "none"}}),
                "set gateway.auth.mode to \"token\" or \"password\"",
            ),
            (json!({"bind": "custom", "customBindHost": "10.0.0.1"}), "OPENCLAW_GATEWAY_TOKEN"),
            (json!({"bind": "tailnet"}), "OPENCLAW_GATEWAY_TOKEN"),
            (json!({"bind": "custom"}), "customBindHost"),
            (json!({"bind": "custom", "customBindHost": "my-pc"}), "customBindHost"),
            (json!({"auth": {"token": ""}}), "no real secret"),
            (json!({"auth": {"token": "  "}}), "no real secret"),
            (json!({"auth": {"token": "undefined"}}), "no real secret"),
            (json!({"auth": {"token": "null"}}), "no real secret"),
            (json!({"auth": {"token": "your-token"}}), "no real secret"),
            (json!({"auth": {"mode": "password"}}), "gateway.auth.password"),
            (json!({"auth": {"mode": "password", "password": " "}}), "no real secret"),
            (json!({"auth": {"token": "long-enough", "password": "long-enough"}}), "gateway.auth.mode"),
            (json!({"auth": {"mode": "trusted-proxy"}}), "userHeader"),
            (
                json!({"trustedProxies": ["10.0.0.1"],
                    "auth": {"mode": "trusted-proxy", "token": "x-y-z", "trustedProxy": {"userHeader": "u"}}}),
                "remove gateway.auth.token",
            ),
            (
                json!({"auth": {"mode": "trusted-proxy", "trustedProxy": {"userHeader": "u"}}}),
                "trustedProxies",
            ),
            (json!({"tailscale": {"mode": "funnel"}, "auth": {"token": "some-token"}}), "requires"),
            (json!({"tailscale": {"mode": "funnel"}, "auth": {"mode": "none"}}), "none"),
            (json!({"tailscale": {"mode": "serve"}, "auth": {"mode": "none"}}), "none"),
            (
                json!({"tailscale": {"mode": "serve"}, "bind": "lan", "auth": {"token": "some-token"}}),
                "gateway.bind \"loopback\"",
            ),
            (json!({"mode": "remote"}), "local"),
            (json!({"roles": {"default": "guest"}}), "gateway.roles"),
            (json!({"trustedProxies": ["10.0.0.0/33"]}), "neither an address"),
            (json!({"trustedProxies": ["0.0.0.0/0"]}), "every address"),
            (json!({"trustedProxies": ["10.0.0.1", " ::/00 "]}), "every address"),
            (json!({"auth": {"token": "${TOKEN}"}}), "no real secret"),
            (json!({"auth": {"token": "your-token-here"}}), "no real secret"),
            (json!({"auth": {"mode": "password", "password": "secret"}}), "no real secret"),
            (json!({"auth": {"tokn": "a-real-token"}}), "did you mean gateway.auth.token?"),
            (json!({"authh": {"token": "a-real-token"}}), "did you mean gateway.auth?"),
            (
                json!({"auth": {"trustedProxy": {"userHeader": "u", "allowUser": ["me"]}}}),
                "did you mean gateway.auth.trustedProxy.allowUsers?",
            ),
            (
                json!({"auth": {"trustedProxy": {"userHeader": "u", "deviceAutoApprove": {"enabled": true}}}}),
                "deviceAutoApprove is not supported",
            ),
            (json!({"controlUi": {"allowedOrigins": ["*"]}}), "allowedOrigins"),
            (json!({"controlUi": {"allowedOrigins": ["https://*.example"]}}), "allowedOrigins"),
        ];
        for (gateway, expected) in refused {
            let why = refusal(gateway.clone()).unwrap_or_else(|| panic!("started: {gateway}"));
            assert!(why.contains(expected), "{gateway}: {why}");
            assert!(!why.contains('\n'));
        }
    }

    #[test]
    fn what_is_closed_starts() {
        let started = [
            json!({}),
            json!({"auth": {"mode": "none"}}),
            json!({"bind": "lan", "auth": {"token": "some-long-token"}}),
            json!({"bind": "tailnet", "auth": {"token": "some-long-token"}}),
            json!({"bind": "auto", "auth": {"mode": "none"}}),
            json!({"bind": "custom", "customBindHost": "127.0.0.2", "auth": {"mode": "none"}}),
            json!({"bind": "lan", "auth": {"password": "some-long-password"}}),
            json!({"tailscale": {"mode": "serve"}}),
            json!({"tailscale": {"mode": "funnel"}, "auth": {"password": "some-long-password"}}),
            json!({"auth": {"trustedProxy": {"userHeader": "u", "cloudflareAccessOidc": {"issuer": "i"}}}}),
            json!({"controlUi": {"allowedOrigins": ["https://gw.example"]}, "http": {"endpoints": {}}}),
            json!({"trustedProxies": ["10.0.0.1", "fd00::/8"],
                "auth": {"mode": "trusted-proxy", "trustedProxy": {"userHeader": "x-user"}}}),
        ];
        for gateway in started {
            assert_eq!(refusal(gateway.clone()), None, "{gateway}");
        }
    }
}
