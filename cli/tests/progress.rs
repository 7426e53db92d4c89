//! The progress bar: seen on a terminal, and nowhere else.

mod common;

use common::{Killed, exit_code, fifo, layshaft, release, text, within, write};
use rustix::fs::OFlags;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::Stdio;
use tempfile::tempdir;

/// A terminal: the side of who looks at it, and the side of the command.
fn terminal() -> (File, File) {
    let screen = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
    grantpt(&screen).expect("a terminal");
    unlockpt(&screen).expect("a terminal");
    let name = ptsname(&screen, Vec::new()).expect("a name");
    let flags = OFlags::NOCTTY.bits().try_into().expect("a flag");
    let open = File::options().read(true).write(true).custom_flags(flags).open(OsStr::from_bytes(name.as_bytes()));
    (screen.into(), open.expect("a terminal"))
}

/// Starts the command with its errors on a terminal.
fn start(folder: &Path, args: &[&str]) -> (Killed, File) {
    let (screen, errors) = terminal();
    let mut command = layshaft(folder, args);
    command.stdout(Stdio::piped()).stderr(errors).env("TERM", "xterm");
    (Killed(command.spawn().expect("the command starts")), screen)
}

/// Reads what is shown until it has `part`, or until the command ends.
fn read_until(mut screen: File, part: Option<&'static str>) -> (String, File) {
    within(part.unwrap_or("the end"), move || {
        let (mut shown, mut buffer) = (Vec::new(), [0; 1024]);
        // An error means that nobody has the other side any more.
        while let Ok(n @ 1..) = screen.read(&mut buffer) {
            shown.extend_from_slice(&buffer[..n]);
            if part.is_some_and(|part| text(&shown).contains(part)) {
                break;
            }
        }
        (text(&shown), screen)
    })
}

#[test]
fn a_terminal_shows_how_many_are_done() {
    let folder = tempdir().expect("a folder");
    write(folder.path(), "a", "12345");
    write(folder.path(), "b", "12345");
    let gate = fifo(folder.path(), "gate");
    let (mut child, screen) = start(folder.path(), &["map", "crc32", "a", "b", "gate"]);
    let (_, screen) = read_until(screen, Some("2/3 in "));
    release(&gate);
    let (rest, _screen) = read_until(screen, None);
    // Cleared, before the summary.
    assert!(rest.contains("\x1b[2Klayshaft: 3 jobs, 0 failed"), "{rest:?}");
    assert_eq!(exit_code(&mut child), Some(0));
}

#[test]
fn an_error_does_not_break_the_bar() {
    let folder = tempdir().expect("a folder");
    let gate = fifo(folder.path(), "gate");
    let (mut child, screen) = start(folder.path(), &["map", "--files-from", "/dev/null", "crc32", "missing", "gate"]);
    let (shown, screen) = read_until(screen, Some("1 done in "));
    assert!(shown.contains("layshaft: cannot read 'missing': No such file or directory (os error 2)\r\n"), "{shown:?}");
    release(&gate);
    let _ = read_until(screen, None);
    assert_eq!(exit_code(&mut child), Some(1));
}

#[test]
fn nobody_who_does_not_want_it_gets_it() {
    let folder = tempdir().expect("a folder");
    write(folder.path(), "a", "12345");
    for (option, want) in [("--no-progress", "layshaft: 1 job, "), ("--quiet", "")] {
        let (mut child, screen) = start(folder.path(), &["map", option, "crc32", "a"]);
        let (shown, _screen) = read_until(screen, None);
        assert!(shown.starts_with(want) && !shown.contains('\x1b') && shown.lines().count() <= 1, "{shown:?}");
        assert_eq!(exit_code(&mut child), Some(0));
    }
}
