//! Who listens on a port, as far as `/proc` tells.

use std::{collections::HashSet, fmt, fs};

/// State of a listening socket in `/proc/self/net/tcp`.
const LISTENING: &str = "0A";

/// The program that has a port.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Holder {
    Process {
        pid: u32,
        name: String,
    },
    /// It is another user's, or lives in another container.
    Hidden,
}

impl Holder {
    /// Looks for a listener on this port, whatever its address.
    pub(super) fn of_port(port: u16) -> Self {
        // A hardened service sees processes and nothing else of `/proc`.
        let sockets: HashSet<String> = ["/proc/self/net/tcp", "/proc/self/net/tcp6"]
            .iter()
            .filter_map(|table| fs::read_to_string(table).ok())
            .flat_map(|table| listeners(&table, port))
            .map(|inode| format!("socket:[{inode}]"))
            .collect();
        holding(&sockets).unwrap_or(Self::Hidden)
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Process { pid, name } => write!(out, "{name} (pid {pid})"),
            Self::Hidden => {
                out.write_str("a program that this user may not look at (`sudo ss -ltnp` shows its pid)")
            }
        }
    }
}

/// The inodes of the sockets that listen on `port`, out of a table as the kernel writes it.
fn listeners(table: &str, port: u16) -> Vec<String> {
    let suffix = format!(":{port:04X}");
    let inode = |line: &str| {
        let mut fields = line.split_whitespace();
        let local = fields.nth(1)?;
        let state = fields.nth(1)?;
        let inode = fields.nth(5)?;
        (local.ends_with(&suffix) && state == LISTENING).then(|| inode.to_owned())
    };
    table.lines().skip(1).filter_map(inode).collect()
}

/// The first process that has one of these sockets open.
fn holding(sockets: &HashSet<String>) -> Option<Holder> {
    if sockets.is_empty() {
        return None;
    }
    let processes = fs::read_dir("/proc").ok()?.flatten();
    processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok()).find_map(|pid| {
        let mut open = fs::read_dir(format!("/proc/{pid}/fd")).ok()?.flatten();
        let has_it = |target: std::path::PathBuf| sockets.contains(&*target.to_string_lossy());
        open.any(|fd| fs::read_link(fd.path()).is_ok_and(has_it)).then(|| {
            let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            Holder::Process { pid, name: name.trim().to_owned() }
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:4965 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 11111 1 0 100 0 0 10 0
   1: 0100007F:4965 0100007F:9999 01 00000000:00000000 00:00000000 00000000     0        0 22222 1 0 20 4 30 10 -1
   2: 00000000:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 33333 1 0 100 0 0 10 0";

    #[test]
    fn only_listeners_on_that_port_count() {
        assert_eq!(listeners(TABLE, 18_789), ["11111"]);
        assert_eq!(listeners(TABLE, 8080), ["33333"]);
        assert!(listeners(TABLE, 0x9999).is_empty());
    }

    #[test]
    fn a_listener_is_traced_to_its_process() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let holder = Holder::of_port(listener.local_addr().unwrap().port());
        assert!(matches!(holder, Holder::Process { pid, .. } if pid == std::process::id()), "{holder}");
    }

    #[test]
    fn a_port_that_nobody_shows_is_said_to_be_hidden() {
        assert_eq!(holding(&HashSet::new()), None);
        assert!(Holder::Hidden.to_string().contains("ss -ltnp"));
    }
}
