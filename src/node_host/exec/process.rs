//! Runs one program in a process group of its own, and ends the whole group when it must stop.

use std::{io, path::PathBuf, process::Stdio, time::Duration};

use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    process::{Child, Command},
    sync::watch,
    time::{Instant, sleep_until},
};

use super::output::CappedOutput;

/// Between the polite signal and the one that cannot be ignored.
const TERM_GRACE: Duration = Duration::from_secs(2);
/// A program that ended may leave children that hold its pipes open; we do not wait for them.
const DRAIN: Duration = Duration::from_millis(250);
const READ_BYTES: usize = 8 * 1024;

/// What to run.
#[derive(Debug)]
pub(crate) struct Launch {
    pub(crate) argv: Vec<String>,
    pub(crate) cwd: PathBuf,
    pub(crate) env: Vec<(String, String)>,
    /// Variables of this process that the program must not inherit.
    pub(crate) hidden: Vec<String>,
    pub(crate) timeout: Option<Duration>,
}

/// Why a program was ended by us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stopped {
    TimedOut,
    Cancelled,
}

/// How a program ended.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) exit_code: Option<i32>,
    pub(crate) signal: Option<i32>,
    pub(crate) stopped: Option<Stopped>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Becomes `true` when the work should stop.
pub(crate) type Cancel = watch::Receiver<bool>;

/// Runs `launch` to its end, its timeout or its cancellation. `seen` gets every piece of output as it comes.
pub(crate) async fn run(
    launch: Launch,
    mut cancel: Cancel,
    mut seen: impl FnMut(&[u8]),
) -> io::Result<Finished> {
    let mut child = spawn(&launch)?;
    let mut group = Group::of(&child);
    let (mut stdout, mut stderr) = (Pipe::new(child.stdout.take()), Pipe::new(child.stderr.take()));
    let mut end = End::default();
    let limit = launch.timeout.map(|after| Instant::now() + after);
    while !(end.status.is_some() && stdout.closed() && stderr.closed()) {
        tokio::select! {
            bytes = stdout.read(), if !stdout.closed() => seen(bytes),
            bytes = stderr.read(), if !stderr.closed() => seen(bytes),
            status = child.wait(), if end.status.is_none() => {
                end.status = Some(status?);
                if end.stopped.is_some() { group.kill(); } else { group.release(); }
                end.drain_until = Some(Instant::now() + DRAIN);
            }
            () = at(end.drain_until), if end.drain_until.is_some() => break,
            () = at(limit), if limit.is_some() && end.may_stop() => end.stop(Stopped::TimedOut, &group),
            () = cancelled(&mut cancel), if end.may_stop() => end.stop(Stopped::Cancelled, &group),
            () = at(end.kill_at), if end.kill_at.is_some() => { end.kill_at = None; group.kill(); }
        }
    }
    Ok(end.finish(stdout.output, stderr.output))
}

fn spawn(launch: &Launch) -> io::Result<Child> {
    let (program, args) =
        launch.argv.split_first().ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
    let mut command = Command::new(program);
    command
        .args(args)
        .current_dir(&launch.cwd)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    for name in &launch.hidden {
        command.env_remove(name);
    }
    command
        .envs(launch.env.iter().map(|(name, value)| (name, value)))
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
}

#[derive(Default)]
struct End {
    status: Option<std::process::ExitStatus>,
    stopped: Option<Stopped>,
    drain_until: Option<Instant>,
    kill_at: Option<Instant>,
}

impl End {
    fn may_stop(&self) -> bool {
        self.stopped.is_none() && self.status.is_none()
    }

    fn stop(&mut self, why: Stopped, group: &Group) {
        self.stopped = Some(why);
        self.kill_at = Some(Instant::now() + TERM_GRACE);
        group.signal(Signal::SIGTERM);
    }

    fn finish(self, stdout: CappedOutput, stderr: CappedOutput) -> Finished {
        use std::os::unix::process::ExitStatusExt;
        Finished {
            exit_code: self.status.and_then(|status| status.code()),
            signal: self.status.and_then(|status| status.signal()),
            stopped: self.stopped,
            stdout: stdout.into_text(),
            stderr: stderr.into_text(),
        }
    }
}

/// The process group of a running program; dropping it ends the group.
struct Group(Option<Pid>);

impl Group {
    fn of(child: &Child) -> Self {
        Self(child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw))
    }

    fn signal(&self, signal: Signal) {
        if let Some(group) = self.0 {
            // The group may be gone already; there is nothing to do about it then.
            let _ = killpg(group, signal);
        }
    }

    fn kill(&mut self) {
        self.signal(Signal::SIGKILL);
    }

    /// The program ended by itself: what it left running on purpose may stay.
    fn release(&mut self) {
        self.0 = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.kill();
    }
}

struct Pipe<R> {
    reader: Option<R>,
    buffer: Vec<u8>,
    output: CappedOutput,
}

impl<R: AsyncRead + Unpin> Pipe<R> {
    fn new(reader: Option<R>) -> Self {
        Self { reader, buffer: vec![0; READ_BYTES], output: CappedOutput::default() }
    }

    fn closed(&self) -> bool {
        self.reader.is_none()
    }

    async fn read(&mut self) -> &[u8] {
        let Some(reader) = &mut self.reader else { return &[] };
        let read = reader.read(&mut self.buffer).await.unwrap_or(0);
        if read == 0 {
            self.reader = None;
        }
        self.output.push(&self.buffer[..read]);
        &self.buffer[..read]
    }
}

async fn at(when: Option<Instant>) {
    match when {
        Some(when) => sleep_until(when).await,
        None => std::future::pending().await,
    }
}

async fn cancelled(cancel: &mut Cancel) {
    if cancel.wait_for(|stop| *stop).await.is_err() {
        // Nobody is left who could cancel.
        std::future::pending::<()>().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Launch {
        Launch {
            argv: vec!["/bin/sh".into(), "-c".into(), script.into()],
            cwd: "/".into(),
            env: vec![("TIDEGATE_TEST_VALUE".into(), "from the request".into())],
            hidden: vec!["HOME".into()],
            timeout: Some(Duration::from_secs(20)),
        }
    }

    fn never() -> (watch::Sender<bool>, Cancel) {
        watch::channel(false)
    }

    fn alive(pid: &str) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim()));
        stat.is_ok_and(|text| !text.contains(") Z "))
    }

    async fn gone(pid: &str) -> bool {
        for _ in 0..100 {
            if !alive(pid) {
                return true;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        false
    }

    #[tokio::test]
    async fn output_exit_code_and_environment_come_back() {
        let (_keep, cancel) = never();
        let mut seen = Vec::new();
        let script = "echo \"$TIDEGATE_TEST_VALUE ${HOME:-unset}\"; echo oops >&2; pwd; exit 3";
        let done = run(shell(script), cancel, |bytes| seen.extend_from_slice(bytes)).await.unwrap();
        assert_eq!(done.stdout, "from the request unset\n/\n");
        assert_eq!(done.stderr, "oops\n");
        assert_eq!((done.exit_code, done.stopped), (Some(3), None));
        assert_eq!(seen.len(), done.stdout.len() + done.stderr.len());
    }

    #[tokio::test]
    async fn a_timeout_ends_the_whole_group() {
        let (_keep, cancel) = never();
        let mut launch = shell("sleep 300 & echo $!; trap '' TERM; wait");
        launch.timeout = Some(Duration::from_millis(300));
        let done = run(launch, cancel, |_| ()).await.unwrap();
        assert_eq!(done.stopped, Some(Stopped::TimedOut));
        assert!(gone(&done.stdout).await, "the grandchild {} survived", done.stdout);
    }

    #[tokio::test]
    async fn cancelling_ends_it_at_once() {
        let (stop, cancel) = never();
        let work = tokio::spawn(run(shell("sleep 300"), cancel, |_| ()));
        tokio::time::sleep(Duration::from_millis(100)).await;
        stop.send(true).unwrap();
        let done = work.await.unwrap().unwrap();
        assert_eq!((done.stopped, done.signal), (Some(Stopped::Cancelled), Some(15)));
    }

    #[tokio::test]
    async fn a_child_left_in_the_background_does_not_hold_the_answer() {
        let (_keep, cancel) = never();
        let done = run(shell("sleep 300 & echo $!"), cancel, |_| ()).await.unwrap();
        assert_eq!(done.exit_code, Some(0));
        assert!(alive(&done.stdout), "what was left running on purpose was killed");
        let pid = done.stdout.trim().parse().unwrap();
        let _ = nix::sys::signal::kill(Pid::from_raw(pid), Signal::SIGKILL);
    }

    #[tokio::test]
    async fn dropping_the_work_ends_the_group() {
        let (_keep, cancel) = never();
        let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
        let work = tokio::spawn(run(shell("sleep 300 & echo $!; wait"), cancel, move |bytes| {
            let _ = tell.send(String::from_utf8_lossy(bytes).into_owned());
        }));
        let pid = told.recv().await.unwrap();
        work.abort();
        assert!(gone(&pid).await, "{pid} survived");
    }
}
