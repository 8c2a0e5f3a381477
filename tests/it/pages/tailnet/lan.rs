//! The page with the machines that it speaks of: each has its address, and the gateway its name and `https`.

use super::{Home, Names, page};
use crate::support::Lan;
use crate::support::fake_tailscale::{FakeTailscale, NAME};
use crate::support::page::Desk;
use std::net::Ipv4Addr;

#[tokio::test]
async fn serve_can_be_followed_by_name() {
    let machines = ["home", "laptop", "attic"];
    let (_lan, [host, laptop, attic]) = Lan::in_network(Ipv4Addr::new(100, 64, 0, 0), machines);
    let mut fake = FakeTailscale::start();
    let authority = fake.answers_on(&host);
    let home = Home::at(fake, Desk::on(&host), 18_789);
    home.desk.writes_config(&page().part("Serve").blocks("json5")[0]);
    let _gateway = home.runs("tidegate gateway run").await;
    let [laptop, attic] = [laptop, attic].map(|machine| {
        machine.knows(&[(NAME, host.address())]);
        Desk::on(&machine).env("SSL_CERT_FILE", authority.display())
    });
    let names = Names { url: &format!("wss://{NAME}"), host: NAME, port: "--port 443 --tls" };
    home.lets_others_in(&page(), &laptop, &attic, &names).await;
}
