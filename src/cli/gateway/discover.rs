//! `tidegate gateway discover`: what is announced around here, and how to go on from there.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use clap::Args as ClapArgs;
use serde_json::{Value, json};
use tidegate_protocol::discovery::Hints;

use crate::{
    cli::{Context, Failure, dns::domain, out},
    client::Pin,
    discovery::{Findings, Found, Search, search},
};

/// As long as the official command listens.
const USUAL: Duration = Duration::from_secs(2);

const DNS_PORT: u16 = 53;

#[derive(ClapArgs, Debug)]
pub(super) struct Args {
    /// Look in this domain as well [default: discovery.wideArea.domain]
    #[arg(long, value_name = "DOMAIN")]
    domain: Option<String>,
    /// Ask this DNS server about the domain instead of the system's: ADDRESS or ADDRESS:PORT
    #[arg(long, value_name = "ADDRESS", value_parser = nameserver)]
    nameserver: Option<SocketAddr>,
}

fn nameserver(text: &str) -> Result<SocketAddr, String> {
    let with_port = text.parse().or_else(|_| text.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, DNS_PORT)));
    with_port.map_err(|_| "write it as 100.64.0.7 or 100.64.0.7:5353".to_owned())
}

pub(super) async fn run(context: &Context, args: Args) -> Result<(), Failure> {
    let domain = domain(context, args.domain.as_deref())?;
    let search_for = Search { domain, nameserver: args.nameserver, time: context.timeout(USUAL) };
    let findings = search(&search_for).await;
    if context.globals.json {
        out::json(&answer(&search_for, &findings));
        return Ok(());
    }
    for problem in &findings.problems {
        out::note(format!("warning: {problem}"));
    }
    print(&search_for, &findings.gateways);
    Ok(())
}

fn domains(search: &Search) -> Vec<String> {
    let wide = search.domain.iter().map(|domain| format!("{domain}."));
    std::iter::once("local.".to_owned()).chain(wide).collect()
}

/// The outer shape is the official command's. What is only hearsay stands under `hints`.
fn answer(search: &Search, findings: &Findings) -> Value {
    let beacons: Vec<Value> = findings.gateways.iter().map(beacon).collect();
    json!({
        "timeoutMs": search.time.as_millis() as u64,
        "domains": domains(search),
        "count": beacons.len(),
        "beacons": beacons,
        "problems": findings.problems,
    })
}

fn beacon(found: &Found) -> Value {
    let Hints {
        display_name: _,
        lan_host,
        gateway_port,
        tls,
        tls_sha256,
        direct,
        tailnet_dns,
        ssh_port,
        cli_path,
    } = &found.hints;
    json!({
        "instanceName": found.instance,
        "displayName": found.name(),
        "domain": found.domain,
        "host": found.host,
        "port": found.port,
        "addresses": found.addresses,
        "wsUrl": found.endpoint().map(|endpoint| endpoint.to_string()),
        "hints": {
            "verified": false,
            "lanHost": lan_host,
            "gatewayPort": gateway_port,
            "gatewayTls": tls,
            "gatewayTlsSha256": tls_sha256,
            "gatewayDirectReachable": direct,
            "tailnetDns": tailnet_dns,
            "sshPort": ssh_port,
            "cliPath": cli_path,
        },
    })
}

fn print(search: &Search, gateways: &[Found]) {
    let domains = domains(search).join(", ");
    if gateways.is_empty() {
        out::line(format!("No gateway was announced in {domains}"));
        out::line("");
        out::line("A gateway announces itself when it listens on its network (gateway.bind \"lan\") and");
        out::line(
            "discovery.mdns.mode is not \"off\". Multicast stays in one network: through a VPN, a guest",
        );
        out::line(
            "Wi-Fi or a router use its address (--url), an SSH tunnel, or a domain (`tidegate dns setup`).",
        );
        return;
    }
    out::line(format!("{} announced in {domains}", out::count(gateways.len(), "gateway")));
    for found in gateways {
        out::line("");
        out::line(found.name());
        facts(found).print();
    }
    out::line("");
    out::line(
        "None of this is verified: anyone on a network can announce anything. Go on only with a gateway that",
    );
    out::line(
        "you know, and compare the fingerprint with the one that `tidegate gateway status` shows on its host.",
    );
}

fn facts(found: &Found) -> out::Facts {
    let mut facts = out::Facts::default();
    let addresses: Vec<String> = found.addresses.iter().map(ToString::to_string).collect();
    let none = "none that can be used from here".to_owned();
    facts.add("  address", if addresses.is_empty() { none } else { addresses.join(", ") });
    facts.add("  port", found.port.to_string());
    facts.add("  host", found.host.as_str());
    facts.add("  domain", found.domain.as_str());
    facts.add("  TLS", if found.hints.tls { "announced" } else { "not announced" });
    if let Some(fingerprint) = &found.hints.tls_sha256 {
        let text = match Pin::parse(fingerprint) {
            Some(_) => format!("{fingerprint} (announced, not verified)"),
            None => "announced, but not a SHA-256".to_owned(),
        };
        facts.add("  fingerprint", text);
    }
    if let Some(name) = &found.hints.tailnet_dns {
        facts.add("  tailnet", format!("{name} (announced, not verified)"));
    }
    facts.add("  next", next(found));
    facts
}

/// The command that comes next; the secret and the pin in it are for the user to bring.
fn next(found: &Found) -> String {
    match found.endpoint() {
        Some(endpoint) if endpoint.tls => {
            format!("tidegate --url {endpoint} --tls-fingerprint SHA256 --token TOKEN status")
        }
        // No secret crosses a public network in the clear.
        Some(endpoint) if endpoint.check_plaintext().is_err() => {
            "tidegate --ssh USER@HOST --token TOKEN status".to_owned()
        }
        Some(endpoint) => format!("tidegate --url {endpoint} --token TOKEN status"),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nameserver_may_have_a_port() {
        assert_eq!(nameserver("100.64.0.7"), Ok(SocketAddr::from(([100, 64, 0, 7], 53))));
        assert_eq!(nameserver("127.0.0.1:5300"), Ok(SocketAddr::from(([127, 0, 0, 1], 5300))));
        assert_eq!(nameserver("[::1]:5300").map(|server| server.port()), Ok(5300));
        assert!(nameserver("dns.example").is_err());
    }
}
