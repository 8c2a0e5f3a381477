//! Asking a domain: the same records as on the LAN, from a DNS server (RFC 6763).

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use hickory_resolver::{
    Resolver, TokioResolver,
    config::{ConnectionConfig, NameServerConfig, ResolverConfig},
    net::{NetError, runtime::TokioRuntimeProvider},
    proto::rr::{Name, RData, RecordType},
};
use tidegate_protocol::discovery::{Hints, SERVICE};

use super::{Domain, Found, MOST};

/// All gateways that the domain lists; none is no failure.
pub(super) async fn search(
    domain: &Domain,
    nameserver: Option<SocketAddr>,
    time: Duration,
) -> Result<Vec<Found>, String> {
    let problem = |why: String| format!("{domain} could not be searched: {why}");
    let resolver = resolver(nameserver, time).map_err(|error| problem(error.to_string()))?;
    match tokio::time::timeout(time, list(&resolver, domain)).await {
        Ok(Ok(found)) => Ok(found),
        Ok(Err(error)) if error.is_no_records_found() => Ok(Vec::new()),
        Ok(Err(error)) => Err(problem(error.to_string())),
        Err(_) => Err(problem("no answer in time; --timeout gives it more".to_owned())),
    }
}

fn resolver(nameserver: Option<SocketAddr>, time: Duration) -> Result<TokioResolver, NetError> {
    let mut builder = match nameserver {
        None => Resolver::builder_tokio()?,
        Some(server) => {
            let mut connections = vec![ConnectionConfig::udp(), ConnectionConfig::tcp()];
            connections.iter_mut().for_each(|connection| connection.port = server.port());
            let server = NameServerConfig::new(server.ip(), true, connections);
            let config = ResolverConfig::from_name_servers(vec![server]);
            Resolver::builder_with_config(config, TokioRuntimeProvider::default())
        }
    };
    builder.options_mut().timeout = time;
    builder.build()
}

async fn list(resolver: &TokioResolver, domain: &Domain) -> Result<Vec<Found>, NetError> {
    let service = Name::from_ascii(format!("{SERVICE}.{domain}."))?;
    let mut found = Vec::new();
    for data in ask(resolver, &service, RecordType::PTR).await?.into_iter().take(MOST) {
        // A list names what is under it.
        let RData::PTR(instance) = data else { continue };
        if service.zone_of(&instance.0) && instance.0 != service {
            found.extend(one(resolver, &instance.0, domain).await);
        }
    }
    Ok(found)
}

/// None for an entry whose records are gone.
async fn one(resolver: &TokioResolver, name: &Name, domain: &Domain) -> Option<Found> {
    let (srv, txt) = tokio::join!(ask(resolver, name, RecordType::SRV), ask(resolver, name, RecordType::TXT));
    let srv = srv.ok()?.into_iter().find_map(|data| match data {
        RData::SRV(srv) => Some(srv),
        _ => None,
    })?;
    let addresses = resolver.lookup_ip(srv.target.clone()).await;
    let addresses: Vec<IpAddr> = addresses.map(|found| found.iter().collect()).unwrap_or_default();
    let instance = name.iter().next().map(String::from_utf8_lossy).unwrap_or_default();
    let (domain, host) = (format!("{domain}."), srv.target.to_utf8());
    Some(Found::new(&instance, &domain, &host, srv.port, addresses, hints(txt.unwrap_or_default())))
}

fn hints(records: Vec<RData>) -> Hints {
    let strings: Vec<String> = records
        .iter()
        .filter_map(|data| match data {
            RData::TXT(txt) => Some(txt),
            _ => None,
        })
        .flat_map(|txt| txt.txt_data.iter().map(|bytes| String::from_utf8_lossy(bytes).into_owned()))
        .collect();
    Hints::from_txt(strings.iter().filter_map(|pair| pair.split_once('=')))
}

async fn ask(resolver: &TokioResolver, name: &Name, kind: RecordType) -> Result<Vec<RData>, NetError> {
    let answer = resolver.lookup(name.clone(), kind).await?;
    let of_kind = answer.answers().iter().filter(|record| record.record_type() == kind);
    Ok(of_kind.map(|record| record.data.clone()).collect())
}
