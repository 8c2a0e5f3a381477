//! The commands this node serves. A table says which there are; each capability stands for some of them.

mod approvals;
mod files;
mod list_dir;
mod upload;
mod which;

use std::{sync::Arc, time::Duration};

use serde::de::DeserializeOwned;
use serde_json::{Value, value::RawValue};

pub(super) use upload::Uploads;

use super::{
    duplex::Duplex,
    exec::{self, Cancel},
    failure::Failure,
    host::Host,
    link::Progress,
};

/// A command and the capability it belongs to, if any.
struct Command {
    name: &'static str,
    cap: Option<&'static str>,
}

/// Everything this node can do, sorted as it is declared.
const COMMANDS: &[Command] = &[
    Command { name: "dir.fetch", cap: Some("file") },
    Command { name: "dir.list", cap: Some("file") },
    Command { name: "file.create", cap: Some("file") },
    Command { name: "file.fetch", cap: Some("file") },
    Command { name: "file.stat", cap: Some("file") },
    Command { name: "file.write", cap: Some("file") },
    Command { name: "fs.listDir", cap: None },
    Command { name: "system.execApprovals.get", cap: Some("system") },
    Command { name: "system.execApprovals.set", cap: Some("system") },
    Command { name: "system.run", cap: Some("system") },
    Command { name: "system.run.prepare", cap: Some("system") },
    Command { name: "system.which", cap: Some("system") },
    Command { name: "terminal.upload", cap: Some("system") },
];

/// What a node declares when it connects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Surface {
    pub(crate) caps: Vec<String>,
    pub(crate) commands: Vec<String>,
    /// Everything, not a list that somebody chose.
    pub(crate) full: bool,
}

impl Surface {
    /// Everything, or those of `only` that exist; `None` when none of them does.
    pub(crate) fn of(only: Option<&[String]>) -> Option<Self> {
        let chosen =
            |command: &&Command| only.is_none_or(|only| only.iter().any(|name| name == command.name));
        let commands: Vec<&Command> = COMMANDS.iter().filter(chosen).collect();
        let mut caps: Vec<String> =
            commands.iter().filter_map(|command| command.cap).map(str::to_owned).collect();
        caps.sort();
        caps.dedup();
        let names = commands.iter().map(|command| command.name.to_owned()).collect::<Vec<_>>();
        (!names.is_empty()).then_some(Self { caps, commands: names, full: only.is_none() })
    }

    pub(crate) fn serves(&self, command: &str) -> bool {
        self.commands.iter().any(|name| name == command)
    }
}

/// The names of all commands, for the help that goes with an empty choice.
pub(crate) fn all_names() -> String {
    COMMANDS.iter().map(|command| command.name).collect::<Vec<_>>().join(", ")
}

/// What a command may tell and hear while it runs.
pub(crate) struct Talk {
    pub(crate) progress: Progress,
    /// Only for commands that [`is_two_way`] names.
    pub(crate) duplex: Option<Duplex>,
}

/// Whether a command exchanges messages with the gateway while it runs, always or on demand.
pub(crate) fn is_two_way(command: &str) -> bool {
    matches!(command, "file.create" | "file.fetch")
}

/// Runs one command to its end and returns its payload as JSON.
pub(crate) async fn dispatch(
    host: Arc<Host>,
    command: &str,
    params: Option<Box<RawValue>>,
    limit: Option<Duration>,
    cancel: Cancel,
    talk: Talk,
) -> Result<Value, Failure> {
    let raw = params.as_deref();
    match command {
        "system.run" => {
            let params = read(command, raw)?;
            exec::run(&host, params, limit, cancel, talk.progress).await
        }
        "system.run.prepare" => {
            let params = read(command, raw)?;
            blocking(move || exec::prepare(params, host.approvals(), host.folder())).await
        }
        "system.which" => {
            let params = read(command, raw)?;
            blocking(move || Ok(which::which(params, host.folder()))).await
        }
        "dir.fetch" => {
            let params = read(command, raw)?;
            blocking(move || Ok(files::answer(files::fetch_folder(params)))).await
        }
        "dir.list" => {
            let params = read(command, raw)?;
            blocking(move || Ok(files::answer(files::list(params)))).await
        }
        "file.create" => files::create(read(command, raw)?, two_way(command, talk)?).await,
        "file.fetch" => {
            let params: files::FetchParams = read(command, raw)?;
            if params.is_streamed() {
                return files::stream(params, two_way(command, talk)?).await;
            }
            blocking(move || Ok(files::answer(files::fetch(params)))).await
        }
        "file.stat" => {
            let params = read(command, raw)?;
            blocking(move || Ok(files::answer(files::stat(params)))).await
        }
        "file.write" => {
            let params = read(command, raw)?;
            blocking(move || Ok(files::answer(files::write(params)))).await
        }
        "fs.listDir" => {
            let params = read(command, raw)?;
            blocking(move || list_dir::list(params, host.home())).await
        }
        "system.execApprovals.get" => blocking(move || approvals::get(host.approvals())).await,
        "system.execApprovals.set" => {
            let params = read(command, raw)?;
            blocking(move || approvals::set(params, host.approvals())).await
        }
        "terminal.upload" => {
            let params = read(command, raw)?;
            blocking(move || upload::upload(params, host.uploads())).await
        }
        _ => Err(Failure::invalid(format!("this node does not serve {command}"))),
    }
}

fn read<T: DeserializeOwned>(command: &str, raw: Option<&RawValue>) -> Result<T, Failure> {
    tidegate_protocol::params::parse(command, raw).map_err(|error| Failure::invalid(error.message))
}

fn two_way(command: &str, talk: Talk) -> Result<Duplex, Failure> {
    talk.duplex.ok_or_else(|| Failure::unavailable(format!("{command} needs a two-way channel")))
}

/// The disk may be slow; the connection must not be.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|_| Err(Failure::unavailable("the command failed inside the node host")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_choice_declares_what_it_names_and_its_capabilities() {
        let all = Surface::of(None).unwrap();
        assert!(all.full && all.serves("system.run") && all.commands.is_sorted());
        assert_eq!(all.caps, ["file", "system"]);
        let some = Surface::of(Some(&["fs.listDir".into(), "nope".into()])).unwrap();
        assert_eq!((some.caps.len(), some.commands, some.full), (0, vec!["fs.listDir".to_owned()], false));
        assert_eq!(Surface::of(Some(&["nope".into()])), None);
    }
}
