//! Every secret that is alive in this process, so that no log line shows one.
//!
//! A [`Secret`](crate::settings::Secret) enters by being made. Whoever issues a token
//! that isn't one calls [`hide`].

use std::{
    borrow::Cow,
    collections::VecDeque,
    sync::{PoisonError, RwLock},
};

/// What is shown in a secret's place.
pub const SHOWN: &str = "[redacted]";

/// Shorter texts would blot out innocent ones, and are no secrets worth the name.
const SHORTEST: usize = 6;
/// Issued and presented tokens are many: the oldest leave.
const MOST: usize = 4096;

static LIVE: RwLock<Live> = RwLock::new(Live { kept: Vec::new(), passing: VecDeque::new() });

struct Live {
    /// Configured ones. Nothing that strangers present may push them out.
    kept: Vec<Box<str>>,
    passing: VecDeque<Box<str>>,
}

impl Live {
    fn all(&self) -> impl Iterator<Item = &str> {
        self.kept.iter().chain(&self.passing).map(|secret| &**secret)
    }
}

/// Keeps an issued or presented token out of the logs from now on.
pub fn hide(secret: &str) {
    add(secret, |live, secret| {
        if live.passing.len() >= MOST {
            live.passing.pop_front();
        }
        live.passing.push_back(secret);
    });
}

/// Keeps a configured secret out of the logs for as long as the process lives.
pub(crate) fn keep(secret: &str) {
    add(secret, |live, secret| live.kept.push(secret));
}

fn add(secret: &str, put: impl FnOnce(&mut Live, Box<str>)) {
    let secret = secret.trim();
    if secret.len() < SHORTEST {
        return;
    }
    let mut live = LIVE.write().unwrap_or_else(PoisonError::into_inner);
    if !live.all().any(|have| have == secret) {
        put(&mut live, secret.into());
    }
}

/// The text with every live secret replaced.
pub fn scrub(text: &str) -> Cow<'_, str> {
    let live = LIVE.read().unwrap_or_else(PoisonError::into_inner);
    let mut found: Vec<&str> = live.all().filter(|secret| text.contains(secret)).collect();
    // The longest first: one secret may be a part of another, whose rest must not stay.
    found.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
    found.into_iter().fold(Cow::Borrowed(text), |text, secret| Cow::Owned(text.replace(secret, SHOWN)))
}

/// A child gets our environment, but for what opens something.
pub fn without_secrets(command: &mut tokio::process::Command) {
    for (name, _) in std::env::vars_os() {
        let upper = name.to_string_lossy().to_ascii_uppercase();
        if ["TOKEN", "PASSWORD", "SECRET", "KEY", "CREDENTIAL"].iter().any(|word| upper.contains(word)) {
            command.env_remove(name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hidden_text_is_never_shown() {
        hide("a-token-of-this-test");
        assert_eq!(scrub("url?token=a-token-of-this-test&x=1"), "url?token=[redacted]&x=1");
        assert_eq!(scrub("nothing to hide"), "nothing to hide");
    }

    #[test]
    fn a_secret_hides_itself() {
        let secret = crate::settings::Secret::new("made-for-this-test");
        assert_eq!(scrub(secret.expose()), SHOWN);
    }

    #[test]
    fn a_secret_inside_another_leaves_nothing_of_it() {
        hide("inner-part");
        hide("outer-inner-part-outer");
        assert_eq!(scrub("x outer-inner-part-outer y"), "x [redacted] y");
    }

    #[test]
    fn what_is_presented_pushes_out_nothing_that_is_configured() {
        let secret = crate::settings::Secret::new("configured-for-good");
        for n in 0..=MOST {
            hide(&format!("presented-{n:06}"));
        }
        assert_eq!(scrub(secret.expose()), SHOWN);
    }

    #[test]
    fn a_short_text_stays() {
        hide("gate");
        assert_eq!(scrub("gateway"), "gateway");
    }
}
