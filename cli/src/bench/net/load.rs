//! Clients and workers, all on one thread: as many packets a read and a write as there are.

use crate::histogram::Histogram;
use layshaft::gearman::packet::{self, Kind, Limits, Magic, Message, Packet};
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

const FUNCTION: &[u8] = b"bench";
const READ: usize = 256 << 10;
/// Nothing comes for so long: something is lost.
const SILENCE: Duration = Duration::from_secs(20);
const LOOK: Duration = Duration::from_micros(100);
/// Background jobs that are not acknowledged yet at most.
const WINDOW: u64 = 10_000;

pub(super) struct Load {
    poll: Poll,
    address: SocketAddr,
    peers: Vec<Peer>,
    began: Instant,
    counts: Counts,
    latencies: Histogram,
}

/// `jobs` in all, so many outstanding for each client.
pub(super) struct Foreground {
    pub(super) clients: usize,
    pub(super) outstanding: usize,
    pub(super) jobs: u64,
}

pub(super) struct Background {
    pub(super) jobs: u64,
    pub(super) keys: bool,
}

#[derive(Default)]
struct Counts {
    /// Still to be submitted.
    left: u64,
    created: u64,
    completed: u64,
    /// Jobs that workers have done.
    done: u64,
    noops: u64,
    asleep: usize,
}

struct Peer {
    stream: TcpStream,
    role: Role,
    input: Vec<u8>,
    output: Vec<u8>,
    is_dirty: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    Client,
    Worker {
        grabs: usize,
    },
    /// Its part is over.
    Idle,
}

impl Load {
    pub(super) fn new(address: SocketAddr) -> io::Result<Load> {
        Ok(Load {
            poll: Poll::new()?,
            address,
            peers: Vec::new(),
            began: Instant::now(),
            counts: Counts::default(),
            latencies: Histogram::new(),
        })
    }

    fn connect(&mut self, role: Role) -> Result<usize, String> {
        // Without waiting a server's backlog overflows; a connection at a time is quick enough.
        let stream = std::net::TcpStream::connect(self.address).and_then(|stream| {
            stream.set_nodelay(true)?;
            stream.set_nonblocking(true)?;
            Ok(stream)
        });
        let mut stream = TcpStream::from_std(stream.map_err(|error| format!("cannot connect: {error}"))?);
        let (at, both) = (self.peers.len(), Interest::READABLE | Interest::WRITABLE);
        self.poll.registry().register(&mut stream, Token(at), both).map_err(|error| error.to_string())?;
        self.peers.push(Peer { stream, role, input: Vec::new(), output: Vec::new(), is_dirty: false });
        Ok(at)
    }

    /// Connects workers, which begin at once.
    pub(super) fn workers(&mut self, n: usize, grabs: usize) -> Result<(), String> {
        for _ in 0..n {
            let at = self.connect(Role::Worker { grabs })?;
            self.send(at, Kind::CanDo, &[FUNCTION]);
            (0..grabs).for_each(|_| self.send(at, Kind::GrabJobUniq, &[]));
            self.peers[at].flush()?;
        }
        Ok(())
    }

    /// Waits until all workers sleep.
    pub(super) fn settle(&mut self) -> Result<(), String> {
        let workers = self.peers.iter().filter(|peer| matches!(peer.role, Role::Worker { .. })).count();
        self.turn_until(|load| load.counts.asleep >= workers, None)
    }

    pub(super) fn noops(&self) -> u64 {
        self.counts.noops
    }

    /// Has jobs done, and waits for all results: how long each took.
    pub(super) fn foreground(&mut self, how: Foreground) -> Result<Histogram, String> {
        let clients: Vec<usize> =
            (0..how.clients).map(|_| self.connect(Role::Client)).collect::<Result<_, String>>()?;
        self.latencies = Histogram::new();
        self.counts.left = how.jobs;
        self.counts.completed = 0;
        for client in &clients {
            for _ in 0..how.outstanding {
                self.submit(*client);
            }
            self.peers[*client].flush()?;
        }
        self.turn_until(|load| load.counts.completed >= how.jobs, None)?;
        clients.into_iter().for_each(|client| self.peers[client].role = Role::Idle);
        Ok(std::mem::replace(&mut self.latencies, Histogram::new()))
    }

    fn submit(&mut self, client: usize) {
        if self.counts.left > 0 {
            self.counts.left -= 1;
            let now = (self.began.elapsed().as_nanos() as u64).to_be_bytes();
            let payload = [now, (client as u64).to_be_bytes()].concat();
            self.send(client, Kind::SubmitJob, &[FUNCTION, b"", &payload]);
        }
    }

    /// Submits background jobs, and waits until all are accepted.
    pub(super) fn background(&mut self, how: Background) -> Result<(), String> {
        let client = self.connect(Role::Client)?;
        self.counts.created = 0;
        let mut sent = 0;
        while self.counts.created < how.jobs {
            while sent < how.jobs && sent - self.counts.created < WINDOW && self.peers[client].output.len() < READ {
                let key = if how.keys { format!("key-{sent}") } else { String::new() };
                let payload = [0u64.to_be_bytes(), (client as u64).to_be_bytes()].concat();
                self.send(client, Kind::SubmitJobBg, &[FUNCTION, key.as_bytes(), &payload]);
                sent += 1;
            }
            self.peers[client].flush()?;
            let before = self.counts.created;
            self.turn_until(|load| load.counts.created > before, None)?;
        }
        self.peers[client].role = Role::Idle;
        Ok(())
    }

    /// Waits until workers have done so many jobs, or the time is over: how many they did.
    pub(super) fn drain(&mut self, jobs: u64, limit: Duration) -> Result<u64, String> {
        self.counts.done = 0;
        self.turn_until(|load| load.counts.done >= jobs, Some(Instant::now() + limit))?;
        Ok(self.counts.done)
    }

    fn turn_until(&mut self, is_over: impl Fn(&Load) -> bool, limit: Option<Instant>) -> Result<(), String> {
        let mut events = Events::with_capacity(1024);
        let mut buffer = vec![0; READ];
        while !is_over(self) && limit.is_none_or(|limit| Instant::now() < limit) {
            match wait(&mut self.poll, &mut events) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error.to_string()),
                Ok(()) => {}
            }
            if events.is_empty() {
                let (counts, lost) = (&self.counts, "nothing came for 20 s: something is lost");
                return Err(format!("{lost} ({} completed, {} done)", counts.completed, counts.done));
            }
            let mut dirty = Vec::new();
            for event in &events {
                let at = event.token().0;
                if event.is_readable() {
                    self.read(at, &mut buffer, &mut dirty)?;
                }
                if event.is_writable() {
                    self.peers[at].flush()?;
                }
            }
            for at in dirty {
                self.peers[at].is_dirty = false;
                self.peers[at].flush()?;
            }
        }
        Ok(())
    }

    fn read(&mut self, at: usize, buffer: &mut [u8], dirty: &mut Vec<usize>) -> Result<(), String> {
        loop {
            let kept = self.peers[at].input.len();
            buffer[..kept].copy_from_slice(&self.peers[at].input);
            let read = match self.peers[at].stream.read(&mut buffer[kept..]) {
                Ok(0) => return Err("the server has closed a connection".into()),
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error.to_string()),
            };
            let there = kept + read;
            let mut used = 0;
            loop {
                let message = packet::decode(&buffer[used..there], &Limits::default()).map_err(|e| e.to_string())?;
                let Message::Frame { frame, length } = message else { break };
                self.got(at, &frame.packet().map_err(|error| error.to_string())?)?;
                used += length;
            }
            self.peers[at].input.clear();
            self.peers[at].input.extend_from_slice(&buffer[used..there]);
            if !self.peers[at].output.is_empty() && !std::mem::replace(&mut self.peers[at].is_dirty, true) {
                dirty.push(at);
            }
            if there < buffer.len() {
                return Ok(());
            }
        }
    }

    fn got(&mut self, at: usize, packet: &Packet<'_>) -> Result<(), String> {
        match (packet.kind, self.peers[at].role) {
            (Kind::JobCreated, _) => self.counts.created += 1,
            (Kind::WorkComplete, Role::Client) => {
                let result = packet.arg(1);
                let expected: Vec<u8> = (at as u64).to_be_bytes().iter().map(|byte| !byte).collect();
                let Some((sent, rest)) = result.split_first_chunk::<8>().filter(|(_, rest)| *rest == expected) else {
                    return Err(format!("a wrong result: {}", result.escape_ascii()));
                };
                debug_assert_eq!(rest.len(), 8);
                let sent = u64::from_be_bytes(*sent);
                let took = (self.began.elapsed().as_nanos() as u64).saturating_sub(sent);
                self.latencies.record(Duration::from_nanos(took));
                self.counts.completed += 1;
                self.submit(at);
            }
            (Kind::JobAssign | Kind::JobAssignUniq, Role::Worker { .. }) => {
                let payload = packet.args().last().copied().unwrap_or_default();
                // What is checked: the second half, turned over.
                let mut result = payload.to_vec();
                result.iter_mut().skip(8).for_each(|byte| *byte = !*byte);
                self.counts.done += 1;
                self.send(at, Kind::WorkComplete, &[packet.arg(0), &result]);
                self.send(at, Kind::GrabJobUniq, &[]);
            }
            (Kind::NoJob, Role::Worker { .. }) => {
                self.counts.asleep += 1;
                self.send(at, Kind::PreSleep, &[]);
            }
            (Kind::Noop, Role::Worker { grabs }) => {
                self.counts.noops += 1;
                self.counts.asleep = self.counts.asleep.saturating_sub(grabs);
                (0..grabs).for_each(|_| self.send(at, Kind::GrabJobUniq, &[]));
            }
            (Kind::Error, _) => {
                return Err(format!("an error: {}", packet.args().concat().escape_ascii()));
            }
            _ => {}
        }
        Ok(())
    }

    fn send(&mut self, at: usize, kind: Kind, args: &[&[u8]]) {
        packet::encode(&mut self.peers[at].output, Magic::Request, kind, args);
    }
}

/// Looks for events for a while before it blocks: a load that sleeps measures how quickly it is woken, not the server.
fn wait(poll: &mut Poll, events: &mut Events) -> io::Result<()> {
    let began = Instant::now();
    while began.elapsed() < LOOK {
        poll.poll(events, Some(Duration::ZERO))?;
        if !events.is_empty() {
            return Ok(());
        }
    }
    poll.poll(events, Some(SILENCE))
}

impl Peer {
    fn flush(&mut self) -> Result<(), String> {
        while !self.output.is_empty() {
            match self.stream.write(&self.output) {
                Ok(n) => _ = self.output.drain(..n),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(format!("cannot send: {error}")),
            }
        }
        Ok(())
    }
}
