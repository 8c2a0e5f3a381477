//! Tunnels that can't be had: each reason in one sentence that says what to do.

use crate::support::gateway::{TIDEGATE, TOKEN, clean_environment};
use crate::support::laptop::{Laptop, refused};
use crate::support::ports::free_port;
use crate::support::{Gateway, Sshd};
use serde_json::json;

#[actix_web::test]
async fn each_way_to_fail_has_a_sentence_that_says_what_to_do() {
    let sshd = Sshd::start().await;
    let laptop = Laptop::new(&sshd);
    let target = sshd.target();
    let tunnel = async |target: &str, more: &[&str]| {
        let (code, said) = laptop.fails(&[&["health", "--ssh", target][..], more].concat()).await;
        assert_eq!(said.trim().lines().count(), 1, "{said}");
        (code, said)
    };

    let nothing = free_port().to_string();
    let (code, said) = tunnel(&target, &["--port", &nothing]).await;
    assert!(code == 69 && said.contains(&format!("nothing listens on port {nothing}")), "{code} {said}");

    sshd.know_nobody();
    let (code, said) = tunnel(&target, &[]).await;
    assert!(code == 77 && said.contains("accept it once with `ssh -p"), "{code} {said}");
    sshd.know_host("other_key.pub");
    let (code, said) = tunnel(&target, &[]).await;
    assert!(code == 77 && said.contains("CHANGED") && said.contains("ssh-keygen -R"), "{code} {said}");
    sshd.know_host("host_key.pub");

    let other = sshd.file("other_key").display().to_string();
    sshd.write_client(&other, "");
    let (code, said) = tunnel(&target, &[]).await;
    assert!(code == 77 && said.contains("ssh-add") && said.contains("authorized_keys"), "{code} {said}");
    let (code, said) = tunnel(&target, &["--ssh-identity", "/no/such/key"]).await;
    assert!(code == 1 && said.contains("/no/such/key"), "{code} {said}");

    let closed = format!("127.0.0.1:{}", free_port());
    let (code, said) = tunnel(&closed, &[]).await;
    assert!(code == 69 && said.contains("refuses SSH connections"), "{code} {said}");
    let (code, said) = tunnel("nobody@no-such-host.invalid", &[]).await;
    assert!(code == 69 && said.contains("check its spelling"), "{code} {said}");

    for bad in ["-oProxyCommand=touch x", "a@-box", "a b", "box;id"] {
        let (code, said) = laptop.fails(&["health", &format!("--ssh={bad}")]).await;
        assert!(code == 2 && said.contains("no SSH target"), "{code} {said}");
    }
}

#[actix_web::test]
async fn a_server_that_forwards_nothing_and_a_machine_without_ssh_say_so() {
    let sshd = Sshd::with("AllowTcpForwarding no").await;
    let laptop = Laptop::new(&sshd);
    let target = sshd.target();
    let (code, said) = laptop.fails(&["health", "--ssh", &target]).await;
    assert!(code == 77 && said.contains("AllowTcpForwarding"), "{code} {said}");
    let mut command = laptop.command(&["health", "--ssh", &target]);
    command.env("PATH", laptop.home.path());
    let (code, said) = refused(command).await;
    assert!(code == 1 && said.contains("openssh-client"), "{code} {said}");
    laptop.is_quiet().await;
}

#[actix_web::test]
async fn a_key_that_may_do_nothing_but_reach_the_gateway_is_enough() {
    let gateway = Gateway::start().await;
    let sshd = Sshd::start().await;
    let laptop = Laptop::new(&sshd);
    let (target, port) = (sshd.target(), gateway.port.to_string());
    let health = ["health", "--ssh", &target, "--port", &port, "--token", TOKEN];
    sshd.restrict(&format!("restrict,port-forwarding,permitopen=\"127.0.0.1:{port}\""));
    laptop.ok(&health).await;
    sshd.restrict("restrict,port-forwarding,permitopen=\"127.0.0.1:1\"");
    let (code, said) = laptop.fails(&health).await;
    assert!(code == 77 && said.contains("permitopen"), "{code} {said}");
}

#[actix_web::test]
async fn the_openssh_policy_leaves_host_keys_to_the_users_own_config() {
    let gateway = Gateway::start().await;
    let sshd = Sshd::start().await;
    sshd.know_nobody();
    let key = sshd.file("user_key").display().to_string();
    sshd.write_client(&key, "StrictHostKeyChecking no");
    let policy = |policy: &str| {
        json!({"gateway": {"mode": "remote", "remote": {
            "transport": "ssh", "sshTarget": sshd.target(), "remotePort": gateway.port, "token": TOKEN,
            "sshHostKeyPolicy": policy,
        }}})
    };
    let strict = Laptop::with_config(&sshd, &policy("strict"));
    let (code, said) = strict.fails(&["health"]).await;
    assert!(code == 77 && said.contains("not known"), "{code} {said}");
    Laptop::with_config(&sshd, &policy("openssh")).ok(&["health"]).await;
}

/// Left out by name where namespaces can't be made.
mod lan {
    use super::*;
    use crate::support::Lan;

    #[actix_web::test]
    async fn a_machine_without_a_way_to_the_host_says_so() {
        let sshd = Sshd::start().await;
        let laptop = Laptop::new(&sshd);
        let (_lan, [island]) = Lan::new(["island"]);
        let mut command = island.command(TIDEGATE);
        command.args(["health", "--ssh", "ann@192.0.2.1"]).current_dir(laptop.home.path());
        clean_environment(&mut command, laptop.home.path());
        command.env("TIDEGATE_STATE_DIR", laptop.state()).env("PATH", sshd.path());
        let (code, said) = refused(command).await;
        assert!(code == 69 && said.contains("no route to 192.0.2.1"), "{code} {said}");
    }
}
