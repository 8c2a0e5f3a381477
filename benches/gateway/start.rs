//! From exec to the first answers, and a command line from start to end.

use super::peer;
use super::process::{State, TOKEN};
use super::table::{Bar, Table, median, ms};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const RUNS: usize = 9;
const PATIENCE: Duration = Duration::from_secs(30);

pub async fn measure(table: &mut Table) {
    eprintln!("start");
    let state = State::new();
    // The first one reads the binary from the disk.
    to_hello(&state).await;
    let (mut healthz, mut hello, mut fresh) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..RUNS {
        healthz.push(to_healthz(&state).await);
        hello.push(to_hello(&state).await);
        fresh.push(to_hello(&State::new()).await);
    }
    table.alone("exec to /healthz", ms(median(&mut healthz)), None);
    let hello = median(&mut hello);
    let bar = Bar::below(hello.as_secs_f64() * 1e3, 50.0, "ms");
    table.alone("exec to hello-ok", ms(hello), Some(bar));
    let fresh = median(&mut fresh);
    let bar = Bar::below(fresh.as_secs_f64() * 1e3, 50.0, "ms");
    table.alone("exec to hello-ok, no state yet", ms(fresh), Some(bar));
    table.alone("`tidegate health --json`, start to end", ms(command_line(&state).await), None);
}

async fn to_healthz(state: &State) -> Duration {
    let begun = Instant::now();
    let server = state.launch();
    while begun.elapsed() < PATIENCE {
        if healthz(server.port).await.unwrap_or(false) {
            return begun.elapsed();
        }
        tokio::time::sleep(Duration::from_micros(200)).await;
    }
    panic!("/healthz never answered");
}

async fn healthz(port: u16) -> std::io::Result<bool> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    let request = format!("GET /healthz HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut head = [0; 12];
    stream.read_exact(&mut head).await?;
    Ok(&head == b"HTTP/1.1 200")
}

async fn to_hello(state: &State) -> Duration {
    let begun = Instant::now();
    let server = state.launch();
    let mut last = None;
    while begun.elapsed() < PATIENCE {
        match peer::operator(server.port).await {
            Ok(_) => return begun.elapsed(),
            Err(error) => last = Some(error),
        }
        tokio::time::sleep(Duration::from_micros(200)).await;
    }
    panic!("never let in: {last:?}");
}

async fn command_line(state: &State) -> Duration {
    let server = state.gateway().await;
    let url = format!("ws://127.0.0.1:{}", server.port);
    let mut times: Vec<Duration> = (0..RUNS)
        .map(|_| {
            let mut command = state.command(&["health", "--json", "--url", &url, "--token", TOKEN]);
            let begun = Instant::now();
            assert!(command.status().unwrap().success(), "`tidegate health` failed");
            begun.elapsed()
        })
        .collect();
    median(&mut times)
}
