//! What every command understands.

use std::time::Duration;

use clap::{ArgAction, Args};

use crate::client::ssh::SshTarget;

/// Flags that stand before or after any command.
#[derive(Args, Clone, Debug, Default)]
pub(super) struct Globals {
    /// Talk to the gateway at this address; needs --token or --password as well
    #[arg(long, global = true, value_name = "URL", help_heading = "Which gateway")]
    pub url: Option<String>,
    /// Talk to the gateway of this host through SSH; --port says its port there
    #[arg(
        long,
        global = true,
        value_name = "USER@HOST[:PORT]",
        conflicts_with = "url",
        help_heading = "Which gateway"
    )]
    pub ssh: Option<SshTarget>,
    /// Private key for --ssh
    #[arg(long, global = true, value_name = "FILE", help_heading = "Which gateway")]
    pub ssh_identity: Option<String>,
    /// The gateway's port, on this machine or on the one that --ssh names
    #[arg(long, global = true, value_name = "PORT", conflicts_with = "url", help_heading = "Which gateway")]
    pub port: Option<u16>,
    /// Shared token
    #[arg(
        allow_hyphen_values = true,
        long,
        global = true,
        value_name = "TOKEN",
        help_heading = "Which gateway"
    )]
    pub token: Option<String>,
    /// Shared password
    #[arg(
        allow_hyphen_values = true,
        long,
        global = true,
        value_name = "PASSWORD",
        help_heading = "Which gateway"
    )]
    pub password: Option<String>,
    /// SHA-256 of the gateway's certificate, for wss://
    #[arg(long, global = true, value_name = "SHA256", help_heading = "Which gateway")]
    pub tls_fingerprint: Option<String>,
    /// A config, a state folder and a port of its own
    #[arg(long, global = true, value_name = "NAME", help_heading = "Which gateway")]
    pub profile: Option<String>,
    /// State folder [default: ~/.tidegate]
    #[arg(long, global = true, value_name = "FOLDER", help_heading = "Which gateway")]
    pub state_dir: Option<String>,
    /// Config file [default: tidegate.json in the state folder]
    #[arg(
        long = "config",
        id = "config_file",
        global = true,
        value_name = "FILE",
        help_heading = "Which gateway"
    )]
    pub config: Option<String>,
    /// How long to wait for an answer: milliseconds, or with a unit as in 30s
    #[arg(long, global = true, value_name = "TIME", help_heading = "Output")]
    pub timeout: Option<Span>,
    /// Print JSON
    #[arg(long, global = true, help_heading = "Output")]
    pub json: bool,
    /// Say more; twice for everything
    #[arg(long, short, global = true, action = ArgAction::Count, help_heading = "Output")]
    pub verbose: u8,
}

/// A length of time as people write it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    number: u64,
    /// Milliseconds; none when no unit was written.
    unit: Option<u64>,
}

impl Span {
    /// A bare number counts milliseconds.
    pub(super) fn or_milliseconds(self) -> Duration {
        Duration::from_millis(self.number.saturating_mul(self.unit.unwrap_or(1)))
    }

    /// A bare number counts seconds.
    pub(super) fn or_seconds(self) -> Duration {
        Duration::from_millis(self.number.saturating_mul(self.unit.unwrap_or(1000)))
    }
}

impl std::str::FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (number, unit) = text.split_at(end);
        let unit = match unit {
            "" => None,
            "ms" => Some(1),
            "s" => Some(1000),
            "m" => Some(60_000),
            "h" => Some(3_600_000),
            _ => return Err("write it as 30000, 30s, 5m or 1h".to_owned()),
        };
        let number = number.parse().map_err(|_| "write it as 30000, 30s, 5m or 1h".to_owned())?;
        Ok(Self { number, unit })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_units() {
        let span = |text: &str| text.parse::<Span>().unwrap();
        assert_eq!(span("1500").or_milliseconds(), Duration::from_millis(1500));
        assert_eq!(span("15").or_seconds(), Duration::from_secs(15));
        assert_eq!(span("2m").or_milliseconds(), span("2m").or_seconds());
        for bad in ["", "x", "1d", "-1", "1.5s"] {
            assert!(bad.parse::<Span>().is_err(), "{bad}");
        }
    }
}
