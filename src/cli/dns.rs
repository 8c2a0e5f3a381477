//! `tidegate dns setup`: the zone that lists this gateway, and what else is to be done.

use std::{fs, net::IpAddr, path::Path, time::SystemTime};

use clap::{Args as ClapArgs, Subcommand};
use serde_json::json;
use tidegate_actors::{
    auth::is_tailnet,
    remote::{Whereabouts, discovery, interfaces},
    settings::{Settings, gateway::Bind},
};

use super::{Context, Failure, out};
use crate::{
    config::private,
    discovery::{Domain, zone::Zone},
};

#[derive(ClapArgs, Debug)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Write the zone file for a DNS server, and say what to do with it
    #[command(after_help = "\
Examples:
  tidegate dns setup --domain openclaw.internal
  tidegate dns setup --domain gateways.example.net --address 10.8.0.5
  tidegate dns setup --print")]
    Setup(Setup),
}

#[derive(ClapArgs, Debug)]
struct Setup {
    /// The domain to serve [default: discovery.wideArea.domain]
    #[arg(long, value_name = "DOMAIN")]
    domain: Option<String>,
    /// Where clients reach this machine; may be given more than once [default: its Tailscale addresses]
    #[arg(long = "address", value_name = "IP")]
    addresses: Vec<IpAddr>,
    /// Only print the zone
    #[arg(long)]
    print: bool,
}

pub(super) fn run(context: &Context, args: Args) -> Result<(), Failure> {
    let Command::Setup(args) = args.command;
    let place = context.place()?;
    let settings = context.loaded(&place)?.settings;
    let domain = domain(context, args.domain.as_deref())?.ok_or_else(|| {
        Failure::usage("which domain? Pass --domain openclaw.internal, or set discovery.wideArea.domain")
    })?;
    let addresses = if args.addresses.is_empty() { tailnet_addresses(&settings)? } else { args.addresses };
    let zone = zone(context, &settings, domain, addresses);
    let file = place.state.root().join("dns").join(format!("{}.db", zone.domain));
    let (text, changed) = next(&zone, &file);
    if args.print {
        out::text(&text);
        return Ok(());
    }
    if changed {
        write(&file, &text)?;
    }
    if context.globals.json {
        let Zone { domain, addresses, .. } = &zone;
        out::json(&json!({
            "ok": true, "domain": domain.as_str(), "zoneFile": file.display().to_string(), "changed": changed,
            "addresses": addresses, "zone": text, "warning": unreachable(&settings, addresses),
        }));
    } else {
        explain(&settings, &zone, &file, changed);
    }
    Ok(())
}

/// The domain to look in or to serve: from the command line, the config or the environment.
pub(super) fn domain(context: &Context, given: Option<&str>) -> Result<Option<Domain>, Failure> {
    let configured = match given {
        Some(_) => None,
        None => context.loaded(&context.place()?)?.settings.discovery.wide_area.domain,
    };
    let offered = context.env.setting("WIDE_AREA_DOMAIN").map(|(_, domain)| domain);
    let Some(text) = given.or(configured.as_deref()).or(offered) else { return Ok(None) };
    match text.parse() {
        Ok(domain) => Ok(Some(domain)),
        Err(why) => Err(Failure::usage(format!("`{text}` can't be searched or served: {why}"))),
    }
}

fn zone(context: &Context, settings: &Settings, domain: Domain, addresses: Vec<IpAddr>) -> Zone {
    let host = discovery::host_label(&settings.discovery.mdns).to_ascii_lowercase();
    let port = context.globals.port.unwrap_or_else(|| settings.gateway.port());
    let mut hints = discovery::wide_area_hints(settings, &Whereabouts::default());
    hints.gateway_port = Some(port);
    hints.display_name = Some(discovery::name_of(&host, port));
    Zone { domain, host, addresses, port, hints }
}

/// This machine's; only those that the gateway listens on, if there are such.
fn tailnet_addresses(settings: &Settings) -> Result<Vec<IpAddr>, Failure> {
    let all: Vec<IpAddr> =
        interfaces().into_iter().map(|one| one.address).filter(|ip| is_tailnet(*ip)).collect();
    let heard: Vec<IpAddr> = all.iter().copied().filter(|ip| listens_on(settings, *ip)).collect();
    let addresses = if heard.is_empty() { all } else { heard };
    if addresses.is_empty() {
        return Err(Failure::failed(
            "this machine has no Tailscale address: connect it to the tailnet, or say with --address where clients \
             reach it",
        ));
    }
    Ok(addresses)
}

/// The zone that belongs into the file, and whether it is another than what is there.
fn next(zone: &Zone, file: &Path) -> (String, bool) {
    let old = fs::read_to_string(file).ok();
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs() as u32;
    zone.next(old.as_deref(), now)
}

fn write(file: &Path, text: &str) -> Result<(), Failure> {
    let folder = file.parent().unwrap_or(file);
    private::folder(folder)
        .and_then(|()| private::write(file, text.as_bytes()))
        .map_err(|error| Failure::failed(format!("can't write {}: {error}", file.display())))
}

fn listens_on(settings: &Settings, address: IpAddr) -> bool {
    let gateway = &settings.gateway;
    match gateway.bind {
        Bind::Loopback | Bind::Auto => address.is_loopback(),
        Bind::Lan => true,
        Bind::Tailnet => address.is_ipv4() && is_tailnet(address),
        Bind::Custom => {
            let host =
                gateway.custom_bind_host.as_deref().and_then(|host| host.trim().parse::<IpAddr>().ok());
            host.is_some_and(|host| host == address || host.is_unspecified())
        }
    }
}

/// Why clients that find the gateway in the zone could not connect.
fn unreachable(settings: &Settings, addresses: &[IpAddr]) -> Option<String> {
    let deaf = addresses.iter().find(|address| !listens_on(settings, **address))?;
    Some(format!("the gateway does not listen on {deaf}: see gateway.bind"))
}

fn explain(settings: &Settings, zone: &Zone, file: &Path, changed: bool) {
    let Zone { domain, addresses, .. } = zone;
    let (path, server) = (file.display(), addresses.first().map(ToString::to_string).unwrap_or_default());
    let all: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    let all = all.join(" ");
    let mut facts = out::Facts::default();
    facts.add("domain", domain.as_str());
    facts.add("zone file", format!("{path} ({})", if changed { "written" } else { "unchanged" }));
    facts.add("addresses", all.as_str());
    facts.print();
    if let Some(why) = unreachable(settings, addresses) {
        out::note(format!("warning: {why}"));
    }
    let steps = format!(
        "
Next:
1. Hand the zone to a DNS server on this machine, again after every change. With CoreDNS:

     sudo install -D -m 0644 {path} /etc/coredns/{domain}.db

   and in /etc/coredns/Corefile:

     {domain}:53 {{
       bind {all}
       file /etc/coredns/{domain}.db {{
         reload 10s
       }}
       errors
     }}

2. Send queries for the domain there. In a tailnet: admin console, DNS, Add nameserver, Custom,
   {server}, Restrict to domain (split DNS), {domain}.

3. Let clients look there:

     tidegate config set discovery.wideArea.domain '\"{domain}\"'

4. See whether it works, first at the server, then as every client will:

     tidegate gateway discover --domain {domain} --nameserver {server}
     tidegate gateway discover --domain {domain}"
    );
    out::text(&steps);
}
