//! Several machines: what a gateway is to those that are not its own.

mod joining;
mod outage;

use crate::support::{Lan, Setup, Upgrade};
use std::process::Command;

#[tokio::test]
async fn a_gateway_on_loopback_is_out_of_reach_of_other_machines() {
    let (_lan, [home, stranger]) = Lan::new(["home", "stranger"]);
    let gateway = Setup::new().on(&home).start().await;
    gateway.operator().await;
    assert!(stranger.connect(home.socket_address(gateway.port)).is_err());
    let from_outside = Upgrade::at(home.socket_address(gateway.port)).from(&stranger).open().await;
    assert_eq!(from_outside.map(|_| ()).unwrap_err().status, 0);
}

#[test]
fn a_cable_can_be_cut_and_mended() {
    let (_lan, [one, two]) = Lan::new(["one", "two"]);
    let server = two.listen(two.socket_address(7)).unwrap();
    assert!(one.connect(two.socket_address(7)).is_ok());
    let reaches = |wait: &str| {
        let mut ping: Command = one.command("timeout");
        let target = format!("{}/7", two.address());
        ping.args([wait, "bash", "-c", &format!("exec 3<>/dev/tcp/{target}")]).status().unwrap().success()
    };
    two.cut();
    assert!(!reaches("1"));
    two.mend();
    assert!(reaches("20"));
    drop(server);
}
