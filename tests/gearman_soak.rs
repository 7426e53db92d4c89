//! Is every job of a Gearman server accounted for, whatever clients, workers, administrators and strangers do to it at once, and
//! is the server afterwards what it was before?
//!
//! Rounds on one server, in a process of its own. `LAYSHAFT_SOAK_SECONDS` sets the length, `LAYSHAFT_SEED` begins with the round
//! of that seed: the same choices, up to the machine's own timing.
#![cfg(feature = "gearman")]

#[path = "common/child.rs"]
mod child;
#[path = "common/peer.rs"]
mod peer;
#[path = "common/rng.rs"]
#[allow(dead_code)]
mod rng;

use child::{ServerProcess, serve_if_asked};
use layshaft::gearman::packet::{self, Kind, Magic};
use peer::{Got, Peer};
use rng::Rng;
use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(60);
const FUNCTIONS: [&str; 4] = ["f", "g", "h", "late"];
/// Its jobs have a time limit that workers do not always keep.
const LATE: usize = 3;
/// A worker that gets a job of this one ends.
const STOP: &str = "stop";
const CLIENTS: u64 = 4;
const WORKERS: u64 = 4;
/// What each client does in a round.
const STEPS: usize = 150;
/// Jobs of one client that it waits for at most.
const WAITS: usize = 40;
/// What the server's memory may differ by, in bytes: what its allocator keeps changes that much.
const MEMORY: usize = 4 << 20;

type Handle = Vec<u8>;

/// What happened in a round.
#[derive(Default)]
struct Ledger {
    /// How workers ended jobs.
    ended: HashMap<Handle, Vec<Kind>>,
    cancelled: HashSet<Handle>,
    /// Jobs that nobody need wait for, with their functions.
    background: Vec<(Handle, usize)>,
    /// The ends that clients heard.
    heard: Vec<Heard>,
    /// Some handles, most of them of jobs that are not over.
    recent: Vec<Handle>,
    died: usize,
    left: usize,
}

struct Heard {
    handle: Handle,
    function: usize,
    kind: Kind,
    has_exceptions: bool,
    is_half_closed: bool,
}

struct Round {
    address: SocketAddr,
    seed: u64,
    ledger: Mutex<Ledger>,
}

impl Round {
    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap()
    }

    fn rng(&self, actor: u64) -> Rng {
        Rng::new(self.seed.wrapping_mul(100).wrapping_add(actor))
    }

    fn peer(&self) -> Peer {
        Peer::at(self.address)
    }

    fn recent(&self, rng: &mut Rng) -> Option<Handle> {
        let ledger = self.ledger();
        (!ledger.recent.is_empty()).then(|| ledger.recent[below(rng, ledger.recent.len())].clone())
    }
}

fn below(rng: &mut Rng, limit: usize) -> usize {
    rng.below(limit as u64) as usize
}

/// Goes, with or without a word.
fn go(rng: &mut Rng, peer: Peer) {
    if rng.one_in(2) {
        peer.reset();
    }
}

// Clients.

/// A job that a client has sent.
struct Sent {
    function: usize,
    payload: Vec<u8>,
    is_background: bool,
}

struct Client<'a> {
    round: &'a Round,
    rng: Rng,
    peer: Peer,
    has_exceptions: bool,
    is_half_closed: bool,
    /// Jobs, each with how often its end is to come.
    waits: HashMap<Handle, (Sent, usize)>,
}

impl<'a> Client<'a> {
    fn new(round: &'a Round, number: u64) -> Client<'a> {
        let rng = round.rng(number);
        let mut client = Client {
            round,
            rng,
            peer: round.peer(),
            has_exceptions: false,
            is_half_closed: false,
            waits: HashMap::new(),
        };
        client.connect();
        client
    }

    fn connect(&mut self) {
        self.peer = self.round.peer();
        self.has_exceptions = self.rng.one_in(2);
        self.is_half_closed = false;
        if self.has_exceptions {
            self.peer.send(Kind::OptionReq, &[b"exceptions"]);
            self.peer.expect(Kind::OptionRes);
        }
        self.waits.clear();
    }

    fn run(mut self) {
        for _ in 0..STEPS {
            match below(&mut self.rng, 30) {
                0 => self.leave(),
                1 => self.half_close(),
                2..=6 => self.ask(),
                _ => self.submit(),
            }
        }
        self.wait(0);
    }

    fn submit(&mut self) {
        let (mut bytes, mut batch) = (Vec::new(), Vec::new());
        for _ in 0..1 + below(&mut self.rng, 6) {
            batch.push(self.any_job(&mut bytes));
        }
        self.peer.write(&bytes);
        for sent in batch {
            self.created(sent);
        }
        self.wait(WAITS);
    }

    /// Writes a submit.
    fn any_job(&mut self, bytes: &mut Vec<u8>) -> Sent {
        let rng = &mut self.rng;
        let function = below(rng, FUNCTIONS.len());
        let is_background = rng.one_in(2);
        let kind = match (below(rng, 3), is_background) {
            (0, false) => Kind::SubmitJobHigh,
            (0, true) => Kind::SubmitJobHighBg,
            (1, false) => Kind::SubmitJob,
            (1, true) => Kind::SubmitJobBg,
            (_, false) => Kind::SubmitJobLow,
            (_, true) => Kind::SubmitJobLowBg,
        };
        let few = below(rng, 5);
        // Equal keys come with equal payloads, so that whoever joins knows what comes.
        let (unique, payload) = match below(rng, 8) {
            0..=2 => (format!("key{few}"), format!("of a key {few}").into_bytes()),
            3 => ("-".to_owned(), format!("same {few}").into_bytes()),
            _ => {
                let most = if rng.one_in(50) { 200_000 } else { 200 };
                (String::new(), vec![rng.next() as u8; below(rng, most)])
            }
        };
        packet::encode(bytes, Magic::Request, kind, &[FUNCTIONS[function].as_bytes(), unique.as_bytes(), &payload]);
        Sent { function, payload, is_background }
    }

    /// Reads the answer to a submit.
    fn created(&mut self, sent: Sent) {
        loop {
            let mut got = self.peer.next().expect("the server answers");
            match got.kind {
                Kind::JobCreated => return self.note(got.args.remove(0), sent),
                Kind::Error => return assert_eq!(got.text(0), "queue_full", "{got:?}"),
                _ => self.hear(got),
            }
        }
    }

    fn note(&mut self, handle: Handle, sent: Sent) {
        let mut ledger = self.round.ledger();
        if ledger.recent.len() > 50 {
            ledger.recent.swap_remove(0);
        }
        ledger.recent.push(handle.clone());
        match sent.is_background {
            true => ledger.background.push((handle, sent.function)),
            false => self.waits.entry(handle).or_insert((sent, 0)).1 += 1,
        }
    }

    /// Of a job that it waits for, and nothing else.
    fn hear(&mut self, mut got: Got) {
        let handle = got.args.remove(0);
        let Some((sent, times)) = self.waits.get_mut(&handle) else { panic!("{got:?} of {handle:?}") };
        match got.kind {
            Kind::WorkStatus | Kind::WorkData | Kind::WorkWarning => return,
            Kind::WorkComplete => assert!(got.args[0] == [&handle, &sent.payload[..]].concat(), "of another job"),
            Kind::WorkFail | Kind::WorkException => {}
            _ => panic!("{got:?}"),
        }
        let Client { has_exceptions, is_half_closed, .. } = *self;
        let function = sent.function;
        *times -= 1;
        if *times == 0 {
            self.waits.remove(&handle);
        }
        self.round.ledger().heard.push(Heard { handle, function, kind: got.kind, has_exceptions, is_half_closed });
    }

    /// Waits until it waits for so few jobs.
    fn wait(&mut self, few: usize) {
        while self.waits.len() > few {
            let got = self.peer.next().expect("the server answers");
            self.hear(got);
        }
    }

    fn leave(&mut self) {
        self.round.ledger().left += 1;
        let gone = std::mem::replace(&mut self.peer, self.round.peer());
        go(&mut self.rng, gone);
        self.connect();
    }

    /// Sends nothing more: it hears of its jobs that run, the others fail, and then the server closes, too.
    fn half_close(&mut self) {
        self.peer.half_close();
        self.is_half_closed = true;
        while let Some(got) = self.peer.next() {
            self.hear(got);
        }
        self.connect();
    }

    /// A job is known until its end has been told.
    fn ask(&mut self) {
        let Some(handle) = self.waits.keys().next().cloned() else { return };
        self.peer.send(Kind::GetStatus, &[&handle]);
        loop {
            let got = self.peer.next().expect("the server answers");
            if got.kind == Kind::StatusRes {
                return assert_eq!(got.args[1] == b"1", self.waits.contains_key(&handle), "{got:?}");
            }
            self.hear(got);
        }
    }
}

// Workers.

struct Job {
    handle: Handle,
    function: String,
    payload: Vec<u8>,
}

struct Worker<'a> {
    round: &'a Round,
    rng: Rng,
    peer: Peer,
    hand: Vec<Job>,
}

impl<'a> Worker<'a> {
    fn new(round: &'a Round, number: u64) -> Worker<'a> {
        let mut worker = Worker { round, rng: round.rng(number), peer: round.peer(), hand: Vec::new() };
        worker.connect();
        worker
    }

    fn connect(&mut self) {
        self.hand.clear();
        self.peer = self.round.peer();
        for function in [STOP].iter().chain(&FUNCTIONS[..LATE]) {
            self.peer.send(Kind::CanDo, &[function.as_bytes()]);
        }
        self.peer.send(Kind::CanDoTimeout, &[FUNCTIONS[LATE].as_bytes(), b"5"]);
    }

    fn run(mut self) {
        loop {
            let got_any = self.grab();
            if self.hand.iter().any(|job| job.function == STOP) {
                return self.stop();
            }
            let mut kept = Vec::new();
            while let Some(job) = self.hand.pop() {
                match below(&mut self.rng, 40) {
                    0 => {
                        self.die();
                        kept.clear();
                    }
                    1..=5 if got_any => kept.push(job),
                    // Its time will be up, unless this one dies before.
                    6..=20 if job.function == FUNCTIONS[LATE] => {}
                    _ => self.end(job),
                }
            }
            self.hand = kept;
            if !got_any && self.hand.is_empty() {
                self.sleep();
            }
        }
    }

    /// Asks for some jobs at once: whether there was any.
    fn grab(&mut self) -> bool {
        let grabs = 1 + below(&mut self.rng, 3);
        let mut bytes = Vec::new();
        for _ in 0..grabs {
            let kinds = [Kind::GrabJob, Kind::GrabJobUniq, Kind::GrabJobAll];
            packet::encode(&mut bytes, Magic::Request, kinds[below(&mut self.rng, 3)], &[]);
        }
        self.peer.write(&bytes);
        let (mut answers, before) = (0, self.hand.len());
        while answers < grabs {
            let mut got = self.peer.next().expect("the server answers");
            answers += usize::from(got.kind != Kind::Noop);
            match got.kind {
                Kind::Noop | Kind::NoJob => {}
                Kind::JobAssign | Kind::JobAssignUniq => {
                    let (function, payload) = (got.text(1).to_owned(), got.args.pop().unwrap());
                    self.hand.push(Job { handle: got.args.remove(0), function, payload });
                }
                _ => panic!("{got:?}"),
            }
        }
        self.hand.len() > before
    }

    fn end(&mut self, job: Job) {
        let handle = &job.handle;
        for (kind, args) in [
            (Kind::WorkStatus, &[handle, &b"1"[..], b"2"][..]),
            (Kind::WorkData, &[handle, b"some"]),
            (Kind::WorkWarning, &[handle, b"careful"]),
        ] {
            if self.rng.one_in(8) {
                self.peer.send(kind, args);
            }
        }
        let kind = match below(&mut self.rng, 10) {
            0 => {
                self.peer.send(Kind::WorkFail, &[handle]);
                Kind::WorkFail
            }
            1 => {
                self.peer.send(Kind::WorkException, &[handle, b"why"]);
                if self.rng.one_in(2) {
                    // As Perl's workers do.
                    self.peer.send(Kind::WorkFail, &[handle]);
                }
                Kind::WorkException
            }
            _ => {
                self.peer.complete(handle, &[&handle[..], &job.payload].concat());
                Kind::WorkComplete
            }
        };
        let told = self.peer.sync();
        assert!(told.iter().all(|got| got.kind == Kind::Noop), "{told:?}");
        self.round.ledger().ended.entry(job.handle).or_default().push(kind);
    }

    /// With what it has in hand.
    fn die(&mut self) {
        self.round.ledger().died += 1;
        let gone = std::mem::replace(&mut self.peer, self.round.peer());
        go(&mut self.rng, gone);
        self.connect();
    }

    fn sleep(&mut self) {
        self.peer.send(Kind::PreSleep, &[]);
        match below(&mut self.rng, 20) {
            0 => self.die(),
            1 => {
                // Perhaps with a wake-up, which others need then.
                self.peer.settle();
                self.die();
            }
            _ => _ = self.peer.expect(Kind::Noop),
        }
    }

    fn stop(mut self) {
        for job in std::mem::take(&mut self.hand) {
            match job.function == STOP {
                true => self.peer.complete(&job.handle, b""),
                false => self.end(job),
            }
        }
        self.peer.sync();
    }
}

// Others.

fn administrate(round: &Round) {
    let (mut rng, mut peer) = (round.rng(50), round.peer());
    // Never asks for a job, and keeps the function from being dropped.
    peer.send(Kind::CanDo, &[b"f"]);
    for _ in 0..STEPS {
        match below(&mut rng, 12) {
            0 => {
                let Some(handle) = round.recent(&mut rng) else { continue };
                if peer.ask(&format!("cancel job {}", handle.escape_ascii())) == "OK" {
                    round.ledger().cancelled.insert(handle);
                }
            }
            1 => assert_eq!(peer.ask(&format!("maxqueue g {}", below(&mut rng, 10))), "OK"),
            2 => assert_eq!(peer.ask("maxqueue g"), "OK"),
            3 => assert!(peer.ask("drop function f").starts_with("ERR ")),
            4 => {
                _ = peer
                    .status("late")
                    .is_none_or(|[total, running, _]| total >= running || panic!("{total} {running}"))
            }
            5 => _ = peer.rows("prioritystatus"),
            6 => _ = peer.rows("workers"),
            7 => _ = peer.rows("clients"),
            8 => _ = peer.rows("jobs"),
            9 => _ = peer.rows("show jobs"),
            10 => _ = peer.rows("show unique jobs"),
            _ => peer.expect_nothing(),
        }
    }
    assert_eq!(peer.ask("maxqueue g"), "OK");
}

/// What nobody should send.
fn disturb(round: &Round) {
    let mut rng = round.rng(51);
    let mut kept = Vec::new();
    for _ in 0..STEPS {
        let mut peer = round.peer();
        match below(&mut rng, 7) {
            0 => {
                let bytes: Vec<u8> = (0..below(&mut rng, 3000)).map(|_| rng.next() as u8).collect();
                peer.write(&bytes);
            }
            1 => {
                peer.write(b"\0REQ\0\0\0\x07\xff\xff\xff\xff");
                peer.expect_error("invalid_args");
            }
            2 => {
                // Of a job in somebody else's hands.
                let Some(handle) = round.recent(&mut rng) else { continue };
                let kinds = [Kind::WorkComplete, Kind::WorkException, Kind::WorkData, Kind::WorkWarning];
                peer.send(kinds[below(&mut rng, 4)], &[&handle, b"forged"]);
                peer.expect_error("not_worker");
                peer.send(Kind::WorkFail, &[&handle]);
                peer.expect_error("not_worker");
            }
            3 => {
                peer.write(&b"\0REQ\0\0\0\x07\0\0\x01\0f\0key\0"[..1 + below(&mut rng, 18)]);
                kept.push(peer);
                continue;
            }
            4 => peer.write(&b"show jobs\n".repeat(50)),
            5 => {
                peer.send(Kind::CanDo, &[b"f"]);
                peer.send(Kind::PreSleep, &[]);
                peer.settle();
            }
            _ => {}
        }
        go(&mut rng, peer);
    }
}

// Rounds.

#[test]
fn server_process() {
    serve_if_asked(|_, builder| builder.listen("127.0.0.1:0").threads(2));
}

/// What is left when nobody is there any more.
#[derive(Debug, PartialEq, Eq)]
struct Left {
    descriptors: usize,
    threads: usize,
}

fn left(server: &ServerProcess) -> Left {
    Left { descriptors: server.descriptors(), threads: server.threads() }
}

fn run_round(server: &ServerProcess, admin: &mut Peer, seed: u64) -> Ledger {
    let round = Round { address: server.address, seed, ledger: Mutex::default() };
    std::thread::scope(|scope| {
        let round = &round;
        let mut others: Vec<_> = (0..CLIENTS).map(|n| scope.spawn(move || Client::new(round, n).run())).collect();
        others.push(scope.spawn(move || administrate(round)));
        others.push(scope.spawn(move || disturb(round)));
        let workers: Vec<_> = (0..WORKERS).map(|n| scope.spawn(move || Worker::new(round, 10 + n).run())).collect();
        others.into_iter().for_each(|other| other.join().unwrap());
        for function in FUNCTIONS {
            wait_until("no job is left", || {
                admin.status(function).is_none_or(|[total, running, _]| (total, running) == (0, 0))
            });
        }
        for _ in 0..WORKERS {
            admin.submit(Kind::SubmitJob, STOP, b"", b"");
            admin.expect(Kind::WorkComplete);
        }
        workers.into_iter().for_each(|worker| worker.join().unwrap());
    });
    wait_until("all have gone", || admin.rows("workers").len() == 1);
    round.ledger.into_inner().unwrap()
}

#[track_caller]
fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < PATIENCE, "{what}: not in time");
        std::thread::yield_now();
    }
}

/// Each job that was accepted has ended, once and as its worker said, or as it was cancelled, or its time was up.
fn check(ledger: &Ledger) {
    let Ledger { ended, cancelled, .. } = ledger;
    for (handle, ends) in ended {
        assert_eq!(ends.len(), 1, "{} was ended by {ends:?}", handle.escape_ascii());
    }
    for Heard { handle, function, kind, has_exceptions, is_half_closed } in &ledger.heard {
        let end = ended.get(handle).map(|ends| ends[0]);
        let is_right = match kind {
            Kind::WorkFail => {
                let is_failure = end == Some(Kind::WorkFail) || (end == Some(Kind::WorkException) && !has_exceptions);
                is_failure || cancelled.contains(handle) || *function == LATE || *is_half_closed
            }
            _ => end == Some(*kind) && !cancelled.contains(handle),
        };
        assert!(is_right, "{} of {} ended by {kind} and not by {end:?}", handle.escape_ascii(), FUNCTIONS[*function]);
    }
    for (handle, function) in &ledger.background {
        let has_ended = ended.contains_key(handle) || cancelled.contains(handle) || *function == LATE;
        assert!(has_ended, "{} of {} was never done", handle.escape_ascii(), FUNCTIONS[*function]);
    }
}

#[test]
fn soak() {
    let seconds = std::env::var("LAYSHAFT_SOAK_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(2.0);
    let length = Duration::from_secs_f64(seconds);
    let first = rng::seed("soak");
    let server = ServerProcess::start("soak");
    let mut admin = Peer::at(server.address);
    admin.expect_nothing();
    let before = left(&server);
    let (start, mut rounds, mut resident) = (Instant::now(), 0, Vec::new());
    let (mut heard, mut background, mut died, mut gone) = (0, 0, 0, 0);
    while rounds == 0 || start.elapsed() < length {
        let seed = first.wrapping_add(rounds);
        println!("soak: LAYSHAFT_SEED={seed}");
        let ledger = run_round(&server, &mut admin, seed);
        check(&ledger);
        wait_until("all is closed", || left(&server) == before);
        rounds += 1;
        heard += ledger.heard.len();
        background += ledger.background.len();
        (died, gone) = (died + ledger.died, gone + ledger.left);
        resident.push((start.elapsed(), server.resident()));
    }
    let last = resident.last().unwrap().1;
    // What the first tenth has made warm.
    let warm = resident.iter().find(|(at, _)| *at >= length / 10).unwrap().1;
    println!(
        "soak: {heard} ends heard and {background} background jobs in {rounds} rounds; {died} workers died, {gone} clients \
         left; {} KiB resident, and {} KiB at the end",
        warm >> 10,
        last >> 10
    );
    assert!(rounds < 10 || last < warm + MEMORY, "the server's memory grows: {warm} bytes, and {last} at the end");
}
