//! Clients and workers, all on one thread: as many packets a read and a write as there are.

use crate::builtin::Builtin;
use crate::histogram::Histogram;
use layshaft::gearman::packet::{self, Kind, Limits, Magic, Message, Packet};
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use std::collections::{HashMap, VecDeque};
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

const FUNCTION: &[u8] = b"bench";
/// Whose job it is: nobody's that hears of it, and that of one that has ended.
const BACKGROUND: usize = usize::MAX;
const OVER: usize = usize::MAX - 1;
/// One in so many jobs is the last of its worker, where workers die.
const DEATHS: u64 = 10;
/// The one that the server does itself.
pub(super) const OWN_FUNCTION: Builtin = Builtin::Crc32;
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
    /// The client of each job of this run, by its number.
    owners: Vec<usize>,
    /// Where the server itself does the jobs.
    own: Option<Own>,
    /// Jobs of all runs.
    pub(super) submitted: u64,
}

/// A function that the server does itself: what it is to return is known by the job's handle.
#[derive(Default)]
struct Own {
    /// Submitted jobs that have no handle yet: each client's in their order.
    unnamed: HashMap<usize, VecDeque<[u8; 16]>>,
    payloads: HashMap<Vec<u8>, [u8; 16]>,
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
    given_out: u64,
}

struct Peer {
    stream: TcpStream,
    role: Role,
    input: Vec<u8>,
    output: Vec<u8>,
    is_dirty: bool,
    is_dead: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    Client,
    Worker {
        grabs: usize,
        dies: bool,
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
            owners: Vec::new(),
            own: None,
            submitted: 0,
        })
    }

    fn open(&mut self, at: usize) -> Result<TcpStream, String> {
        // Without waiting a server's backlog overflows; a connection at a time is quick enough.
        let stream = std::net::TcpStream::connect(self.address).and_then(|stream| {
            stream.set_nodelay(true)?;
            stream.set_nonblocking(true)?;
            Ok(stream)
        });
        let mut stream = TcpStream::from_std(stream.map_err(|error| format!("cannot connect: {error}"))?);
        let both = Interest::READABLE | Interest::WRITABLE;
        self.poll.registry().register(&mut stream, Token(at), both).map_err(|error| error.to_string())?;
        Ok(stream)
    }

    fn connect(&mut self, role: Role) -> Result<usize, String> {
        let at = self.peers.len();
        let stream = self.open(at)?;
        let (input, output) = (Vec::new(), Vec::new());
        self.peers.push(Peer { stream, role, input, output, is_dirty: false, is_dead: false });
        Ok(at)
    }

    /// Connects workers, which begin at once. Some die with a job in hand, and come back.
    pub(super) fn workers(&mut self, n: usize, grabs: usize, dies: bool) -> Result<(), String> {
        for _ in 0..n {
            let at = self.connect(Role::Worker { grabs, dies })?;
            self.begin(at, grabs)?;
        }
        Ok(())
    }

    fn begin(&mut self, worker: usize, grabs: usize) -> Result<(), String> {
        self.send(worker, Kind::CanDo, &[FUNCTION]);
        (0..grabs).for_each(|_| self.send(worker, Kind::GrabJobUniq, &[]));
        self.peers[worker].flush()
    }

    /// Connections that say nothing more than that they are there.
    pub(super) fn idle(&mut self, n: usize) -> Result<(), String> {
        for _ in 0..n {
            let at = self.connect(Role::Idle)?;
            self.send(at, Kind::EchoReq, &[b"idle"]);
            self.peers[at].flush()?;
        }
        let before = self.counts.completed;
        self.turn_until(|load| load.counts.completed - before >= n as u64, None)
    }

    /// Waits until all workers sleep.
    pub(super) fn settle(&mut self) -> Result<(), String> {
        let workers = self.peers.iter().filter(|peer| matches!(peer.role, Role::Worker { .. })).count();
        self.turn_until(|load| load.counts.asleep >= workers, None)
    }

    pub(super) fn noops(&self) -> u64 {
        self.counts.noops
    }

    /// The jobs are for the server's own function.
    pub(super) fn use_own_function(&mut self) {
        self.own = Some(Own::default());
    }

    /// Has jobs done, and waits for all results: how long each took.
    pub(super) fn foreground(&mut self, how: Foreground) -> Result<Histogram, String> {
        let clients: Vec<usize> =
            (0..how.clients).map(|_| self.connect(Role::Client)).collect::<Result<_, String>>()?;
        self.latencies = Histogram::new();
        self.counts.left = how.jobs;
        self.counts.completed = 0;
        self.owners.clear();
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
            let mut payload = [0; 16];
            payload[..8].copy_from_slice(&now);
            payload[8..].copy_from_slice(&self.number(client));
            let function = match &mut self.own {
                None => FUNCTION,
                Some(own) => {
                    own.unnamed.entry(client).or_default().push_back(payload);
                    OWN_FUNCTION.name().as_bytes()
                }
            };
            self.send(client, Kind::SubmitJob, &[function, b"", &payload]);
        }
    }

    /// The number of a new job, as bytes.
    fn number(&mut self, owner: usize) -> [u8; 8] {
        self.owners.push(owner);
        self.submitted += 1;
        (self.owners.len() as u64 - 1).to_be_bytes()
    }

    /// Notes that a job has ended, which is to be this owner's.
    fn end(&mut self, number: u64, owner: usize) -> Result<(), String> {
        match self.owners.get_mut(number as usize) {
            Some(of) if *of == owner => *of = OVER,
            Some(&mut OVER) => return Err(format!("job {number} ended twice")),
            _ => return Err(format!("job {number} is another's, or nobody's")),
        }
        Ok(())
    }

    /// Submits background jobs, and waits until all are accepted.
    pub(super) fn background(&mut self, how: Background) -> Result<(), String> {
        let client = self.connect(Role::Client)?;
        self.counts.created = 0;
        self.owners.clear();
        let mut sent = 0;
        while self.counts.created < how.jobs {
            while sent < how.jobs && sent - self.counts.created < WINDOW && self.peers[client].output.len() < READ {
                let key = if how.keys { format!("key-{sent}") } else { String::new() };
                let payload = [[0; 8], self.number(BACKGROUND)].concat();
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
                if self.peers[at].is_dead {
                    return self.replace(at);
                }
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

    /// A worker has died: another takes its place.
    fn replace(&mut self, at: usize) -> Result<(), String> {
        let Role::Worker { grabs, dies } = self.peers[at].role else { return Err("a client has died".into()) };
        let stream = self.open(at)?;
        let role = Role::Worker { grabs, dies };
        let (input, output) = (Vec::new(), Vec::new());
        self.peers[at] = Peer { stream, role, input, output, is_dirty: false, is_dead: false };
        self.begin(at, grabs)
    }

    /// A client's job has ended with this result.
    fn completed(&mut self, at: usize, handle: &[u8], result: &[u8]) -> Result<(), String> {
        let wrong = || format!("a wrong result: {}", result.escape_ascii());
        let payload: [u8; 16] = match &mut self.own {
            // What was sent, with the second half turned over.
            None => {
                let mut payload: [u8; 16] = result.try_into().map_err(|_| wrong())?;
                payload[8..].iter_mut().for_each(|byte| *byte = !*byte);
                payload
            }
            Some(own) => {
                let payload = own.payloads.remove(handle).ok_or("a result of no job")?;
                if OWN_FUNCTION.read(result) != Some(OWN_FUNCTION.run_on(&payload)) {
                    return Err(wrong());
                }
                payload
            }
        };
        let (sent, number) = payload.split_at(8);
        let of = |bytes: &[u8]| u64::from_be_bytes(bytes.try_into().expect("eight of them"));
        self.end(of(number), at)?;
        let took = (self.began.elapsed().as_nanos() as u64).saturating_sub(of(sent));
        self.latencies.record(Duration::from_nanos(took));
        self.counts.completed += 1;
        self.submit(at);
        Ok(())
    }

    /// A worker is to do a job.
    fn assigned(&mut self, at: usize, dies: bool, packet: &Packet<'_>) -> Result<(), String> {
        self.counts.given_out += 1;
        if dies && self.counts.given_out.is_multiple_of(DEATHS) {
            self.peers[at].is_dead = true;
            return Ok(());
        }
        let mut result = packet.args().last().copied().unwrap_or_default().to_vec();
        if let Some(number) = result.last_chunk::<8>().map(|number| u64::from_be_bytes(*number))
            && self.owners.get(number as usize).is_none_or(|owner| *owner >= OVER)
        {
            self.end(number, BACKGROUND)?;
        }
        result.iter_mut().skip(8).for_each(|byte| *byte = !*byte);
        self.counts.done += 1;
        self.send(at, Kind::WorkComplete, &[packet.arg(0), &result]);
        self.send(at, Kind::GrabJobUniq, &[]);
        Ok(())
    }

    fn got(&mut self, at: usize, packet: &Packet<'_>) -> Result<(), String> {
        match (packet.kind, self.peers[at].role) {
            (Kind::JobCreated, _) => {
                self.counts.created += 1;
                if let Some(own) = &mut self.own {
                    let payload = own.unnamed.get_mut(&at).and_then(VecDeque::pop_front);
                    own.payloads.insert(packet.arg(0).to_vec(), payload.ok_or("a handle of no job")?);
                }
            }
            (Kind::WorkComplete, Role::Client) => self.completed(at, packet.arg(0), packet.arg(1))?,
            (Kind::JobAssign | Kind::JobAssignUniq, Role::Worker { dies, .. }) => self.assigned(at, dies, packet)?,
            (Kind::EchoRes, Role::Idle) => self.counts.completed += 1,
            (Kind::NoJob, Role::Worker { .. }) => {
                self.counts.asleep += 1;
                self.send(at, Kind::PreSleep, &[]);
            }
            (Kind::Noop, Role::Worker { grabs, .. }) => {
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
