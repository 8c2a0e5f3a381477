//! Roles and scopes: what a connection may ask for.

use serde::{Deserialize, Serialize};
use std::fmt;

/// What kind of peer a connection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// A person's client: CLI, Control UI, app.
    Operator,
    /// A peripheral that runs commands.
    Node,
}

impl Role {
    /// The role's name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Operator => "operator",
            Self::Node => "node",
        }
    }

    /// Reads a wire name; `None` for any other.
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "operator" => Some(Self::Operator),
            "node" => Some(Self::Node),
            _ => None,
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The operator scopes that methods ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scope {
    /// Everything.
    Admin,
    /// Look.
    Read,
    /// Act: send messages, run agents, call nodes. Includes [`Scope::Read`].
    Write,
    /// See and decide exec approvals.
    Approvals,
    /// Answer the agent's questions.
    Questions,
    /// Pair devices and nodes.
    Pairing,
    /// Read the voice providers' secrets.
    TalkSecrets,
}

impl Scope {
    /// The scope's name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Admin => "operator.admin",
            Self::Read => "operator.read",
            Self::Write => "operator.write",
            Self::Approvals => "operator.approvals",
            Self::Questions => "operator.questions",
            Self::Pairing => "operator.pairing",
            Self::TalkSecrets => "operator.talk.secrets",
        }
    }
}

/// The scopes of a connection or a token, in the order they were sent. Unknown names are kept, and grant nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Scopes(Vec<String>);

impl Scopes {
    /// No scope at all.
    pub fn none() -> Self {
        Self::default()
    }

    /// Whether these scopes satisfy `scope`: admin satisfies all, write satisfies read.
    pub fn allows(&self, scope: Scope) -> bool {
        self.holds(scope.as_str())
    }

    /// As [`Scopes::allows`], for a name as it came over the wire.
    pub fn holds(&self, name: &str) -> bool {
        self.0.iter().any(|held| {
            held == name
                || held == Scope::Admin.as_str()
                || (held == Scope::Write.as_str() && name == Scope::Read.as_str())
        })
    }

    /// Whether everything in `asked` is satisfied by these scopes.
    pub fn covers(&self, asked: &Scopes) -> bool {
        asked.0.iter().all(|name| self.holds(name))
    }

    /// The names as sent.
    pub fn names(&self) -> &[String] {
        &self.0
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// These and `more`, each once, old ones first.
    pub fn union(&self, more: &Scopes) -> Self {
        let mut all = self.0.clone();
        for name in &more.0 {
            if !all.contains(name) {
                all.push(name.clone());
            }
        }
        Self(all)
    }
}

impl<S: Into<String>> FromIterator<S> for Scopes {
    fn from_iter<I: IntoIterator<Item = S>>(names: I) -> Self {
        Self(names.into_iter().map(Into::into).collect())
    }
}

impl From<Vec<String>> for Scopes {
    fn from(names: Vec<String>) -> Self {
        Self(names)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn admin_satisfies_all_and_write_satisfies_read() {
        let admin: Scopes = ["operator.admin"].into_iter().collect();
        let write: Scopes = ["operator.write"].into_iter().collect();
        let read: Scopes = ["operator.read"].into_iter().collect();
        assert!(admin.allows(Scope::Pairing) && admin.holds("operator.anything"));
        assert!(write.allows(Scope::Read) && !write.allows(Scope::Admin));
        assert!(!read.allows(Scope::Write));
        assert!(write.covers(&read) && !read.covers(&write));
    }
}
