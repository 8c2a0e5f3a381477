//! How the release binary is laid out, so that little of it is in memory while it waits.
//!
//! The kernel maps a program in pieces of 64 KiB around whatever runs. What runs in a gateway is a fifth of the program,
//! strewn all over it; side by side (`link/order.txt`) it fills less than half of the pieces. Relocations are packed, since
//! the loader reads them all.

use std::env;
use std::path::Path;
use std::process::{Command, Stdio};

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=link/order.txt");
    let of = |name: &str| env::var(name).unwrap_or_default();
    let is_linux = of("CARGO_CFG_TARGET_OS") == "linux" && of("CARGO_CFG_TARGET_ENV") == "gnu";
    if !is_linux || of("PROFILE") != "release" {
        return;
    }
    let order = Path::new(&of("CARGO_MANIFEST_DIR")).join("link/order.txt");
    for argument in [
        "-Wl,-z,pack-relative-relocs".to_owned(),
        format!("-Wl,--symbol-ordering-file={},--no-warn-symbol-ordering", order.display()),
    ] {
        if works(&argument) {
            println!("cargo::rustc-link-arg-bins={argument}");
        }
    }
}

/// Whether a program linked so runs here: not every linker takes these, nor does every libc what comes out. Without them
/// the program is the same, only larger.
fn works(argument: &str) -> bool {
    let Ok(folder) = env::var("OUT_DIR") else { return false };
    let (source, program) = (Path::new(&folder).join("empty.rs"), Path::new(&folder).join("empty"));
    if std::fs::write(&source, "fn main() {}").is_err() {
        return false;
    }
    let mut rustc = Command::new(env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
    let flags = env::var("CARGO_ENCODED_RUSTFLAGS").unwrap_or_default();
    rustc.args(flags.split('\u{1f}').filter(|flag| !flag.is_empty()));
    rustc.args(["--target", &env::var("TARGET").unwrap_or_default(), "-C", &format!("link-arg={argument}")]);
    if let Ok(linker) = env::var("RUSTC_LINKER") {
        rustc.args(["-C", &format!("linker={linker}")]);
    }
    rustc.arg("-o").arg(&program).arg(&source);
    succeeds(&mut rustc) && succeeds(&mut Command::new(program))
}

fn succeeds(command: &mut Command) -> bool {
    command.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}
