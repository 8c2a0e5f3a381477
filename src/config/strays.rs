//! Keys that nobody reads, where that matters. Elsewhere an unknown key is kept and reported, for an `openclaw.json` is
//! read as it is; but a typo in what guards the door would leave it open, and OpenClaw knows no other keys there.

/// `gateway.auth` and every key in it that OpenClaw knows.
const AUTH: [&str; 18] = [
    "gateway.auth.mode",
    "gateway.auth.token",
    "gateway.auth.password",
    "gateway.auth.allowTailscale",
    "gateway.auth.identityScopes",
    "gateway.auth.rateLimit",
    "gateway.auth.rateLimit.maxAttempts",
    "gateway.auth.rateLimit.windowMs",
    "gateway.auth.rateLimit.lockoutMs",
    "gateway.auth.rateLimit.exemptLoopback",
    "gateway.auth.trustedProxy",
    "gateway.auth.trustedProxy.userHeader",
    "gateway.auth.trustedProxy.requiredHeaders",
    "gateway.auth.trustedProxy.allowUsers",
    "gateway.auth.trustedProxy.allowLoopback",
    "gateway.auth.trustedProxy.cloudflareAccessOidc",
    "gateway.auth.trustedProxy.deviceAutoApprove",
    "gateway.auth",
];

/// How alike two keys are when one is a slip of the other; 1 is the same.
const SLIP: f64 = 0.9;

/// What is wrong with the first stray key that must not be overlooked.
pub(super) fn dangerous(unknown: &[String]) -> Option<String> {
    unknown.iter().find_map(|key| {
        let known = AUTH.contains(&key.as_str());
        let nearest = nearest(key);
        match nearest {
            _ if known => None,
            Some(meant) if key.starts_with("gateway.auth.") || is_slip(key, meant) => {
                Some(format!("{key} is no setting: did you mean {meant}?"))
            }
            _ => None,
        }
    })
}

fn nearest(key: &str) -> Option<&'static str> {
    let alike = |known: &&str| strsim::normalized_damerau_levenshtein(known, key);
    AUTH.into_iter().max_by(|left, right| alike(left).total_cmp(&alike(right)))
}

/// Beside `gateway.auth`: one letter too much, too few, or elsewhere, or another case.
fn is_slip(key: &str, meant: &str) -> bool {
    key.eq_ignore_ascii_case(meant) || strsim::normalized_damerau_levenshtein(key, meant) >= SLIP
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(key: &str) -> Option<String> {
        dangerous(&[key.to_owned()])
    }

    #[test]
    fn a_slip_in_what_guards_the_door_is_named_with_what_was_meant() {
        for (key, meant) in [
            ("gateway.auth.tokn", "gateway.auth.token"),
            ("gateway.auth.Mode", "gateway.auth.mode"),
            ("gateway.auth.rateLimits", "gateway.auth.rateLimit"),
            ("gateway.auth.rateLimit.maxAttempt", "gateway.auth.rateLimit.maxAttempts"),
            ("gateway.auth.trustedProxy.allowUser", "gateway.auth.trustedProxy.allowUsers"),
            ("gateway.authh", "gateway.auth"),
            ("gateway.Auth", "gateway.auth"),
        ] {
            let expected = format!("{key} is no setting: did you mean {meant}?");
            assert_eq!(said(key), Some(expected), "{key}");
        }
        assert!(said("gateway.auth.somethingElse").is_some());
    }

    #[test]
    fn other_unknown_keys_are_let_be() {
        for key in [
            "gateway.http",
            "gateway.tools",
            "gateway.push",
            "gateway.portals",
            "gateway.publicOrigin",
            "gateway.terminal.enabled",
            "gateway.cliAgents",
            "gateway.roles",
            "gateway.auth.trustedProxy.cloudflareAccessOidc",
            "plugins",
            "auth",
        ] {
            assert_eq!(said(key), None, "{key}");
        }
    }
}
