//! A certificate's fingerprint: what a client trusts, and what a gateway shows.

use std::fmt;

use aws_lc_rs::{constant_time::verify_slices_are_equal, digest};

/// SHA-256 of a certificate in DER.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Pin([u8; 32]);

impl Pin {
    /// Reads hex, with or without colons and a leading `sha256:`.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim().to_ascii_lowercase();
        let text = text.strip_prefix("sha256:").or_else(|| text.strip_prefix("sha256/")).unwrap_or(&text);
        let digits: Vec<u8> = text.bytes().filter(|byte| *byte != b':').collect();
        if digits.len() != 64 || !digits.iter().all(u8::is_ascii_hexdigit) {
            return None;
        }
        let mut pin = [0; 32];
        for (byte, pair) in pin.iter_mut().zip(digits.chunks(2)) {
            *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
        }
        Some(Self(pin))
    }

    /// The pin of a certificate.
    pub fn of(certificate: &[u8]) -> Self {
        let mut pin = [0; 32];
        pin.copy_from_slice(digest::digest(&digest::SHA256, certificate).as_ref());
        Self(pin)
    }

    /// Whether both are of one certificate.
    pub fn is(&self, other: &Self) -> bool {
        verify_slices_are_equal(&self.0, &other.0).is_ok()
    }
}

impl Pin {
    /// The 64 digits alone.
    pub fn hex(&self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

impl fmt::Display for Pin {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "sha256:{}", self.hex())
    }
}

impl fmt::Debug for Pin {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pin_is_read_in_the_usual_spellings() {
        let pin = Pin::of(b"certificate");
        let shown = pin.to_string();
        assert_eq!(Pin::parse(&shown), Some(pin));
        let hex = shown.strip_prefix("sha256:").unwrap().to_uppercase();
        assert_eq!(Pin::parse(&hex), Some(pin));
        let pairs: Vec<&str> = (0..32).map(|i| &hex[2 * i..2 * i + 2]).collect();
        assert_eq!(Pin::parse(&pairs.join(":")), Some(pin));
        assert_eq!(Pin::parse(&hex[1..]), None);
        assert_eq!(Pin::parse(&"+f".repeat(32)), None);
        assert_eq!(Pin::parse(&hex.replace('A', "g").replace('0', "x")), None);
    }
}
