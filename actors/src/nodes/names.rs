//! Finding a node by what a person calls it.

/// A node as far as names go.
#[derive(Debug, Clone, Copy)]
pub(super) struct Candidate<'a> {
    pub node_id: &'a str,
    pub display_name: Option<&'a str>,
    pub connected: bool,
}

/// Why a name leads to no single node.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    #[error("no node is called `{0}`")]
    Unknown(String),
    #[error("`{name}` names {} nodes: {}", nodes.len(), nodes.join(", "))]
    Ambiguous { name: String, nodes: Vec<String> },
}

/// Shorter beginnings of an id are more likely typing errors than names.
const SHORTEST_PREFIX: usize = 4;

/// The id of the node meant: a whole id first, then a display name (case does not matter), then the
/// beginning of an id. Of several with one name, the only connected one is meant.
pub(super) fn resolve<'a>(name: &str, nodes: &[Candidate<'a>]) -> Result<&'a str, NameError> {
    let name = name.trim();
    if let Some(node) = nodes.iter().find(|node| node.node_id == name) {
        return Ok(node.node_id);
    }
    let spoken = spoken(name);
    let named = |node: &&Candidate<'_>| {
        !spoken.is_empty() && node.display_name.is_some_and(|display| self::spoken(display) == spoken)
    };
    let by_name: Vec<&Candidate<'a>> = nodes.iter().filter(named).collect();
    if !by_name.is_empty() {
        return single(name, &by_name);
    }
    let prefix = name.to_ascii_lowercase();
    let by_prefix: Vec<&Candidate<'a>> = nodes
        .iter()
        .filter(|node| prefix.len() >= SHORTEST_PREFIX && node.node_id.starts_with(&prefix))
        .collect();
    single(name, &by_prefix)
}

fn single<'a>(name: &str, found: &[&Candidate<'a>]) -> Result<&'a str, NameError> {
    match found {
        [] => Err(NameError::Unknown(name.to_owned())),
        [only] => Ok(only.node_id),
        several => {
            let mut live = several.iter().filter(|node| node.connected);
            match (live.next(), live.next()) {
                (Some(only), None) => Ok(only.node_id),
                _ => Err(NameError::Ambiguous {
                    name: name.to_owned(),
                    nodes: several.iter().map(|node| node.node_id.to_owned()).collect(),
                }),
            }
        }
    }
}

/// `Living Room`, `living-room` and `living_room` are one name when spoken.
fn spoken(name: &str) -> String {
    name.trim()
        .chars()
        .map(|letter| if letter == '_' || letter == ' ' { '-' } else { letter })
        .flat_map(char::to_lowercase)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODES: [Candidate<'static>; 4] = [
        Candidate { node_id: "abcd1111", display_name: Some("Living Room"), connected: true },
        Candidate { node_id: "abcd2222", display_name: Some("desk"), connected: false },
        Candidate { node_id: "ffff3333", display_name: Some("desk"), connected: true },
        Candidate { node_id: "ffff4444", display_name: None, connected: false },
    ];

    #[test]
    fn an_id_a_name_or_a_unique_beginning_finds_the_node() {
        assert_eq!(resolve("abcd1111", &NODES), Ok("abcd1111"));
        assert_eq!(resolve("living-room", &NODES), Ok("abcd1111"));
        assert_eq!(resolve(" LIVING ROOM", &NODES), Ok("abcd1111"));
        assert_eq!(resolve("abcd2", &NODES), Ok("abcd2222"));
    }

    #[test]
    fn of_two_with_one_name_the_connected_one_is_meant() {
        assert_eq!(resolve("desk", &NODES), Ok("ffff3333"));
    }

    #[test]
    fn a_doubtful_or_unknown_name_is_an_error() {
        assert_eq!(resolve("nope", &NODES), Err(NameError::Unknown("nope".into())));
        assert_eq!(resolve("abc", &NODES), Err(NameError::Unknown("abc".into())));
        assert_eq!(resolve("", &NODES), Err(NameError::Unknown("".into())));
        let both_live = NODES.map(|node| Candidate { connected: true, ..node });
        assert!(matches!(resolve("abcd", &both_live), Err(NameError::Ambiguous { .. })));
    }
}
