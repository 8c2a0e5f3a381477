//! What a command would run, as far as that can be told by looking at it.

use std::path::{Path, PathBuf};

use super::{
    resolve,
    shell::{self, Segment},
};

/// Programs that run what their arguments name. Trusting them would trust everything.
const CARRIERS: &[&str] = &[
    "busybox", "chroot", "chrt", "doas", "env", "flock", "ionice", "nice", "nohup", "nsenter", "parallel",
    "setsid", "stdbuf", "su", "sudo", "time", "timeout", "toybox", "unshare", "watch", "xargs",
];

/// Shells whose words we can follow. Others expand words by rules of their own.
const FOLLOWED_SHELLS: &[&str] = &["ash", "bash", "dash", "sh"];

/// Where those shells are. A file that merely has the name of a shell is a program like any other.
const SHELL_FOLDERS: &[&str] = &["/bin", "/usr/bin"];

/// Flags that load no code: a script, a login, stop at errors, say what is done.
const HARMLESS_FLAGS: &str = "celuvx";

/// The programs of a command whose every part is plain to see.
#[derive(Debug)]
pub(crate) struct Analysis {
    pub(crate) programs: Vec<Program>,
    argv: Vec<String>,
    /// Place of the script in `argv`, and its parts.
    script: Option<(usize, Vec<Segment>)>,
}

/// One program a command runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Program {
    /// As the command names it.
    pub(crate) name: String,
    pub(crate) path: PathBuf,
    /// Its arguments without the name; `None` when the shell may still expand them.
    pub(crate) args: Option<Vec<String>>,
}

impl Analysis {
    /// `None` when some part is not plain to see, is not found, or runs what its arguments name.
    pub(crate) fn of(argv: &[String], cwd: &Path) -> Option<Self> {
        let Some(index) = shell::script_index(argv) else {
            let (name, args) = argv.split_first()?;
            let programs = vec![program(name, Some(args.to_vec()), cwd)?];
            return Some(Self { programs, argv: argv.to_vec(), script: None });
        };
        let shell = followed_shell(argv, index, cwd)?;
        let segments = shell::parse(&argv[index])?;
        let programs = segments.iter().map(|segment| segment_program(segment, cwd)).collect::<Option<_>>()?;
        let mut argv = argv.to_vec();
        argv[0] = shell.to_string_lossy().into_owned();
        Some(Self { programs, argv, script: Some((index, segments)) })
    }

    /// The same command with every program named by the file that was looked at, so that nothing else can run.
    pub(crate) fn pinned(&self) -> Vec<String> {
        let mut argv = self.argv.clone();
        match &self.script {
            None => argv[0] = self.programs[0].path.to_string_lossy().into_owned(),
            Some((index, segments)) => argv[*index] = self.pinned_script(&self.argv[*index], segments),
        }
        argv
    }

    fn pinned_script(&self, script: &str, segments: &[Segment]) -> String {
        let mut text = String::new();
        for (segment, program) in segments.iter().zip(&self.programs) {
            if !text.is_empty() {
                text.push(' ');
                text.push_str(segment.joiner);
                text.push(' ');
            }
            text.push_str(&quote(&program.path.to_string_lossy()));
            for word in &segment.words[1..] {
                text.push(' ');
                text.push_str(&script[word.source.clone()]);
            }
        }
        text
    }
}

/// The file of the shell in `argv`, if it does nothing but run its script.
fn followed_shell(argv: &[String], script: usize, cwd: &Path) -> Option<PathBuf> {
    // More words before the script may load files; more words after it become `$0`, `$1`.
    let [_, flags, _] = argv else { return None };
    let harmless =
        flags.strip_prefix('-').is_some_and(|flags| flags.chars().all(|flag| HARMLESS_FLAGS.contains(flag)));
    let path = resolve::find(&argv[0], cwd)?;
    let known = |file: &Path| {
        let name = file.file_name().and_then(|name| name.to_str());
        let folder = file.parent().and_then(Path::to_str);
        name.is_some_and(|name| FOLLOWED_SHELLS.contains(&name))
            && folder.is_some_and(|folder| SHELL_FOLDERS.contains(&folder))
    };
    (script == 2 && harmless && known(&path) && known(&path.canonicalize().ok()?)).then_some(path)
}

fn segment_program(segment: &Segment, cwd: &Path) -> Option<Program> {
    let (name, args) = segment.words.split_first()?;
    if !name.plain {
        return None;
    }
    // `a=b` as an argument is as good as any other.
    let exact = args.iter().all(|word| word.plain || !word.value.contains(['*', '?', '[', '~']));
    let args = args.iter().map(|word| word.value.clone()).collect();
    program(&name.value, exact.then_some(args), cwd)
}

fn program(name: &str, args: Option<Vec<String>>, cwd: &Path) -> Option<Program> {
    let path = resolve::find(name, cwd)?;
    let real = path.canonicalize().ok()?;
    let carrier = |file: &Path| {
        file.file_name().and_then(|file| file.to_str()).is_none_or(|file| CARRIERS.contains(&file))
    };
    if carrier(&path) || carrier(&real) {
        return None;
    }
    let words: Vec<String> =
        std::iter::once(name.to_owned()).chain(args.clone().unwrap_or_default()).collect();
    // A script within a script is one layer too deep to look at.
    (shell::script_index(&words).is_none() && (args.is_some() || !shell::is_shell(&words))).then(|| Program {
        name: name.to_owned(),
        path,
        args,
    })
}

fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn analyse(words: &[&str]) -> Option<Analysis> {
        let argv: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        Analysis::of(&argv, Path::new("/"))
    }

    #[test]
    fn a_pinned_script_runs_the_files_that_were_looked_at() {
        let analysis = analyse(&["/bin/sh", "-lc", "ls -d '/' *.x && echo \"a b\" # note"]).unwrap();
        let (ls, echo) = (&analysis.programs[0], &analysis.programs[1]);
        assert_eq!((ls.args.as_deref(), echo.args.as_deref()), (None, Some(&["a b".to_owned()][..])));
        let expected = format!("'{}' -d '/' *.x && '{}' \"a b\"", ls.path.display(), echo.path.display());
        assert_eq!(analysis.pinned(), ["/bin/sh", "-lc", &expected]);
    }

    #[test]
    fn what_carries_other_programs_is_not_analysed() {
        for words in [
            &["env", "ls"][..],
            &["/usr/bin/timeout", "1", "ls"],
            &["sh", "-c", "nohup ls"],
            &["sh", "-c", "sh -c ls"],
            &["sh", "-c", "A=1 ls"],
            &["sh", "-c", "no-such-program"],
            &["sh", "-c", "ls", "extra"],
            &["sh", "-c", "sh *"],
            &["bash", "-ic", "ls"],
            &["sh", "+c", "ls"],
            &["zsh", "-c", "ls"],
        ] {
            assert!(analyse(words).is_none(), "{words:?}");
        }
        assert!(analyse(&["ls", "-l"]).is_some());
    }

    #[test]
    fn a_file_with_the_name_of_a_shell_is_not_taken_for_one() {
        let folder = tempfile::tempdir().unwrap();
        let fake = folder.path().join("bash");
        std::fs::copy("/bin/ls", &fake).unwrap();
        assert!(analyse(&[fake.to_str().unwrap(), "-c", "ls"]).is_none());
        let cwd = ["./bash", "-c", "ls"].map(str::to_owned);
        assert!(Analysis::of(&cwd, folder.path()).is_none());
        std::os::unix::fs::symlink("/bin/sh", folder.path().join("sh")).unwrap();
        let link = folder.path().join("sh");
        assert!(analyse(&[link.to_str().unwrap(), "-c", "ls"]).is_none());
    }
}
