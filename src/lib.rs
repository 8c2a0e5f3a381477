//! Tidegate, an always-on gateway for a personal AI agent.

pub mod cli;
pub mod client;
pub mod config;
pub mod discovery;
pub mod gateway;
pub mod http;
mod lock;
pub mod node_host;
pub mod telemetry;
pub mod tls;
