//! The servers that are measured: each run has a fresh process, or they are there already.

use super::load::Load;
use super::scenario::{Measured, Scenario};
use crate::args::NetBench;
use std::ffi::OsString;
use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A server starts within this.
const START: Duration = Duration::from_secs(10);

pub(super) struct Target {
    pub(super) name: String,
    how: How,
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

/// CPU time and memory of a server so far; zero for one that was not started here.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Usage {
    pub(super) cpu: Duration,
    pub(super) resident: u64,
}

impl Target {
    /// This program's own server, and then the one to compare with.
    pub(super) fn all(options: &NetBench) -> Result<Vec<Target>, String> {
        let mut targets = Vec::new();
        if let Some(server) = &options.server {
            let address = server.to_socket_addrs().ok().and_then(|mut found| found.next());
            let address = address.ok_or_else(|| format!("{server} is no address; it is to be HOST:PORT"))?;
            targets.push(Target { name: server.clone(), how: How::There(address) });
            return Ok(targets);
        }
        let own = std::env::current_exe().map_err(|error| format!("cannot tell where this program is: {error}"))?;
        let arguments: Vec<OsString> = ["serve", "--listen", "127.0.0.1:{port}"].map(OsString::from).to_vec();
        targets.push(Target { name: "layshaft".into(), how: How::Start([vec![own.into()], arguments].concat()) });
        if let Some(beside) = &options.beside {
            let words: Vec<OsString> = beside.split_whitespace().map(OsString::from).collect();
            let name = words.first().ok_or("--beside names no program")?.to_string_lossy().into_owned();
            targets.push(Target { name, how: How::Start(words) });
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

    /// One run against a server of its own.
    pub(super) fn measure(&self, scenario: &Scenario, quick: bool) -> Result<Measured, String> {
        let (server, _apart) = crate::bench::pin::apart(1, || self.start());
        let server = server?;
        let mut load = Load::new(server.address).map_err(|error| format!("{}: {error}", self.name))?;
        let measured = (scenario.run)(&mut load, &server, quick);
        measured.map_err(|error| format!("{}, {}: {error}", self.name, scenario.name))
    }

    fn start(&self) -> Result<Running, String> {
        let words = match &self.how {
            How::There(address) => return Ok(Running { child: None, address: *address }),
            How::Start(words) => words,
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
            .stderr(Stdio::null())
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
        let Some(child) = &self.child else { return Usage::default() };
        let read = |file: &str| fs::read_to_string(format!("/proc/{}/{file}", child.id())).unwrap_or_default();
        // After the name, which ends with the last parenthesis: user and system time are the 12th and 13th fields.
        let stat = read("stat");
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<u64>().ok()).unwrap_or(0);
        let memory = read("statm");
        let pages: u64 = memory.split_whitespace().nth(1).and_then(|field| field.parse().ok()).unwrap_or(0);
        let size = rustix::param::page_size() as u64;
        let second = rustix::param::clock_ticks_per_second();
        Usage { cpu: Duration::from_secs_f64((ticks(11) + ticks(12)) as f64 / second as f64), resident: pages * size }
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
