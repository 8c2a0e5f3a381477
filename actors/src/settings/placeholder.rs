//! Texts that stand where a secret should be: a manual's example, a script's variable that nobody filled in. A gateway
//! that started with one would be open to whoever reads the same manual.

/// Nobody thinks of a shorter secret who wants one.
const SHORTEST: usize = 4;

/// Words that are no secret by themselves.
const EMPTY: [&str; 24] = [
    "secret",
    "token",
    "password",
    "passwd",
    "passphrase",
    "credential",
    "key",
    "apikey",
    "auth",
    "admin",
    "true",
    "false",
    "null",
    "nil",
    "nan",
    "none",
    "undefined",
    "unset",
    "empty",
    "default",
    "changeme",
    "qwerty",
    "password1",
    "password123",
];

/// Words of those who say what should stand there instead: with the words above they make a manual's sentence.
const TELLING: [&str; 24] = [
    "your",
    "yours",
    "the",
    "this",
    "here",
    "with",
    "me",
    "now",
    "long",
    "random",
    "strong",
    "secure",
    "example",
    "sample",
    "placeholder",
    "change",
    "replace",
    "insert",
    "enter",
    "put",
    "set",
    "todo",
    "fixme",
    "redacted",
];

/// How such a sentence begins, whatever comes after it.
const BEGINNINGS: [&str; 7] =
    ["change-me", "changeme-", "replace-me", "replace-with", "replace-this", "insert-your", "put-your"];

/// Whether the text is no secret but stands for one.
pub(super) fn is_placeholder(text: &str) -> bool {
    let text = text.trim_matches(|c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '`'));
    text.chars().count() < SHORTEST || one_letter(text) || is_reference(text) || is_sentence(text)
}

/// `****`, `....`, `xxxx`.
fn one_letter(text: &str) -> bool {
    let mut letters = text.chars();
    let first = letters.next();
    letters.all(|letter| Some(letter) == first)
}

/// `<token>`, `${TOKEN}`, `$TOKEN`, `{{ token }}`, `%TOKEN%`: what something else should have replaced.
fn is_reference(text: &str) -> bool {
    let within = |open: &str, close: &str| text.starts_with(open) && text.ends_with(close);
    let variable = |name: &str| {
        !name.is_empty()
            && name.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_' || byte.is_ascii_digit())
    };
    within("<", ">")
        || within("[", "]")
        || within("${", "}")
        || within("$(", ")")
        || within("{{", "}}")
        || text.strip_prefix('$').is_some_and(variable)
        || text.strip_prefix('%').and_then(|rest| rest.strip_suffix('%')).is_some_and(variable)
}

fn is_sentence(text: &str) -> bool {
    let text = text.to_ascii_lowercase();
    let words: Vec<&str> =
        text.split(|letter: char| !letter.is_alphanumeric()).filter(|word| !word.is_empty()).collect();
    let joined = words.join("-");
    if BEGINNINGS.iter().any(|beginning| joined.starts_with(beginning)) {
        return true;
    }
    let known = words.iter().all(|word| EMPTY.contains(word) || TELLING.contains(word) || is_product(word));
    known && (words.len() == 1 || words.iter().any(|word| TELLING.contains(word)))
}

fn is_product(word: &str) -> bool {
    matches!(word, "openclaw" | "tidegate" | "gateway")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_manuals_and_scripts_leave_behind_is_no_secret() {
        for text in [
            "",
            "  ",
            "\"",
            "''",
            "abc",
            "undefined",
            "NULL",
            "none",
            "false",
            "\"null\"",
            "example",
            "secret",
            "token",
            "Password",
            "changeme",
            "change-me",
            "CHANGE_ME",
            "change-me-now",
            "change-me-to-a-long-random-token",
            "change-me-to-a-strong-password",
            "replace-me",
            "replace-with-long-random-token",
            "your-token",
            "your-token-here",
            "YOUR_TOKEN",
            "your-long-random-token",
            "your gateway password",
            "<token>",
            "<long-random-token>",
            "${TOKEN}",
            "$OPENCLAW_GATEWAY_TOKEN",
            "$(pass show gateway)",
            "{{ gateway_token }}",
            "%TOKEN%",
            "****",
            "...",
            "xxxxxxxx",
            "__OPENCLAW_REDACTED__",
        ] {
            assert!(is_placeholder(text), "{text}");
        }
    }

    #[test]
    fn what_somebody_chose_is_a_secret() {
        for text in [
            "tok-wire-0001",
            "some-token",
            "a-token-of-its-own",
            "secret-token-b",
            "token-a",
            "gateway-secret",
            "first-secret-41",
            "x-y-z",
            "my horse eats tokens",
            "your mother was a hamster",
            "$ecret",
            "pa55",
            "Judge-Secret-9f2c71ab44",
            "hunter2",
        ] {
            assert!(!is_placeholder(text), "{text}");
        }
    }
}
