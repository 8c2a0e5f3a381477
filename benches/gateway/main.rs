//! `make bench`: one table, from one run of the release binary, beside a bare relay measured in the same minutes.
//!
//! Absolute times move by a third from run to run and from machine to machine; compare the ratios. The relay only
//! passes `node.invoke` on, with no authentication, policy or state: nothing can be much faster on this machine.

// A panic here is a failed run, which is what it should be.
#![allow(clippy::unwrap_used, unreachable_pub)]

mod bot;
mod idle;
mod invoke;
mod layout;
mod peer;
mod process;
mod relay;
mod start;
mod table;

use table::Table;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let Some(port) = args.iter().position(|arg| arg == relay::FLAG).and_then(|at| args.get(at + 1)) {
        return relay::serve(port.parse().unwrap());
    }
    let only: Vec<&str> = args.iter().map(String::as_str).filter(|arg| !arg.starts_with("--")).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    if only == ["layout"] {
        return runtime.block_on(layout::record());
    }
    let clean = runtime.block_on(run(&only));
    std::process::exit(i32::from(!clean));
}

/// Everything, or the parts that were named. False when an answer was lost, doubled or mismatched.
async fn run(only: &[&str]) -> bool {
    let wanted = |part: &str| only.is_empty() || only.contains(&part);
    let mut table = Table::default();
    let mut clean = true;
    if wanted("start") {
        start::measure(&mut table).await;
    }
    if wanted("idle") {
        idle::measure(&mut table).await;
    }
    if wanted("invoke") {
        clean = invoke::measure(&mut table).await;
    }
    table.print();
    clean
}
