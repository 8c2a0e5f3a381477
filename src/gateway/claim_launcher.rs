//! Runs another program so that it ends with the gateway, however that ends.
//!
//! The gateway starts itself once more; that process asks the kernel to be ended when its parent is, and becomes the
//! other program. "Parent" means the thread that started it, which is the gateway's main one. Only Linux can do this;
//! elsewhere the other program ends when the gateway is stopped in good order.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// The hidden command of the command line that [`become_program`] stands behind.
pub const COMMAND: &str = "hold-claim";

/// The words to put before another program's. Its parent has to be this process.
pub(super) fn launcher() -> Vec<OsString> {
    let parent = std::process::id().to_string();
    // Whatever has become of the file meanwhile, this is the program that runs.
    let own = if cfg!(target_os = "linux") {
        "/proc/self/exe".into()
    } else {
        std::env::current_exe().map_or_else(|_| "tidegate".into(), OsString::from)
    };
    vec![own, COMMAND.into(), "--parent".into(), parent.into(), "--".into()]
}

/// Becomes `program`, which ends when the process `parent` does. Returns only if that failed.
pub fn become_program(parent: u32, program: &[OsString]) -> std::io::Error {
    let Some((name, args)) = program.split_first() else {
        return std::io::Error::other("no program was named");
    };
    if let Err(error) = end_with_parent() {
        return error;
    }
    // It may have ended before the kernel was asked.
    if nix::unistd::getppid().as_raw() != parent.cast_signed() {
        return std::io::Error::other("the gateway that wanted this has ended");
    }
    Command::new(name).args(args).exec()
}

#[cfg(target_os = "linux")]
fn end_with_parent() -> std::io::Result<()> {
    Ok(nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGTERM)?)
}

#[cfg(not(target_os = "linux"))]
fn end_with_parent() -> std::io::Result<()> {
    Ok(())
}
