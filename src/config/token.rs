//! The token that a gateway makes for itself when none is configured.

use std::io::ErrorKind;

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use tidegate_actors::randomness;
use tidegate_actors::settings::{Secret, StatePaths};

use super::{ConfigError, private};

/// The token kept in the state folder, if there is one.
pub fn stored(state: &StatePaths) -> Result<Option<Secret>, ConfigError> {
    let path = state.gateway_token();
    match std::fs::read_to_string(&path) {
        Ok(text) if !text.trim().is_empty() => Ok(Some(Secret::new(text.trim()))),
        Ok(_) => Ok(None),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(ConfigError::state("read", &path, error)),
    }
}

/// The stored token, or a new random one that is stored.
pub(super) fn stored_or_new(state: &StatePaths) -> Result<Secret, ConfigError> {
    if let Some(token) = stored(state)? {
        return Ok(token);
    }
    let token = random()?;
    let path = state.gateway_token();
    private::write(&path, format!("{token}\n").as_bytes())
        .map_err(|error| ConfigError::state("write", &path, error))?;
    Ok(Secret::new(token))
}

fn random() -> Result<String, ConfigError> {
    let bytes: [u8; 32] =
        randomness::bytes().map_err(|_| ConfigError::refused("the system gives no random numbers"))?;
    Ok(BASE64_URL_SAFE_NO_PAD.encode(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_made_once() {
        let folder = tempfile::tempdir().unwrap();
        let state = StatePaths::new(folder.path());
        assert!(stored(&state).unwrap().is_none());
        let token = stored_or_new(&state).unwrap();
        assert_eq!(token.expose().len(), 43);
        assert!(stored_or_new(&state).unwrap().matches(token.expose()));
    }
}
