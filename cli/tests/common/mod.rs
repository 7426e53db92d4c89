//! Runs the built command, and the system's tools beside it.
#![allow(dead_code, reason = "each test file uses a part")]

use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// Longer than anything here takes, short enough to learn of a hang.
pub(crate) const PATIENCE: std::time::Duration = std::time::Duration::from_secs(60);

/// The command with its arguments, run in `folder`, with nothing to read.
pub(crate) fn layshaft<S: AsRef<OsStr>>(folder: &Path, args: impl IntoIterator<Item = S>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_layshaft"));
    command.args(args).current_dir(folder).stdin(Stdio::null());
    command
}

/// Runs `command` to its end.
pub(crate) fn run(mut command: Command) -> Output {
    command.output().expect("the command starts")
}

/// What `layshaft map` prints for `args`, which must succeed.
pub(crate) fn map<S: AsRef<OsStr>>(folder: &Path, args: impl IntoIterator<Item = S>) -> Vec<u8> {
    let mut command = layshaft(folder, ["map", "--quiet"]);
    command.args(args);
    let output = run(command);
    assert_eq!(text(&output.stderr), "");
    assert_eq!(output.status.code(), Some(0));
    output.stdout
}

/// What a shell command prints, which must succeed. Without a locale, so that tools count and sort bytes.
pub(crate) fn shell(folder: &Path, script: &str) -> Vec<u8> {
    let output = Command::new("sh").args(["-c", script]).env("LC_ALL", "C").current_dir(folder).output();
    let output = output.expect("a shell starts");
    assert!(output.status.success(), "`{script}` failed: {}", text(&output.stderr));
    output.stdout
}

/// Shows what was printed.
pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Compares outputs as text, so that a difference can be read.
#[track_caller]
pub(crate) fn assert_same(got: &[u8], want: &[u8]) {
    assert_eq!(text(got), text(want));
    assert_eq!(got, want);
}

/// Writes a file, making its folders.
pub(crate) fn write(folder: &Path, name: impl AsRef<Path>, content: impl AsRef<[u8]>) {
    let path = folder.join(name);
    fs::create_dir_all(path.parent().expect("below a folder")).expect("folders can be made");
    fs::write(path, content).expect("files can be written");
}

/// Bytes that look random and are the same in every run.
pub(crate) fn noise(len: usize) -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1du64;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}
