//! Debian's Gearman servers and workers, each in a process that ends with its test.
#![allow(dead_code, reason = "each test file uses a part")]

use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(60);

/// A program that ends with its test.
pub(crate) struct Killed(pub(crate) Child);

impl Drop for Killed {
    fn drop(&mut self) {
        // One that has ended needs no killing.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Killed {
    fn start(mut command: Command) -> Killed {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Killed(command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}")))
    }
}

/// A server on a port of its own.
pub(crate) struct Daemon {
    pub(crate) port: u16,
    process: Killed,
}

impl Daemon {
    /// The C server.
    pub(crate) fn c() -> Daemon {
        Daemon::start(|port| {
            let mut command = Command::new("/usr/sbin/gearmand");
            command.args(["-p", port, "-L", "127.0.0.1", "-l", "/dev/null", "-t", "1"]);
            command
        })
    }

    /// The Perl server.
    pub(crate) fn perl() -> Daemon {
        Daemon::start(|port| {
            let mut command = Command::new("/usr/bin/gearmand");
            command.args(["--port", port]);
            command
        })
    }

    fn start(command: impl Fn(&str) -> Command) -> Daemon {
        let port = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
        let port = port.expect("a free port").port();
        let command = command(&port.to_string());
        let what = format!("{command:?}");
        let process = Killed::start(command);
        let end = Instant::now() + PATIENCE;
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < end, "{what} does not listen");
            thread::yield_now();
        }
        Daemon { port, process }
    }

    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// As with `kill -9`.
    pub(crate) fn kill(&mut self) {
        self.process.0.kill().expect("it runs");
        self.process.0.wait().expect("it ends");
    }

    /// As with `kill -STOP`: connections stay, and nobody answers.
    pub(crate) fn stop(&self) {
        let status = Command::new("kill").args(["-STOP", &self.process.0.id().to_string()]).status();
        assert!(status.expect("there is kill").success());
    }

    /// A worker of the Perl library.
    pub(crate) fn perl_worker(&self, script: &str) -> Killed {
        let mut command = Command::new("perl");
        command.args(["-MGearman::Worker", "-e", script, &self.address()]);
        Killed::start(command)
    }

    /// A worker of libgearman's command.
    pub(crate) fn c_worker(&self, function: &str, program: &[&str]) -> Killed {
        let mut command = Command::new("gearman");
        command.args(["-w", "-h", "127.0.0.1", "-p", &self.port.to_string(), "-f", function]).args(program);
        Killed::start(command)
    }
}
