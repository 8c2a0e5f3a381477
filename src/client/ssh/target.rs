//! Whom to ask for a tunnel: `user@host:port`, or a name from the user's own ssh config.

use std::{fmt, str::FromStr};

use super::SshError;

/// A host that lets us in by SSH. It can't be mistaken for an option of `ssh`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SshTarget {
    pub user: Option<String>,
    pub host: String,
    /// Unset: what the ssh config says, else 22.
    pub port: Option<u16>,
}

impl SshTarget {
    /// `user@host` as one would type it after `ssh`.
    pub(super) fn login(&self) -> String {
        match &self.user {
            Some(user) => format!("{user}@{}", self.host),
            None => self.host.clone(),
        }
    }

    /// The command that a person would type to get there.
    pub(super) fn by_hand(&self) -> String {
        match self.port {
            Some(port) => format!("ssh -p {port} {}", self.login()),
            None => format!("ssh {}", self.login()),
        }
    }

    /// The host's name in `known_hosts`.
    pub(super) fn known_as(&self) -> String {
        match self.port {
            Some(port) if port != 22 => format!("'[{}]:{port}'", self.host),
            _ => self.host.clone(),
        }
    }
}

impl fmt::Display for SshTarget {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let brackets = self.port.is_some() && self.host.contains(':');
        if let Some(user) = &self.user {
            write!(out, "{user}@")?;
        }
        if brackets {
            write!(out, "[{}]", self.host)?
        } else {
            write!(out, "{}", self.host)?
        }
        self.port.map_or(Ok(()), |port| write!(out, ":{port}"))
    }
}

impl FromStr for SshTarget {
    type Err = SshError;

    fn from_str(text: &str) -> Result<Self, SshError> {
        let bad = |problem: &'static str| SshError::BadTarget { target: text.to_owned(), problem };
        let text = text.trim();
        let (user, place) = match text.rsplit_once('@') {
            Some((user, place)) => (Some(user), place),
            None => (None, text),
        };
        let (host, port) = split_port(place).ok_or_else(|| bad("the port is a number from 1 to 65535"))?;
        if host.is_empty() || user.is_some_and(str::is_empty) {
            return Err(bad("write it as user@host or user@host:port"));
        }
        if host.starts_with('-') || user.is_some_and(|user| user.starts_with('-')) {
            return Err(bad("a user or host does not begin with `-`"));
        }
        let plain = |text: &str, more: &str| text.chars().all(|c| c.is_alphanumeric() || more.contains(c));
        if !plain(host, "-._:%") || !user.is_none_or(|user| plain(user, "-._+@\\")) {
            return Err(bad("it has characters that no user or host name has"));
        }
        Ok(Self { user: user.map(str::to_owned), host: host.to_owned(), port })
    }
}

fn split_port(place: &str) -> Option<(&str, Option<u16>)> {
    let number = |text: &str| text.parse().ok().filter(|port| *port != 0);
    if let Some(rest) = place.strip_prefix('[') {
        let (host, rest) = rest.split_once(']')?;
        return match rest.strip_prefix(':') {
            Some(port) => Some((host, Some(number(port)?))),
            None if rest.is_empty() => Some((host, None)),
            None => None,
        };
    }
    match place.split_once(':') {
        // An IPv6 address without brackets has no port.
        Some((_, rest)) if rest.contains(':') => Some((place, None)),
        Some((host, port)) => Some((host, Some(number(port)?))),
        None => Some((place, None)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(text: &str) -> (Option<String>, String, Option<u16>) {
        let SshTarget { user, host, port } = text.parse().unwrap();
        (user, host, port)
    }

    #[test]
    fn targets_are_read_and_written() {
        let user = || Some("ann".to_owned());
        assert_eq!(parts("ann@box"), (user(), "box".into(), None));
        assert_eq!(parts(" box "), (None, "box".into(), None));
        assert_eq!(parts("ann@box.lan:2222"), (user(), "box.lan".into(), Some(2222)));
        assert_eq!(parts("ann@[::1]:22"), (user(), "::1".into(), Some(22)));
        assert_eq!(parts("ann@fe80::1%eth0"), (user(), "fe80::1%eth0".into(), None));
        assert_eq!(parts("ann@corp.example@box"), (Some("ann@corp.example".into()), "box".into(), None));
        for text in ["ann@box", "box", "ann@box:2222", "ann@[::1]:22", "::1"] {
            assert_eq!(text.parse::<SshTarget>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn a_target_is_never_an_option_or_a_piece_of_shell() {
        for text in [
            "-oProxyCommand=x",
            "ann@-box",
            "-ann@box",
            "",
            "@box",
            "ann@",
            "box:0",
            "box:70000",
            "box:ssh",
            "a b",
            "ann@box;id",
            "$(id)@box",
            "ann@`id`",
            "box\n",
            "ann@bo\nx",
        ]
        .iter()
        .filter(|text| text.trim() == **text)
        {
            assert!(text.parse::<SshTarget>().is_err(), "{text:?}");
        }
    }
}
