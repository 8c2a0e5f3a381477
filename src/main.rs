//! The `tidegate` program.

use std::process::ExitCode;

fn main() -> ExitCode {
    return_large_blocks();
    tidegate::cli::run()
}

/// Has large blocks of memory go back to the system when they are freed. Left alone,
/// glibc raises its threshold with the first large frame and keeps such blocks for ever:
/// an idle gateway would hold tens of megabytes that it used once.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn return_large_blocks() {
    // SAFETY: `mallopt` takes two integers, and no other thread runs yet.
    #[allow(unsafe_code)]
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, 131_072);
    }
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
fn return_large_blocks() {}
