//! People of the tailnet: a name is a claim until the daemon confirms that the address is that person's.

/// A person in the tailnet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TailnetUser {
    pub login: String,
    pub name: Option<String>,
    pub picture: Option<String>,
}

/// Who sent a request that came through Serve.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sender {
    /// No person: a tagged machine.
    Unnamed,
    /// The headers name somebody.
    Claimed(TailnetUser),
    /// The daemon says so too.
    Confirmed(TailnetUser),
}

impl Sender {
    pub fn confirmed(&self) -> Option<&TailnetUser> {
        match self {
            Self::Confirmed(user) => Some(user),
            Self::Unnamed | Self::Claimed(_) => None,
        }
    }
}
