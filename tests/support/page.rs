//! The pages of `deploy/` as a person follows them: their commands, and a desk where these are typed.

use super::gateway::{TIDEGATE, clean_environment};
use super::lan::Host;
use super::official::NodeHost;
use super::patience::within;
use serde_json::Value;
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use tempfile::TempDir;

/// A page, or a part of one.
pub struct Page(String);

impl Page {
    /// A file of this project.
    pub fn of(path: &str) -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
        Self(fs::read_to_string(path).unwrap())
    }

    /// What stands under the heading that starts so, subheadings included.
    pub fn part(&self, heading: &str) -> Self {
        let level = |line: &str| line.chars().take_while(|c| *c == '#').count();
        let named = |line: &str| line.trim_start_matches(['#', ' ']).starts_with(heading);
        let mut lines = self.0.lines().skip_while(|line| level(line) < 2 || !named(line));
        let first = level(lines.next().unwrap_or_else(|| panic!("no part {heading}")));
        let rest = lines.take_while(|line| level(line) == 0 || level(line) > first);
        Self(rest.fold(String::new(), |text, line| text + line + "\n"))
    }

    /// With its examples replaced by what there is here. Each has to stand in it.
    pub fn with(&self, examples: &[(&str, &str)]) -> Self {
        Self(examples.iter().fold(self.0.clone(), |text, (from, to)| {
            assert!(text.contains(from), "no {from} on the page");
            text.replace(from, to)
        }))
    }

    /// The line that starts so.
    pub fn line(&self, start: &str) -> &str {
        self.0.lines().find(|line| line.starts_with(start)).unwrap_or_else(|| panic!("no line {start}"))
    }

    /// The blocks in this language.
    pub fn blocks(&self, language: &str) -> Vec<String> {
        let start = format!("```{language}\n");
        self.0.split(&start).skip(1).map(|rest| rest.split("```").next().unwrap().to_owned()).collect()
    }

    /// The commands, one a line, without remarks.
    pub fn commands(&self) -> Vec<String> {
        let blocks = self.blocks("sh").concat();
        let lines = blocks.lines().map(|line| line.split("   #").next().unwrap().trim().to_owned());
        lines.filter(|line| !line.is_empty()).collect()
    }
}

/// A machine with a person at its shell: a home with nothing in it, and `tidegate` on the `PATH`.
pub struct Desk {
    home: TempDir,
    place: Option<Host>,
    env: Vec<(String, String)>,
}

impl Desk {
    pub fn new() -> Self {
        let desk = Self { home: tempfile::tempdir().unwrap(), place: None, env: Vec::new() };
        desk.has("tidegate", &format!("exec '{TIDEGATE}' \"$@\""));
        desk
    }

    /// One on a LAN.
    pub fn on(place: &Host) -> Self {
        Self { place: Some(place.clone()), ..Self::new() }
    }

    pub fn home(&self) -> &Path {
        self.home.path()
    }

    fn bin(&self) -> PathBuf {
        self.home().join("bin")
    }

    /// A program of this name, by what a shell does for it.
    pub fn has(&self, name: &str, script: &str) {
        fs::create_dir_all(self.bin()).unwrap();
        fs::write(self.bin().join(name), format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(self.bin().join(name), fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// What the shell's environment has besides.
    pub fn env(mut self, key: &str, value: impl ToString) -> Self {
        self.env.push((key.to_owned(), value.to_string()));
        self
    }

    /// The config file, written as it stands on a page.
    pub fn writes_config(&self, text: &str) {
        fs::create_dir_all(self.home().join(".tidegate")).unwrap();
        fs::write(self.home().join(".tidegate/tidegate.json"), text).unwrap();
    }

    /// The token that the gateway here made for itself.
    pub fn token(&self) -> String {
        fs::read_to_string(self.home().join(".tidegate/gateway-token")).unwrap().trim().to_owned()
    }

    fn command(&self, line: &str) -> Command {
        let mut command = match &self.place {
            Some(place) => place.command("/bin/sh"),
            None => Command::new("/bin/sh"),
        };
        command.args(["-c", line]).current_dir(self.home()).stdin(Stdio::null()).process_group(0);
        clean_environment(&mut command, self.home());
        let path = std::env::var("PATH").unwrap_or_default();
        command.env("PATH", format!("{}:{path}", self.bin().display()));
        command.envs(self.env.iter().map(|(key, value)| (key, value)));
        command
    }

    pub async fn run(&self, line: &str) -> Output {
        let mut command = self.command(line);
        within(line, tokio::task::spawn_blocking(move || command.output().unwrap())).await.unwrap()
    }

    pub async fn ok(&self, line: &str) -> String {
        let output = self.run(line).await;
        assert!(output.status.success(), "{line}: {}", said(&output));
        String::from_utf8(output.stdout).unwrap()
    }

    pub async fn json(&self, line: &str) -> Value {
        serde_json::from_str(&self.ok(&format!("{line} --json")).await).unwrap()
    }

    pub async fn fails(&self, line: &str) -> (i32, String) {
        let output = self.run(line).await;
        assert!(!output.status.success(), "{line} succeeded: {}", said(&output));
        (output.status.code().unwrap(), said(&output))
    }

    /// Starts what stays, with its output in a file; it ends with the returned handle.
    pub fn start(&self, line: &str) -> NodeHost {
        let (path, _) = (0..)
            .map(|number| self.home().join(format!("console-{number}")))
            .find_map(|path| Some((path.clone(), File::create_new(path).ok()?)))
            .unwrap();
        let console = File::options().append(true).open(&path).unwrap();
        let mut command = self.command(line);
        command.stdout(console.try_clone().unwrap()).stderr(console);
        NodeHost::spawned(command.spawn().unwrap(), path)
    }
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}
