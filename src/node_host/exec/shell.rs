//! How a command reads as text, and what a shell with a script in its arguments would run.

use std::ops::Range;

const SHELLS: &[&str] = &["sh", "bash", "dash", "ash", "zsh", "ksh", "mksh", "fish"];

/// The one line that stands for `argv` wherever a person reads or approves it.
pub(crate) fn command_text(argv: &[String]) -> String {
    let quoted = |word: &String| {
        if word.is_empty() {
            "\"\"".to_owned()
        } else if word.contains(|c: char| c.is_whitespace() || c == '"') {
            format!("\"{}\"", word.replace('"', "\\\""))
        } else {
            word.clone()
        }
    };
    argv.iter().map(quoted).collect::<Vec<_>>().join(" ")
}

/// The last part of a path.
pub(crate) fn file_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// Whether `argv` starts a shell.
pub(crate) fn is_shell(argv: &[String]) -> bool {
    argv.first().is_some_and(|program| SHELLS.contains(&file_name(program)))
}

/// The script in `sh -c SCRIPT` and its kin: its place in `argv`.
pub(crate) fn script_index(argv: &[String]) -> Option<usize> {
    if !is_shell(argv) {
        return None;
    }
    let mut index = 1;
    while let Some(word) = argv.get(index) {
        let flags = word.strip_prefix(['-', '+']).filter(|flags| !flags.is_empty())?;
        if flags == "-" {
            return None;
        }
        let short = !flags.starts_with('-');
        if short && flags.contains('c') {
            return argv.get(index + 1).map(|_| index + 1);
        }
        // `-o pipefail` brings a word of its own.
        index += if short && flags.ends_with('o') { 2 } else { 1 };
    }
    None
}

/// A script cut into simple commands, or `None` when it holds anything whose meaning is not plain to see: expansions,
/// substitutions, redirections, groups, background jobs.
pub(crate) fn parse(script: &str) -> Option<Vec<Segment>> {
    let mut parser = Parser { text: script, at: 0, segments: Vec::new(), joiner: "", words: Vec::new() };
    parser.run()?;
    (!parser.segments.is_empty()).then_some(parser.segments)
}

/// One simple command of a script.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Segment {
    /// What stands before it: nothing, `&&`, `||`, `;` or `|`.
    pub(crate) joiner: &'static str,
    pub(crate) words: Vec<Word>,
}

/// One word of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Word {
    /// What the program receives, unless the shell expands it.
    pub(crate) value: String,
    /// Where it stands in the script.
    pub(crate) source: Range<usize>,
    /// No wildcard, tilde or assignment in it.
    pub(crate) plain: bool,
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
    segments: Vec<Segment>,
    joiner: &'static str,
    words: Vec<Word>,
}

impl Parser<'_> {
    fn run(&mut self) -> Option<()> {
        while let Some(c) = self.peek() {
            match c {
                ' ' | '\t' => self.at += 1,
                '#' => self.at += self.rest().find('\n').unwrap_or(self.rest().len()),
                '\n' => {
                    self.at += 1;
                    if !self.words.is_empty() {
                        self.close(";")?;
                    }
                }
                '&' | '|' | ';' => {
                    let joiner = self.operator()?;
                    self.close(joiner)?;
                }
                _ => self.word()?,
            }
        }
        match self.words.is_empty() {
            true if matches!(self.joiner, "" | ";") => Some(()),
            true => None,
            false => self.close(""),
        }
    }

    fn operator(&mut self) -> Option<&'static str> {
        let joiner = ["&&", "||", ";", "|"].into_iter().find(|joiner| self.rest().starts_with(joiner))?;
        self.at += joiner.len();
        (!matches!(self.peek(), Some('&' | '|' | ';'))).then_some(joiner)
    }

    /// Ends the command before an operator; an operator with nothing before it means something we don't follow.
    fn close(&mut self, next: &'static str) -> Option<()> {
        if self.words.is_empty() {
            return None;
        }
        let words = std::mem::take(&mut self.words);
        self.segments.push(Segment { joiner: std::mem::replace(&mut self.joiner, next), words });
        Some(())
    }

    fn word(&mut self) -> Option<()> {
        let start = self.at;
        let mut word = Word { value: String::new(), source: start..start, plain: true };
        while let Some(c) = self.peek() {
            match c {
                ' ' | '\t' | '\n' | '&' | '|' | ';' => break,
                '\'' => self.single_quoted(&mut word.value)?,
                '"' => self.double_quoted(&mut word.value)?,
                '\\' => {
                    self.at += 1;
                    word.value.push(self.take().filter(|c| *c != '\n')?);
                }
                '$' | '`' | '(' | ')' | '<' | '>' | '{' | '}' | '!' => return None,
                c if c.is_control() => return None,
                c => {
                    let tilde = c == '~' && self.at == start;
                    word.plain &= !(tilde || matches!(c, '*' | '?' | '[' | '='));
                    word.value.push(c);
                    self.at += c.len_utf8();
                }
            }
        }
        word.source.end = self.at;
        self.words.push(word);
        Some(())
    }

    fn single_quoted(&mut self, value: &mut String) -> Option<()> {
        self.at += 1;
        let end = self.rest().find('\'')?;
        value.push_str(&self.rest()[..end]);
        self.at += end + 1;
        Some(())
    }

    fn double_quoted(&mut self, value: &mut String) -> Option<()> {
        self.at += 1;
        loop {
            match self.take()? {
                '"' => return Some(()),
                '$' | '`' => return None,
                '\\' => match self.take()? {
                    c @ ('"' | '\\' | '$' | '`') => value.push(c),
                    '\n' => return None,
                    c => value.extend(['\\', c]),
                },
                c => value.push(c),
            }
        }
    }

    fn rest(&self) -> &str {
        &self.text[self.at..]
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn take(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.at += c.len_utf8();
        Some(c)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn argv(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    fn commands(script: &str) -> Option<Vec<Vec<String>>> {
        let words = |segment: Segment| segment.words.into_iter().map(|word| word.value).collect();
        parse(script).map(|segments| segments.into_iter().map(words).collect())
    }

    #[test]
    fn text_shows_every_argument_apart() {
        let text = command_text(&argv(&["/bin/sh", "-lc", "ls \"a b\"", "", "x "]));
        assert_eq!(text, r#"/bin/sh -lc "ls \"a b\"" "" "x ""#);
    }

    #[test]
    fn the_script_of_a_shell_is_found() {
        for (words, index) in [
            (&["/bin/sh", "-lc", "ls"][..], Some(2)),
            (&["bash", "-l", "-c", "ls"], Some(3)),
            (&["bash", "--norc", "-eo", "pipefail", "-c", "ls"], Some(5)),
            (&["bash", "script.sh", "-c", "x"], None),
            (&["sh", "-c"], None),
            (&["ls", "-c", "x"], None),
        ] {
            assert_eq!(script_index(&argv(words)), index, "{words:?}");
        }
    }

    #[test]
    fn plain_scripts_are_cut_into_their_commands() {
        let found = commands("ls -la '/tmp/a b' && echo \"it's\" | wc -l; pwd # the end").unwrap();
        let expected: Vec<Vec<String>> = vec![
            argv(&["ls", "-la", "/tmp/a b"]),
            argv(&["echo", "it's"]),
            argv(&["wc", "-l"]),
            argv(&["pwd"]),
        ];
        assert_eq!(found, expected);
        assert_eq!(commands("ls\n\npwd;\n").unwrap().len(), 2);
        assert_eq!(commands(r#"echo a\ b "c\"d" e'f'g"#).unwrap(), [argv(&["echo", "a b", "c\"d", "efg"])]);
    }

    #[test]
    fn whatever_hides_a_command_is_not_followed() {
        for script in [
            "ls $(id)",
            "ls `id`",
            "echo \"$(id)\"",
            "ls > /etc/passwd",
            "ls < x",
            "(id)",
            "{ id; }",
            "ls & id",
            "id &",
            "echo $HOME",
            "! id",
            "&& id",
            "id &&",
            "id ||",
            "id |",
            "ls ;; id",
            "ls |& id",
            "a\\\nb",
            "'open",
            "\"open",
            "",
            "# only",
            "ls\u{7}",
        ] {
            assert_eq!(parse(script), None, "{script:?}");
        }
    }

    #[test]
    fn wildcards_and_assignments_are_marked() {
        let plain =
            |script: &str| parse(script).unwrap()[0].words.iter().map(|word| word.plain).collect::<Vec<_>>();
        assert_eq!(plain("ls *.txt '*' ~/x a~"), [true, false, true, false, true]);
        assert_eq!(plain("PATH=/evil ls"), [false, true]);
    }

    proptest! {
        #[test]
        fn no_script_makes_the_parser_panic(script in ".{0,80}") {
            let _ = parse(&script);
        }

        #[test]
        fn a_quoted_word_comes_back_whole(word in "[^'\u{0}]{0,20}") {
            let segments = parse(&format!("echo '{word}'")).unwrap();
            prop_assert_eq!(&segments[0].words[1].value, &word);
        }
    }
}
