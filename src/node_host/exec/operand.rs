//! The one file whose content decides what a command does: the program itself, or the script it is given.
//!
//! Its hash is part of a plan, so that what was looked at is what runs.

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use aws_lc_rs::digest;
use serde::{Deserialize, Serialize};

use super::shell;

/// Programs that run a file named in their arguments.
const INTERPRETERS: &[&str] =
    &["bun", "deno", "lua", "node", "nodejs", "perl", "php", "pypy", "python", "rscript", "ruby", "tclsh"];

/// A file and what was in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Operand {
    pub(crate) argv_index: usize,
    pub(crate) path: PathBuf,
    pub(crate) sha256: String,
}

/// What a command's meaning hangs on besides its words.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Dependence {
    /// Nothing that could be named.
    None,
    /// This file, named at this place.
    File(usize, PathBuf),
    /// A file that can't be told from the words.
    Hidden,
}

impl Operand {
    /// Looks at the file now.
    pub(crate) fn read(argv_index: usize, path: PathBuf) -> io::Result<Self> {
        let sha256 = sha256(&path)?;
        Ok(Self { argv_index, path, sha256 })
    }

    /// Whether the file is still what it was.
    pub(crate) fn unchanged(&self) -> bool {
        sha256(&self.path).is_ok_and(|now| now == self.sha256)
    }
}

/// What `argv` depends on when it runs in `cwd`.
pub(crate) fn dependence(argv: &[String], cwd: &Path) -> Dependence {
    let Some(index) = shell::script_index(argv) else { return of_words(argv, cwd) };
    // A script that is not plain to see is bound by its text alone.
    let Some(segments) = shell::parse(&argv[index]) else { return Dependence::None };
    let mut found = Dependence::None;
    for segment in segments {
        let words: Vec<String> = segment.words.into_iter().map(|word| word.value).collect();
        let named = words.first().is_some_and(|name| name.contains('/') || is_interpreter(name));
        match if named { of_words(&words, cwd) } else { Dependence::None } {
            Dependence::None => (),
            Dependence::Hidden => return Dependence::Hidden,
            // Two files are more than a plan can hold.
            Dependence::File(..) if found != Dependence::None => return Dependence::Hidden,
            Dependence::File(_, path) => found = Dependence::File(index, path),
        }
    }
    found
}

fn of_words(words: &[String], cwd: &Path) -> Dependence {
    let Some(name) = words.first() else { return Dependence::None };
    if is_interpreter(name) {
        return script_of_interpreter(words, cwd);
    }
    match super::find(name, cwd).and_then(|path| path.canonicalize().ok()) {
        Some(path) => Dependence::File(0, path),
        None => Dependence::None,
    }
}

fn script_of_interpreter(words: &[String], cwd: &Path) -> Dependence {
    for (index, word) in words.iter().enumerate().skip(1) {
        // The code itself is in the words.
        if matches!(
            word.as_str(),
            "-c" | "-e" | "-E" | "-p" | "--eval" | "--print" | "--version" | "-V" | "--help"
        ) {
            return Dependence::None;
        }
        if !word.starts_with('-')
            && let Ok(path) = cwd.join(word).canonicalize()
            && path.is_file()
        {
            return Dependence::File(index, path);
        }
    }
    Dependence::Hidden
}

fn is_interpreter(name: &str) -> bool {
    let name = shell::file_name(name).to_ascii_lowercase();
    let name = name.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.');
    INTERPRETERS.contains(&name) || shell::is_shell(&[name.to_owned()])
}

fn sha256(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let mut context = digest::Context::new(&digest::SHA256);
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            break;
        }
        context.update(&buffer[..read]);
    }
    Ok(context.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn the_file_that_matters_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let cwd = folder.path().canonicalize().unwrap();
        let script = cwd.join("work.py");
        fs::write(&script, "print(1)").unwrap();
        let of = |words: &[&str]| {
            let argv: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
            dependence(&argv, &cwd)
        };
        assert_eq!(of(&["python3", "-B", "work.py", "x"]), Dependence::File(2, script.clone()));
        assert_eq!(of(&["/bin/sh", "-lc", "cd /; python3 work.py"]), Dependence::File(2, script.clone()));
        assert_eq!(of(&["python3", "-c", "print(1)"]), Dependence::None);
        assert_eq!(of(&["python3", "-m", "http.server"]), Dependence::Hidden);
        assert_eq!(of(&["sh", "-c", "sh work.py; sh work.py"]), Dependence::Hidden);
        assert_eq!(of(&["/bin/sh", "-c", "ls -l"]), Dependence::None);
        assert!(matches!(of(&["ls"]), Dependence::File(0, _)));
    }

    #[test]
    fn a_changed_file_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.sh");
        fs::write(&path, "echo 1").unwrap();
        let operand = Operand::read(1, path.clone()).unwrap();
        assert!(operand.unchanged());
        fs::write(&path, "echo 2").unwrap();
        assert!(!operand.unchanged());
        fs::remove_file(&path).unwrap();
        assert!(!operand.unchanged());
    }
}
