//! `system.which`: where programs are.

use std::path::Path;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::node_host::exec;

/// Nobody asks for more at once.
const MAX_BINS: usize = 256;

/// Params of `system.which`.
#[derive(Debug, Deserialize)]
pub(super) struct Params {
    bins: Vec<String>,
}

/// The path of every program that was found.
pub(super) fn which(params: Params, folder: &Path) -> Value {
    let mut found = Map::new();
    for name in params.bins.iter().take(MAX_BINS).map(|name| name.trim()).filter(|name| !name.is_empty()) {
        if let Some(path) = exec::find(name, folder) {
            found.insert(name.to_owned(), json!(path));
        }
    }
    json!({"bins": found})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_exists_is_named() {
        let params = Params { bins: vec!["sh".into(), "no-such-program".into(), " ".into()] };
        let answer = which(params, Path::new("/"));
        let bins = answer["bins"].as_object().unwrap();
        assert_eq!(bins.len(), 1);
        assert!(bins["sh"].as_str().unwrap().ends_with("/sh"));
    }
}
