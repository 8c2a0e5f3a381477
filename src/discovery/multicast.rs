//! Asking the LAN.

use std::{collections::BTreeMap, time::Duration};

use mdns_sd::{ResolvedService, ServiceDaemon, ServiceEvent};
use tidegate_protocol::discovery::{Hints, SERVICE};

use super::{Found, MOST};

/// How long the daemon may take to end.
const END_WITHIN: Duration = Duration::from_secs(1);

/// Listens for as long as it may: another answer can always come.
pub(super) async fn search(time: Duration) -> Result<Vec<Found>, String> {
    let problem = |error: mdns_sd::Error| format!("the LAN could not be searched: {error}");
    let daemon = ServiceDaemon::new().map_err(problem)?;
    let kind = format!("{SERVICE}.local.");
    let events = daemon.browse(&kind).map_err(problem)?;
    let end = tokio::time::Instant::now() + time;
    let mut found = BTreeMap::new();
    while let Ok(Ok(event)) = tokio::time::timeout_at(end, events.recv_async()).await {
        match event {
            ServiceEvent::ServiceResolved(service) if found.len() < MOST => {
                found.insert(service.fullname.clone(), read(&service, &kind));
            }
            ServiceEvent::ServiceRemoved(_, name) => drop(found.remove(&name)),
            _ => {}
        }
    }
    if let Ok(ended) = daemon.shutdown() {
        let _ = tokio::time::timeout(END_WITHIN, ended.recv_async()).await;
    }
    Ok(found.into_values().collect())
}

fn read(service: &ResolvedService, kind: &str) -> Found {
    let instance = service.fullname.strip_suffix(kind).unwrap_or(&service.fullname);
    let txt = service.txt_properties.iter().map(|property| (property.key(), property.val_str()));
    let addresses = service.addresses.iter().map(|address| address.to_ip_addr());
    let instance = unescape(instance.trim_end_matches('.'));
    Found::new(&instance, "local.", &service.host, service.port, addresses, Hints::from_txt(txt))
}

/// The library writes a dot inside a name as `\.`.
fn unescape(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    let mut chars = name.chars();
    while let Some(c) = chars.next() {
        out.extend(if c == '\\' { chars.next() } else { Some(c) });
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dots_in_names_are_read() {
        assert_eq!(unescape("v1\\.2 (a\\\\b)"), "v1.2 (a\\b)");
    }
}
