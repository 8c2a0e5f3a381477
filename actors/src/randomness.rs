//! Random bytes for secrets, straight from the kernel.
//!
//! Not from aws-lc: its generator gathers entropy of its own before the first byte, which takes 90 ms of every first
//! start. The kernel's has been ready since boot.

use rand::TryRng;
use rand::rngs::SysRng;
use std::io;

/// Fresh random bytes.
///
/// # Errors
/// If the kernel gives none.
pub fn bytes<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    SysRng.try_fill_bytes(&mut bytes).map_err(io::Error::other)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_draws_are_the_same() {
        assert_ne!(bytes::<32>().unwrap(), bytes::<32>().unwrap());
    }
}
