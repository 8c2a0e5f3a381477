//! Free ports below the kernel's ephemeral range, so that no outgoing connection of another test takes one first.

use std::collections::HashSet;
use std::net::TcpListener;
use std::sync::Mutex;

static GIVEN: Mutex<Option<HashSet<u16>>> = Mutex::new(None);

/// A port that nothing on loopback listens on and that no other test of this process was given.
pub fn free_port() -> u16 {
    let mut given = GIVEN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let given = given.get_or_insert_with(HashSet::new);
    for _ in 0..1_000 {
        let port = rand::random_range(12_000..32_000);
        let free = |host: &str| match TcpListener::bind((host, port)) {
            Ok(_) => true,
            // A host without this family has no program on the port either.
            Err(error) => {
                error.kind() == std::io::ErrorKind::AddrNotAvailable
                    || error.raw_os_error() == Some(libc::EAFNOSUPPORT)
            }
        };
        if !given.contains(&port) && free("127.0.0.1") && free("::1") {
            given.insert(port);
            return port;
        }
    }
    panic!("no free port in a thousand tries");
}
