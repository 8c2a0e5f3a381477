//! Black-box tests: each starts the real `tidegate` binary on a free port with a state folder of its own.
//! One binary, so that it links once; one module for each subject.

// Helpers outside `#[test]` functions may unwrap too: a panic here is a failed test, which is what it should be.
#![allow(clippy::unwrap_used, unreachable_pub)]

#[path = "../support/mod.rs"]
mod support;

mod agent;
mod approvals;
mod approved_runs;
mod audit;
mod cli;
mod cli_config;
mod cli_output;
mod client;
mod crash;
mod decision_table;
mod deploy;
mod device_proof;
mod discovery;
mod exhaustion;
mod flow;
mod handshake;
mod harness;
mod join;
mod join_lan;
mod lan;
mod listen_lan;
mod locality;
mod node_frames;
mod node_host;
mod nodes;
mod official_cli;
mod pages;
mod pairing;
mod remote;
mod schema;
mod secrets;
mod security_credentials;
mod security_http;
mod ssh_proof;
mod startup;
mod tailscale;
mod tailscale_lan;
mod tailscale_table;
mod telegram;
mod tls;
mod tunnel;
mod tunnel_refused;
mod two_way;
