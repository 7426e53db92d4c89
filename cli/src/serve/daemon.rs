//! To the background, and to another user. Never by a fork of this process, which might have threads: the command is started
//! again, and tells by a pipe when it listens.

use crate::EXIT_USAGE;
use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, setrlimit, setsid, umask};
use std::env;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

/// What is written to the pipe when the server listens.
const READY: &[u8] = b"ready\n";
/// This very program, though its file be replaced.
const SELF: &str = "/proc/self/exe";

/// This command once more.
fn again() -> Command {
    let mut command = Command::new(SELF);
    let mut args = env::args_os();
    command.arg0(args.next().unwrap_or_else(|| OsString::from("layshaft"))).args(args);
    command
}

/// Starts this command in the background, and waits until it listens or has said what is wrong: the exit code.
///
/// # Errors
/// When it cannot be started.
pub(super) fn launch() -> Result<u8, String> {
    let mut command = again();
    command.arg("--is-daemon").stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = command.spawn().map_err(|error| format!("cannot go to the background: {error}"))?;
    let mut told = Vec::new();
    if let Some(mut pipe) = child.stdout.take() {
        // What is cut off is not ready.
        let _ = pipe.read_to_end(&mut told);
    }
    if told == READY {
        return Ok(0);
    }
    let status = child.wait().map_err(|error| format!("cannot wait for the background: {error}"))?;
    Ok(status.code().and_then(|code| code.try_into().ok()).unwrap_or(EXIT_USAGE))
}

/// Leaves the session and folder that the command was started in.
///
/// # Errors
/// When that cannot be done.
pub(super) fn detach() -> Result<(), String> {
    let cannot = |error: io::Error| format!("cannot go to the background: {error}");
    setsid().map_err(|error| cannot(error.into()))?;
    env::set_current_dir("/").map_err(cannot)?;
    umask(rustix::fs::Mode::from_raw_mode(0o027));
    Ok(())
}

/// Tells whoever has started this that the server listens, and lets go of its terminal.
///
/// # Errors
/// When there is no `/dev/null`.
pub(super) fn tell_ready() -> io::Result<()> {
    let mut output = io::stdout();
    // One that is gone need not know.
    let _ = output.write_all(READY).and_then(|()| output.flush());
    let null = File::options().read(true).write(true).open("/dev/null")?;
    rustix::stdio::dup2_stdin(&null)?;
    rustix::stdio::dup2_stderr(&null)?;
    // The last one: with it the pipe is closed.
    rustix::stdio::dup2_stdout(&null)?;
    Ok(())
}

/// Becomes another user, by starting this command again in the place of this one. Returns when this is that user.
///
/// # Errors
/// When there is no such user, or this is not root.
pub(super) fn become_user(user: &str) -> Result<(), String> {
    let known = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let found = known.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        let is_it = fields.first() == Some(&user) || fields.get(2) == Some(&user);
        let number = |at: usize| fields.get(at).and_then(|field| field.parse::<u32>().ok());
        number(2).zip(number(3)).filter(|_| is_it)
    });
    let (uid, gid) = found.ok_or_else(|| format!("there is no user {user:?}"))?;
    if rustix::process::getuid().as_raw() == uid {
        return Ok(());
    }
    if !rustix::process::geteuid().is_root() {
        return Err(format!("only root can become user {user:?}"));
    }
    // It leaves root's other groups, too, and fails if any of that does.
    let error = again().uid(uid).gid(gid).exec();
    Err(format!("cannot become user {user:?}: {error}"))
}

/// Lets so many files be open.
///
/// # Errors
/// When the system does not allow it.
pub(super) fn allow_files(most: u64) -> Result<(), String> {
    let limit = getrlimit(Resource::Nofile);
    let maximum = limit.maximum.map(|maximum| maximum.max(most));
    setrlimit(Resource::Nofile, Rlimit { current: Some(most), maximum }).map_err(|error| {
        let maximum = limit.maximum.map_or("?".to_owned(), |maximum| maximum.to_string());
        format!("cannot have {most} files open: {error}; {maximum} are allowed")
    })
}

/// Sends USR1 to whoever waits for this server.
///
/// # Errors
/// When there is no such process.
pub(super) fn notify(pid: i32) -> Result<(), String> {
    let process = Pid::from_raw(pid).filter(|_| pid > 0);
    let sent = process.ok_or(rustix::io::Errno::INVAL).and_then(|process| kill_process(process, Signal::USR1));
    sent.map_err(|error| format!("cannot tell process {pid}: {error}"))
}

/// The folder that relative paths are in.
///
/// # Errors
/// When it is gone.
pub(super) fn folder() -> Result<std::path::PathBuf, String> {
    env::current_dir().map_err(|error| format!("the current folder is not there: {error}"))
}
