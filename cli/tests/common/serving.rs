//! A running `layshaft serve`.
#![allow(dead_code, reason = "each test file uses a part")]

use crate::common::{Killed, exit_code, layshaft, read_line, read_to_end, start, within};
use crate::peer::Peer;
use rustix::process::{Pid, PidfdFlags, Signal, WaitOptions, kill_process, pidfd_open, waitpid};
use std::fs;
use std::io::BufReader;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{ChildStderr, Command};

pub(crate) struct Serving {
    pub(crate) child: Killed,
    errors: Option<BufReader<ChildStderr>>,
    /// What it said before it listened, with that.
    pub(crate) said: Vec<String>,
    pub(crate) address: SocketAddr,
}

/// Serves on a port of its own.
pub(crate) fn serve(folder: &Path, args: &[&str]) -> Serving {
    let mut command = layshaft(folder, ["serve", "--listen", "127.0.0.1:0"]);
    command.args(args);
    listening(command)
}

/// Starts it, and waits until it listens.
pub(crate) fn listening(command: Command) -> Serving {
    let mut child = start(command);
    let mut errors = BufReader::new(child.0.stderr.take().expect("piped"));
    let mut said = Vec::new();
    loop {
        let (line, rest) = read_line(errors);
        errors = rest;
        assert!(!line.is_empty(), "it has ended: {said:?}");
        said.push(line.trim_end().to_owned());
        if let Some((_, address)) = line.trim_end().split_once("listening on ") {
            let address = address.split('"').next().expect("a word").parse().expect("an address");
            return Serving { child, errors: Some(errors), said, address };
        }
    }
}

impl Serving {
    pub(crate) fn peer(&self) -> Peer {
        Peer::at(self.address)
    }

    pub(crate) fn signal(&self, signal: Signal) {
        send(self.child.0.id(), signal);
    }

    /// Stops it until it is told to go on.
    pub(crate) fn stop(&self) {
        self.signal(Signal::STOP);
        let stopped = waitpid(Some(process(self.child.0.id())), WaitOptions::UNTRACED).expect("it is ours");
        assert!(stopped.expect("it was waited for").1.stopped());
    }

    /// The next line of the log.
    pub(crate) fn line(&mut self) -> String {
        let (line, rest) = read_line(self.errors.take().expect("it is not read to its end"));
        self.errors = Some(rest);
        line.trim_end().to_owned()
    }

    /// The next line with these words in it.
    pub(crate) fn line_with(&mut self, words: &str) -> String {
        loop {
            let line = self.line();
            assert!(!line.is_empty(), "the end, and no {words:?}");
            if line.contains(words) {
                return line;
            }
        }
    }

    /// Waits for its end: the rest of the log, and the exit code.
    pub(crate) fn end(mut self) -> (String, Option<i32>) {
        let rest = read_to_end(self.errors.take().expect("it is not read to its end"));
        (rest, exit_code(&mut self.child))
    }

    /// Ends it as a service manager would.
    #[track_caller]
    pub(crate) fn terminate(self) -> String {
        self.signal(Signal::TERM);
        let (rest, code) = self.end();
        assert_eq!(code, Some(0), "{rest}");
        rest
    }

    pub(crate) fn is_refused(&self) -> bool {
        TcpStream::connect(self.address).is_err()
    }
}

pub(crate) fn send(pid: u32, signal: Signal) {
    kill_process(process(pid), signal).expect("it runs");
}

fn process(pid: u32) -> Pid {
    Pid::from_raw(i32::try_from(pid).expect("a pid")).expect("a pid")
}

/// A process that is no child: its end can be waited for.
pub(crate) struct Stranger {
    pub(crate) pid: u32,
    handle: Option<std::os::fd::OwnedFd>,
}

impl Stranger {
    pub(crate) fn of(pidfile: &Path) -> Stranger {
        let pid = fs::read_to_string(pidfile).expect("a pidfile").trim().parse().expect("a number");
        Stranger { pid, handle: Some(pidfd_open(process(pid), PidfdFlags::empty()).expect("it runs")) }
    }

    pub(crate) fn terminate(mut self) {
        send(self.pid, Signal::TERM);
        let handle = self.handle.take().expect("it is waited for once");
        within("its end", move || {
            let fd = rustix::event::PollFd::new(&handle, rustix::event::PollFlags::IN);
            rustix::event::poll(&mut [fd], None).expect("it can be waited for");
        });
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        if let Some(handle) = &self.handle {
            // One that has ended needs no killing.
            let _ = rustix::process::pidfd_send_signal(handle, Signal::KILL);
        }
    }
}

/// Hears what is told to a service manager.
pub(crate) struct Manager(UnixDatagram);

impl Manager {
    pub(crate) fn new(folder: &Path) -> Manager {
        let socket = UnixDatagram::bind(folder.join("notify")).expect("a socket");
        socket.set_read_timeout(Some(crate::common::PATIENCE)).expect("a time");
        Manager(socket)
    }

    /// Has a command tell this one.
    pub(crate) fn hears<'a>(&self, folder: &Path, command: &'a mut Command) -> &'a mut Command {
        command.env("NOTIFY_SOCKET", folder.join("notify"))
    }

    pub(crate) fn next(&self) -> String {
        let mut buffer = [0; 4096];
        let read = self.0.recv(&mut buffer).expect("it is told something");
        String::from_utf8_lossy(&buffer[..read]).trim_end().to_owned()
    }
}
