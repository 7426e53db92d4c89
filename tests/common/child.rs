//! A server in a process of its own: this test program, started again for one of its tests, with limits of its own. Its
//! memory, descriptors and processor time are nobody else's.

// Each test crate uses its own part of this module.
#![allow(dead_code)]

use layshaft::Engine;
use layshaft::gearman::{Server, ServerBuilder};
use std::io::{BufRead, BufReader, Lines, Read};
use std::net::SocketAddr;
use std::process::{Child, ChildStdout, Command, Stdio};

const VARIABLE: &str = "LAYSHAFT_TEST_SERVER";

/// A server's process. It ends with this.
pub(crate) struct ServerProcess {
    child: Child,
    /// Kept, or what it says at its end would be an error.
    said: Lines<BufReader<ChildStdout>>,
    pub(crate) address: SocketAddr,
}

/// What a test named `server_process` does: nothing, unless it was started by [`ServerProcess::start`].
pub(crate) fn serve_if_asked(set: impl FnOnce(&str, ServerBuilder) -> ServerBuilder) {
    let Ok(how) = std::env::var(VARIABLE) else { return };
    let engine = Engine::builder().workers(1).start().unwrap();
    let server = set(&how, Server::builder(&engine).host("test")).start().unwrap();
    let none = SocketAddr::from(([0, 0, 0, 0], 0));
    println!("\naddress={}", server.addresses().first().unwrap_or(&none));
    // Whoever has started this closes the other end.
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
}

impl ServerProcess {
    /// Starts one; `how` is for the test.
    pub(crate) fn start(how: &str) -> ServerProcess {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "server_process", "--nocapture"])
            .env(VARIABLE, how)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = BufReader::new(child.stdout.take().unwrap()).lines();
        let address = said.find_map(|line| line.unwrap().strip_prefix("address=")?.parse().ok());
        ServerProcess { child, said, address: address.expect("the server has started") }
    }

    fn proc(&self, file: &str) -> String {
        std::fs::read_to_string(format!("/proc/{}/{file}", self.child.id())).expect("the server lives")
    }

    /// Bytes that it has in memory.
    pub(crate) fn resident(&self) -> usize {
        let status = self.proc("status");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("it is always told");
        line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
    }

    /// Hundredths of a second that it has worked.
    pub(crate) fn worked(&self) -> u64 {
        let stat = self.proc("stat");
        let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
        fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
    }

    /// Open files.
    pub(crate) fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.child.id())).unwrap().count()
    }

    /// Threads.
    pub(crate) fn threads(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/task", self.child.id())).unwrap().count()
    }

    /// TCP sockets that it listens on.
    pub(crate) fn listeners(&self) -> usize {
        let sockets: Vec<String> = std::fs::read_dir(format!("/proc/{}/fd", self.child.id()))
            .unwrap()
            .filter_map(|entry| std::fs::read_link(entry.unwrap().path()).ok()?.into_os_string().into_string().ok())
            .collect();
        let listens = |line: &&str| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            fields.get(3) == Some(&"0A") && sockets.contains(&format!("socket:[{}]", fields[9]))
        };
        ["net/tcp", "net/tcp6"].iter().map(|file| self.proc(file).lines().filter(listens).count()).sum()
    }

    /// Whether it lives.
    pub(crate) fn is_alive(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        self.said.by_ref().for_each(drop);
        let _ = self.child.wait();
    }
}

/// As many open files as this process may have at most: `most`, or what there can be.
pub(crate) fn limit_files(most: u64) -> u64 {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a valid place for one.
    unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) };
    limit.rlim_cur = most.min(limit.rlim_max);
    // SAFETY: `limit` is one; the kernel checks it.
    let done = unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) };
    assert_eq!(done, 0);
    limit.rlim_cur
}
