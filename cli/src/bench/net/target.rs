//! The servers that are measured: each run has a fresh process, or they are there already.

use super::load::{Load, OWN_FUNCTION};
use super::scenario::{Measured, NONE, Scenario};
use crate::args::NetBench;
use std::ffi::OsString;
use std::fs;
use std::io::Read;
use std::net::{SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// What perf(1) calls a system call.
const EVENT: &str = "raw_syscalls:sys_enter";
/// A server starts within this.
const START: Duration = Duration::from_secs(10);

pub(super) struct Target {
    pub(super) name: String,
    how: How,
    /// It is this program's, and does a function itself.
    is_own: bool,
}

enum How {
    /// A program with arguments; `{port}` stands for the port.
    Start(Vec<OsString>),
    /// It runs.
    There(SocketAddr),
}

/// A running server.
pub(super) struct Running {
    child: Option<Child>,
    pub(super) address: SocketAddr,
}

/// CPU time of a server so far, in microseconds, and its memory, in bytes; not numbers for one that was not started here.
#[derive(Debug, Clone, Copy)]
pub(super) struct Usage {
    pub(super) cpu: f64,
    pub(super) resident: f64,
}

impl Target {
    /// This program's own server, and then the one to compare with.
    pub(super) fn all(options: &NetBench) -> Result<Vec<Target>, String> {
        let mut targets = Vec::new();
        if let Some(server) = &options.server {
            let address = server.to_socket_addrs().ok().and_then(|mut found| found.next());
            let address = address.ok_or_else(|| format!("{server} is no address; it is to be HOST:PORT"))?;
            targets.push(Target { name: server.clone(), how: How::There(address), is_own: false });
            return Ok(targets);
        }
        let own = std::env::current_exe().map_err(|error| format!("cannot tell where this program is: {error}"))?;
        let arguments = ["serve", "--listen", "127.0.0.1:{port}", "--function", OWN_FUNCTION.name()];
        let words = [vec![own.into()], arguments.map(OsString::from).to_vec()].concat();
        targets.push(Target { name: "layshaft".into(), how: How::Start(words), is_own: true });
        if let Some(beside) = &options.beside {
            let words: Vec<OsString> = beside.split_whitespace().map(OsString::from).collect();
            let name = words.first().ok_or("--beside names no program")?.to_string_lossy().into_owned();
            targets.push(Target { name, how: How::Start(words), is_own: false });
        }
        Ok(targets)
    }

    pub(super) fn describe(&self) -> String {
        match &self.how {
            How::There(address) => format!("{} at {address}", self.name),
            How::Start(words) => {
                let words: Vec<String> = words.iter().map(|word| word.to_string_lossy().into_owned()).collect();
                format!("{}: {}", self.name, words.join(" "))
            }
        }
    }

    /// One run against a server of its own. What it cannot do is not measured.
    pub(super) fn measure(&self, scenario: &Scenario, quick: bool) -> Result<Measured, String> {
        if scenario.is_own && !self.is_own {
            return Ok(NONE);
        }
        let (server, _apart) = crate::bench::pin::apart(1, || self.start(&[]));
        let server = server?;
        self.load(&server, scenario, quick).map(|(measured, _)| measured)
    }

    /// System calls a job, in a run under perf(1).
    pub(super) fn count_syscalls(&self, scenario: &Scenario, quick: bool) -> Result<f64, String> {
        if scenario.is_own && !self.is_own {
            return Ok(f64::NAN);
        }
        let words = ["perf", "stat", "-x", ",", "-e", EVENT, "--"].map(OsString::from);
        let (server, _apart) = crate::bench::pin::apart(1, || self.start(&words));
        let mut server = server?;
        let (_, jobs) = self.load(&server, scenario, quick)?;
        let said = server.terminate();
        let count =
            said.lines().filter(|line| line.contains(EVENT)).find_map(|line| line.split_once(',')?.0.parse().ok());
        let count: f64 = count.ok_or_else(|| format!("perf cannot count system calls here: {said}"))?;
        Ok(if jobs > 0 { count / jobs as f64 } else { f64::NAN })
    }

    /// What was measured, and how many jobs there were in all.
    fn load(&self, server: &Running, scenario: &Scenario, quick: bool) -> Result<(Measured, u64), String> {
        let mut load = Load::new(server.address).map_err(|error| format!("{}: {error}", self.name))?;
        let measured = (scenario.run)(&mut load, server, quick);
        let measured = measured.map_err(|error| format!("{}, {}: {error}", self.name, scenario.name))?;
        Ok((measured, load.submitted))
    }

    /// Starts the server, behind the words of a command that starts others.
    fn start(&self, behind: &[OsString]) -> Result<Running, String> {
        let words = match &self.how {
            How::There(address) => return Ok(Running { child: None, address: *address }),
            How::Start(words) => [behind, words].concat(),
        };
        let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
        let address = free.map_err(|error| format!("there is no free port: {error}"))?;
        let port = address.port().to_string();
        let with_port =
            |word: &OsString| word.to_str().map_or_else(|| word.clone(), |text| text.replace("{port}", &port).into());
        let child = Command::new(&words[0])
            .args(words[1..].iter().map(with_port))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(if behind.is_empty() { Stdio::null() } else { Stdio::piped() })
            .spawn()
            .map_err(|error| format!("cannot start {}: {error}", words[0].to_string_lossy()))?;
        let running = Running { child: Some(child), address };
        let began = Instant::now();
        while TcpStream::connect(address).is_err() {
            if began.elapsed() > START {
                return Err(format!("{} does not listen on port {port} after {START:?}", self.name));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(running)
    }
}

impl Running {
    pub(super) fn usage(&self) -> Usage {
        let Some(child) = &self.child else { return Usage { cpu: f64::NAN, resident: f64::NAN } };
        let read = |file: &str| fs::read_to_string(format!("/proc/{}/{file}", child.id())).unwrap_or_default();
        // After the name, which ends with the last parenthesis: user and system time are the 12th and 13th fields.
        let stat = read("stat");
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<u64>().ok()).unwrap_or(0);
        let memory = read("statm");
        let pages: u64 = memory.split_whitespace().nth(1).and_then(|field| field.parse().ok()).unwrap_or(0);
        let size = rustix::param::page_size() as u64;
        let second = rustix::param::clock_ticks_per_second();
        Usage { cpu: (ticks(11) + ticks(12)) as f64 * 1e6 / second as f64, resident: (pages * size) as f64 }
    }

    /// Ends a server that was started behind another command, and waits for that: what both have said of errors.
    fn terminate(&mut self) -> String {
        let Some(child) = &mut self.child else { return String::new() };
        let children = fs::read_to_string(format!("/proc/{0}/task/{0}/children", child.id())).unwrap_or_default();
        for pid in children.split_whitespace().filter_map(|pid| rustix::process::Pid::from_raw(pid.parse().ok()?)) {
            // It may have ended by itself.
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        let mut said = Vec::new();
        if let Some(mut errors) = child.stderr.take() {
            let _ = errors.read_to_end(&mut said);
        }
        let _ = child.wait();
        String::from_utf8_lossy(&said).into_owned()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
