//! Valid packets in any order, from several peers of one server: what bytes spell, and what holds whatever they do. Shared by
//! the property test, the replayed corpus and the fuzz target.

use layshaft::Engine;
use layshaft::gearman::Server;
use layshaft::gearman::packet::{self, Kind, Limits, Magic, Message};
use std::collections::{HashMap, VecDeque};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

const PEERS: usize = 3;
/// Nothing takes that long.
const PATIENCE: Duration = Duration::from_secs(30);
/// More would only make runs longer.
const STEPS: usize = 200;

struct Peer {
    stream: UnixStream,
    buffer: Vec<u8>,
    /// Submits that were accepted and whose end has not come, by handle.
    waiting: HashMap<Vec<u8>, usize>,
    /// Foreground submits, in order, that have no answer yet: whether each waits for an end.
    asked: VecDeque<bool>,
    /// The last of them is of a kind that no server takes.
    asks_sched: bool,
}

struct Run {
    server: Server,
    peers: Vec<Peer>,
    handles: Vec<Vec<u8>>,
}

/// Does what the bytes say, and checks: every submit is answered, every accepted foreground job ends at most once for each
/// submit, nobody hears of a job that it does not wait for, and the server's counts are what peers see.
pub(crate) fn check(bytes: &[u8]) {
    let engine = Engine::builder().workers(1).start().unwrap();
    let server = Server::builder(&engine).start().unwrap();
    let peers = (0..PEERS).map(|_| Peer::new(&server)).collect();
    let mut run = Run { server, peers, handles: vec![b"H:none:1".to_vec()] };
    for step in bytes.chunks_exact(4).take(STEPS) {
        run.step([step[0], step[1], step[2], step[3]]);
    }
    // Whoever is left sees a server that works, and whose counts are possible.
    let mut last = Peer::new(&run.server);
    run.peers.clear();
    let since = Instant::now();
    let running = || run.server.status().functions.iter().map(|function| function.running).sum::<usize>();
    while running() > 0 {
        assert!(since.elapsed() < PATIENCE, "nobody is there who could run what is said to run");
        last.sync(&mut run.handles);
    }
}

impl Run {
    fn step(&mut self, [who, what, a, b]: [u8; 4]) {
        let at = usize::from(who) % PEERS;
        if who >= 250 {
            // Without a word.
            self.peers[at] = Peer::new(&self.server);
            return;
        }
        let function: &[u8] = [&b"f"[..], b"g", b"h"][usize::from(a) % 3];
        let key: &[u8] = [&b""[..], b"k", b"-", b"l"][usize::from(b) % 4];
        let handle = self.handles[usize::from(a) * usize::from(b) % self.handles.len()].clone();
        let kinds: Vec<Kind> = Kind::ALL.iter().copied().filter(|kind| is_ours(*kind)).collect();
        let kind = kinds[usize::from(what) % kinds.len()];
        let number = [b'0' + b % 10];
        let args: Vec<&[u8]> = match kind {
            Kind::CanDo | Kind::CantDo => vec![function],
            Kind::CanDoTimeout => vec![function, &number],
            Kind::SubmitJobEpoch => vec![function, key, &number, b"p"],
            Kind::SubmitReduceJob | Kind::SubmitReduceJobBackground => vec![function, key, b"r", b"", b"p"],
            Kind::SubmitJobSched => vec![function, key, b"1", b"1", b"1", b"1", b"1", b"p"],
            Kind::GetStatus | Kind::WorkFail => vec![&handle],
            Kind::WorkStatus => vec![&handle, &number, b"9"],
            Kind::WorkComplete | Kind::WorkException | Kind::WorkData | Kind::WorkWarning => vec![&handle, &number],
            Kind::EchoReq | Kind::SetClientId | Kind::GetStatusUnique => vec![key],
            Kind::OptionReq => vec![if b % 2 == 0 { b"exceptions" } else { key }],
            _ if is_submit(kind) => vec![function, key, b"p"],
            _ => vec![],
        };
        let peer = &mut self.peers[at];
        if kind == Kind::SubmitJobSched {
            peer.sync(&mut self.handles);
            peer.asks_sched = true;
        }
        if is_submit(kind) {
            let waits = [Kind::SubmitJob, Kind::SubmitJobHigh, Kind::SubmitJobLow, Kind::SubmitReduceJob];
            peer.asked.push_back(waits.contains(&kind));
        }
        peer.send(kind, &args);
        if b % 3 == 0 || peer.asks_sched {
            peer.sync(&mut self.handles);
            assert!(peer.asked.is_empty(), "a submit without an answer");
            peer.asks_sched = false;
        }
    }
}

fn is_submit(kind: Kind) -> bool {
    kind.name().starts_with("SUBMIT")
}

/// What peers send.
fn is_ours(kind: Kind) -> bool {
    !matches!(
        kind,
        Kind::Noop
            | Kind::JobCreated
            | Kind::NoJob
            | Kind::JobAssign
            | Kind::JobAssignUniq
            | Kind::JobAssignAll
            | Kind::EchoRes
            | Kind::Error
            | Kind::StatusRes
            | Kind::StatusResUnique
            | Kind::OptionRes
            // An answer of its own would be taken for that of `sync`.
            | Kind::EchoReq
    )
}

impl Peer {
    fn new(server: &Server) -> Peer {
        let stream = server.connect_local().unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Peer { stream, buffer: Vec::new(), waiting: HashMap::new(), asked: VecDeque::new(), asks_sched: false }
    }

    fn send(&mut self, kind: Kind, args: &[&[u8]]) {
        let mut bytes = Vec::new();
        packet::encode(&mut bytes, Magic::Request, kind, args);
        self.stream.write_all(&bytes).unwrap();
    }

    /// All that was sent is dealt with, and what came of it is looked at.
    fn sync(&mut self, handles: &mut Vec<Vec<u8>>) {
        self.send(Kind::EchoReq, &[b"sync"]);
        loop {
            if let Message::Frame { frame, length } = packet::decode(&self.buffer, &Limits::default()).unwrap() {
                let packet = frame.packet().unwrap();
                let (kind, handle) = (packet.kind, packet.arg(0).to_vec());
                drop(packet);
                self.buffer.drain(..length);
                if kind == Kind::EchoRes {
                    return;
                }
                self.got(kind, handle, handles);
                continue;
            }
            let mut part = [0; 4096];
            let read = self.stream.read(&mut part).expect("an answer");
            assert!(read > 0, "the server has closed a connection that did nothing wrong");
            self.buffer.extend_from_slice(&part[..read]);
        }
    }

    fn got(&mut self, kind: Kind, handle: Vec<u8>, handles: &mut Vec<Vec<u8>>) {
        match kind {
            Kind::JobCreated => {
                if self.asked.pop_front().expect("a submit") {
                    *self.waiting.entry(handle.clone()).or_default() += 1;
                }
                if !handles.contains(&handle) && handles.len() < 20 {
                    handles.push(handle);
                }
            }
            Kind::WorkComplete | Kind::WorkFail | Kind::WorkException => {
                let waiting = self.waiting.get_mut(&handle).expect("an end of a job that it waits for");
                assert!(*waiting > 0, "more ends than submits");
                *waiting -= 1;
            }
            Kind::WorkStatus | Kind::WorkData | Kind::WorkWarning => {
                assert!(self.waiting.get(&handle).is_some_and(|waiting| *waiting > 0), "{kind} of another's job");
            }
            // Only of these submits, and they are asked alone.
            Kind::Error if self.asks_sched => _ = self.asked.pop_front(),
            _ => {}
        }
    }
}
