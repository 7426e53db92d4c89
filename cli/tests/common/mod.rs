//! Runs the built command, and the system's tools beside it.
#![allow(dead_code, reason = "each test file uses a part")]

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;
use std::thread;

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

/// Leaves nothing running when a test fails.
pub(crate) struct Killed(pub(crate) Child);

impl Drop for Killed {
    fn drop(&mut self) {
        // One that has ended needs no killing.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts `command` with pipes for what it prints.
pub(crate) fn start(mut command: Command) -> Killed {
    Killed(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the command starts"))
}

/// Does what may block for ever, or fails after a while.
pub(crate) fn within<T: Send + 'static>(what: &str, act: impl FnOnce() -> T + Send + 'static) -> T {
    let (send, receive) = mpsc::channel();
    thread::spawn(move || {
        // Nobody waits for what comes too late.
        let _ = send.send(act());
    });
    receive.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("{what} takes too long"))
}

/// Reads one line, which must come while the other end is open.
pub(crate) fn read_line<R: Read + Send + 'static>(mut from: BufReader<R>) -> (String, BufReader<R>) {
    within("a line", move || {
        let mut line = String::new();
        from.read_line(&mut line).expect("text");
        (line, from)
    })
}

/// Reads to the end, which comes when nobody has the other end open.
pub(crate) fn read_to_end(mut from: impl Read + Send + 'static) -> String {
    within("the end", move || {
        let mut rest = String::new();
        from.read_to_string(&mut rest).expect("text");
        rest
    })
}

/// Makes a named pipe: whoever opens one end waits for the other, which is the event that tests wait for.
pub(crate) fn fifo(folder: &Path, name: &str) -> PathBuf {
    shell(folder, &format!("mkfifo {name}"));
    folder.join(name)
}

/// Opens a named pipe to read, when somebody writes it.
pub(crate) fn open(fifo: &Path) -> BufReader<File> {
    let fifo = fifo.to_owned();
    BufReader::new(within("a writer", move || File::open(fifo).expect("a pipe")))
}

/// Lets everybody go on who reads a named pipe, once somebody does.
pub(crate) fn release(fifo: &Path) {
    let fifo = fifo.to_owned();
    within("a reader", move || drop(File::options().write(true).open(fifo).expect("a pipe")));
}

/// The exit code.
pub(crate) fn exit_code(child: &mut Killed) -> Option<i32> {
    child.0.wait().expect("it ends").code()
}
