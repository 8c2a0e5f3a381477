//! What the fake daemon knows, and the rules by which it takes a new serve configuration.

use super::NAME;
use aws_lc_rs::digest::{SHA256, digest};
use serde_json::{Map, Value, json};
use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;

pub(super) struct Daemon {
    pub(super) state: String,
    pub(super) capabilities: Vec<String>,
    pub(super) people: HashMap<IpAddr, Person>,
    pub(super) config: Value,
    pub(super) read_only: bool,
    pub(super) questions: Vec<String>,
    next_session: u64,
}

/// Whose a machine is.
#[derive(Clone)]
pub(super) struct Person {
    pub(super) login: String,
    pub(super) name: String,
    pub(super) tags: Vec<String>,
}

/// Where a port leads to.
pub(super) struct Handler {
    pub(super) proxy: String,
    pub(super) funnel: bool,
}

impl Person {
    pub(super) fn named(login: &str, name: &str) -> Self {
        Self { login: login.to_owned(), name: name.to_owned(), tags: Vec::new() }
    }

    pub(super) fn tagged(tag: &str) -> Self {
        Self {
            login: "tagged-devices".to_owned(),
            name: "Tagged Devices".to_owned(),
            tags: vec![tag.to_owned()],
        }
    }

    pub(super) fn picture(&self) -> String {
        format!("https://pictures.example/{}", self.login)
    }
}

impl Daemon {
    pub(super) fn new() -> Self {
        let capabilities = ["https", "funnel", "https://tailscale.com/cap/funnel-ports?ports=443,8443,10000"];
        Self {
            state: "Running".to_owned(),
            capabilities: capabilities.map(str::to_owned).to_vec(),
            people: HashMap::new(),
            config: Value::Null,
            read_only: false,
            questions: Vec::new(),
            next_session: 1,
        }
    }

    pub(super) fn status(&self) -> Value {
        let capabilities: Map<String, Value> =
            self.capabilities.iter().map(|capability| (capability.clone(), Value::Null)).collect();
        json!({
            "Version": "1.90.0-fake",
            "BackendState": self.state,
            "TailscaleIPs": ["100.64.0.1"],
            "Self": {"DNSName": format!("{NAME}."), "TailscaleIPs": ["100.64.0.1"], "CapMap": capabilities},
            "CurrentTailnet": {"Name": "example.com", "MagicDNSSuffix": "tail1234.ts.net", "MagicDNSEnabled": true},
        })
    }

    pub(super) fn whois(&self, address: IpAddr) -> Option<Value> {
        let person = self.people.get(&address)?;
        Some(json!({
            "Node": {"Name": format!("machine-{address}."), "Addresses": [format!("{address}/32")], "Tags": person.tags},
            "UserProfile": {
                "ID": 1, "LoginName": person.login, "DisplayName": person.name, "ProfilePicURL": person.picture(),
            },
            "CapMap": null,
        }))
    }

    pub(super) fn etag(&self) -> String {
        let bytes = digest(&SHA256, self.config.to_string().as_bytes());
        bytes.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    pub(super) fn new_session(&mut self) -> String {
        self.next_session += 1;
        format!("session-{}", self.next_session)
    }

    /// The program that held this session is gone.
    pub(super) fn end_session(&mut self, session: &str) {
        if let Some(foreground) = self.config["Foreground"].as_object_mut() {
            foreground.remove(session);
        }
    }

    /// Takes a new configuration, or says why not.
    pub(super) fn set_config(&mut self, new: Value) -> Result<(), String> {
        let taken = ports(&self.config);
        let held: BTreeSet<String> = sessions(&self.config).flat_map(|(_, own)| own_ports(own)).collect();
        for (session, own) in sessions(&new) {
            if self.config["Foreground"].get(session).is_some() {
                continue;
            }
            if let Some(port) = own_ports(own).find(|port| taken.contains(port)) {
                return Err(format!("updating config: listener already exists for port {port}"));
            }
        }
        if let Some(port) = own_ports(&new).find(|port| held.contains(port)) {
            return Err(format!("updating config: foreground listener already exists for port {port}"));
        }
        self.config = new;
        Ok(())
    }

    pub(super) fn handler(&self, port: u16) -> Option<Handler> {
        let site = format!("{NAME}:{port}");
        let all = std::iter::once(&self.config).chain(sessions(&self.config).map(|(_, own)| own));
        all.filter_map(|own| {
            let proxy = own["Web"][&site]["Handlers"]["/"]["Proxy"].as_str()?;
            Some(Handler { proxy: proxy.to_owned(), funnel: own["AllowFunnel"][&site] == true })
        })
        .next()
    }
}

fn sessions(config: &Value) -> impl Iterator<Item = (&String, &Value)> {
    config["Foreground"].as_object().into_iter().flatten()
}

fn own_ports(config: &Value) -> impl Iterator<Item = String> {
    config["TCP"].as_object().into_iter().flatten().map(|(port, _)| port.clone())
}

fn ports(config: &Value) -> BTreeSet<String> {
    own_ports(config).chain(sessions(config).flat_map(|(_, own)| own_ports(own))).collect()
}
