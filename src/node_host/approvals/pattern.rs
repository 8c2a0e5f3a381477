//! Whether an allowlist entry covers a program with its arguments.

use std::path::Path;

use aws_lc_rs::digest;

use super::file::AllowEntry;
use crate::node_host::exec::Program;

const CWD_HASH: &str = "sha256:cwd-argv:v1:";
/// Made by older hosts without the working directory; no longer trusted.
const LEGACY_HASH: &str = "sha256:argv:";
const GENERATED: &str = "allow-always";

/// Whether `entry` lets `program` run in `cwd`.
pub(super) fn covers(entry: &AllowEntry, program: &Program, cwd: &Path) -> bool {
    let generated = entry.source.as_deref() == Some(GENERATED);
    let bound = entry.arg_pattern.as_deref().is_some_and(|pattern| pattern.starts_with(CWD_HASH));
    (!generated || bound)
        && covers_path(&entry.pattern, program)
        && covers_args(entry.arg_pattern.as_deref(), program, cwd)
}

fn covers_path(pattern: &str, program: &Program) -> bool {
    let pattern = pattern.trim();
    if pattern.is_empty() {
        return false;
    }
    if !pattern.contains('/') {
        // A bare name trusts what `PATH` finds, never a file that somebody points at.
        return !program.name.contains('/') && glob(pattern, &program.name);
    }
    let pattern = match (pattern.strip_prefix("~/"), std::env::var("HOME")) {
        (Some(rest), Ok(home)) => format!("{}/{rest}", home.trim_end_matches('/')),
        (Some(_), Err(_)) => return false,
        (None, _) => pattern.to_owned(),
    };
    let real = program.path.canonicalize().ok();
    [Some(&program.path), real.as_ref()]
        .into_iter()
        .flatten()
        .any(|path| glob(&pattern, &path.to_string_lossy()))
}

fn covers_args(pattern: Option<&str>, program: &Program, cwd: &Path) -> bool {
    let Some(pattern) = pattern else { return true };
    let Some(args) = &program.args else { return false };
    if pattern.starts_with(CWD_HASH) {
        return pattern == cwd_argv_hash(args, cwd);
    }
    if pattern.starts_with(LEGACY_HASH) {
        return false;
    }
    // Syntax this engine lacks (look-around, back-references) covers nothing.
    regex_lite::Regex::new(pattern).is_ok_and(|regex| regex.is_match(&args.join(" ")))
}

/// The pattern that covers exactly these arguments in exactly this folder.
pub(crate) fn cwd_argv_hash(args: &[String], cwd: &Path) -> String {
    let cwd = cwd.to_string_lossy();
    let mut subject = format!("{}\0{cwd}\0{}\0", cwd.len(), args.len());
    for arg in args {
        subject.push_str(&format!("{}\0{arg}\0", arg.len()));
    }
    let hash = digest::digest(&digest::SHA256, subject.as_bytes());
    hash.as_ref().iter().fold(CWD_HASH.to_owned(), |text, byte| format!("{text}{byte:02x}"))
}

/// `*` and `?` stay within one part of a path, `**` spans parts.
fn glob(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
    // Which beginnings of the text the pattern so far can match: no backtracking.
    let mut reach = vec![false; text.len() + 1];
    reach[0] = true;
    let mut at = 0;
    while let Some(&symbol) = pattern.get(at) {
        at += 1;
        if symbol != '*' {
            step(&mut reach, |index| text[index] == symbol || (symbol == '?' && text[index] != '/'));
            continue;
        }
        let deep = pattern.get(at) == Some(&'*');
        at += usize::from(deep);
        let before = reach.clone();
        spread(&mut reach, &text, deep);
        // `**/` also stands for no folder at all.
        if deep && pattern.get(at) == Some(&'/') {
            at += 1;
            step(&mut reach, |index| text[index] == '/');
            reach.iter_mut().zip(before).for_each(|(now, before)| *now |= before);
        }
    }
    reach[text.len()]
}

fn spread(reach: &mut [bool], text: &[char], deep: bool) {
    for index in 0..text.len() {
        reach[index + 1] |= reach[index] && (deep || text[index] != '/');
    }
}

fn step(reach: &mut [bool], matches: impl Fn(usize) -> bool) {
    for index in (1..reach.len()).rev() {
        reach[index] = reach[index - 1] && matches(index - 1);
    }
    reach[0] = false;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program(name: &str, path: &str, args: &[&str]) -> Program {
        let args = Some(args.iter().map(|arg| (*arg).to_owned()).collect());
        Program { name: name.to_owned(), path: path.into(), args }
    }

    fn entry(pattern: &str, arg_pattern: Option<&str>) -> AllowEntry {
        AllowEntry {
            pattern: pattern.to_owned(),
            arg_pattern: arg_pattern.map(ToOwned::to_owned),
            ..AllowEntry::default()
        }
    }

    #[test]
    fn globs_respect_the_parts_of_a_path() {
        for (pattern, text, expected) in [
            ("/usr/bin/*", "/usr/bin/rg", true),
            ("/usr/bin/*", "/usr/bin/x/rg", false),
            ("/home/**/bin/rg", "/home/me/p/bin/rg", true),
            ("/home/**/bin/rg", "/home/bin/rg", true),
            ("/home/**/bin/rg", "/home/xbin/rg", false),
            ("/opt/**", "/opt/a/b", true),
            ("r?", "rg", true),
            ("r?", "r/", false),
            ("rg", "rgx", false),
            ("*", "", true),
        ] {
            assert_eq!(glob(pattern, text), expected, "{pattern} {text}");
        }
        assert!(!glob(&"*a".repeat(40), &"a".repeat(39)));
    }

    #[test]
    fn a_bare_name_covers_only_what_path_finds() {
        let cwd = Path::new("/");
        assert!(covers(&entry("rg", None), &program("rg", "/opt/bin/rg", &[]), cwd));
        assert!(!covers(&entry("rg", None), &program("./rg", "/opt/bin/rg", &[]), cwd));
        assert!(!covers(&entry("", None), &program("rg", "/opt/bin/rg", &[]), cwd));
    }

    #[test]
    fn arguments_are_matched_by_expression_or_by_hash() {
        let cwd = Path::new("/work");
        let python = program("python3", "/usr/bin/python3", &["safe.py"]);
        assert!(covers(&entry("python3", Some("^safe\\.py$")), &python, cwd));
        assert!(!covers(&entry("python3", Some("^other\\.py$")), &python, cwd));
        assert!(!covers(&entry("python3", Some("(?=look)")), &python, cwd));
        let hash = cwd_argv_hash(&["safe.py".to_owned()], cwd);
        let mut generated = entry("/usr/bin/python3", Some(&hash));
        generated.source = Some("allow-always".into());
        assert!(covers(&generated, &python, cwd));
        assert!(!covers(&generated, &python, Path::new("/elsewhere")));
        generated.arg_pattern = None;
        assert!(!covers(&generated, &python, cwd), "a generated entry that is bound to nothing is inactive");
    }
}
