//! A domain that lists gateways.

use std::{fmt, str::FromStr};

/// A DNS name of ordinary labels, in lower case and without the last dot. It becomes part of a path and of a zone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Domain(String);

impl Domain {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Domain {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let name = text.trim().trim_end_matches('.').to_ascii_lowercase();
        let label = |label: &str| {
            let fits = |c: char| c.is_ascii_alphanumeric() || c == '-';
            (1..=63).contains(&label.len())
                && label.chars().all(fits)
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        if name.len() > 200 || !name.split('.').all(label) {
            return Err("it takes a domain of your own, such as openclaw.internal".to_owned());
        }
        if name == "local" || name.ends_with(".local") {
            return Err(
                "names under `local` belong to multicast DNS: take another, such as openclaw.internal"
                    .to_owned(),
            );
        }
        Ok(Self(name))
    }
}

impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_a_zone_can_have_are_taken() {
        let domain = |text: &str| text.parse::<Domain>().map(|domain| domain.0);
        assert_eq!(domain(" OpenClaw.Internal. "), Ok("openclaw.internal".to_owned()));
        for bad in
            ["", ".", "a..b", "../x", "a b", "-a.b", "ü.internal", "local", "home.local.", &"a.".repeat(150)]
        {
            assert!(domain(bad).is_err(), "{bad}");
        }
    }
}
