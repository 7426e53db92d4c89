//! The table against a model of what it promises, under any order of what peers do: one end for whoever listens to a job,
//! exact counts, order within a priority, and no sleeper that could take a job while nobody is on the way to it.

use super::Table;
use crate::gearman::packet::{self, Frame, Kind, Limits, Magic, Message};
use crate::gearman::server::conn::Conn;
use crate::gearman::server::functions::Entry;
use crate::gearman::server::job::State;
use crate::gearman::server::keys::ConnKey;
use crate::gearman::server::notices::{HasTable, Notices};
use crate::gearman::server::settings::{OnLoss, Settings};
use crate::gearman::text::MaxQueue;
use crate::{Engine, Overflow};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

const PEERS: usize = 4;
const FUNCTIONS: [&str; 2] = ["f", "g"];
const KEYS: [&str; 3] = ["", "a", "b"];
/// How long a job of the second function may run.
const LIMIT: Duration = Duration::from_millis(500);

#[derive(Clone, Debug)]
enum Step {
    Submit {
        peer: usize,
        function: usize,
        priority: usize,
        background: bool,
        key: usize,
    },
    CanDo {
        peer: usize,
        function: usize,
    },
    CantDo {
        peer: usize,
        function: usize,
    },
    Grab {
        peer: usize,
    },
    Sleep {
        peer: usize,
    },
    /// Of the jobs in hand.
    End {
        peer: usize,
        at: usize,
        how: Kind,
    },
    Tell {
        peer: usize,
        at: usize,
    },
    /// Of any job ever, by somebody who need not have it.
    Lie {
        peer: usize,
        job: usize,
    },
    Cancel {
        peer: usize,
        job: usize,
    },
    Leave {
        peer: usize,
    },
    Pass {
        millis: u64,
    },
    Pause {
        function: usize,
        is_paused: bool,
    },
    Drain,
}

/// What is set, for all of a run.
#[derive(Clone, Copy, Debug)]
struct Choice {
    most: Option<usize>,
    overflow: Overflow,
    on_timeout: OnLoss,
    runs_abandoned: bool,
    may_drain: bool,
}

/// The default settings.
const DEFAULT: Choice = Choice {
    most: None,
    overflow: Overflow::Reject,
    on_timeout: OnLoss::Fail,
    runs_abandoned: false,
    may_drain: false,
};

fn choice() -> impl Strategy<Value = Choice> {
    let most = prop_oneof![2 => Just(None), 1 => (1..4usize).prop_map(Some)];
    let overflow = prop::sample::select(vec![Overflow::Reject, Overflow::EvictNewest, Overflow::EvictOldest]);
    let on_timeout = prop::sample::select(vec![OnLoss::Fail, OnLoss::Requeue]);
    (most, overflow, on_timeout, any::<bool>(), any::<bool>()).prop_map(
        |(most, overflow, on_timeout, runs_abandoned, may_drain)| Choice {
            most,
            overflow,
            on_timeout,
            runs_abandoned,
            may_drain,
        },
    )
}

fn step() -> impl Strategy<Value = Step> {
    let peer = 0..PEERS;
    let of = || 0..FUNCTIONS.len();
    let how = prop::sample::select(vec![Kind::WorkComplete, Kind::WorkFail, Kind::WorkException]);
    prop_oneof![
        8 => (peer.clone(), of(), 0..3usize, any::<bool>(), 0..KEYS.len()).prop_map(
            |(peer, function, priority, background, key)| Step::Submit { peer, function, priority, background, key }),
        3 => (peer.clone(), of()).prop_map(|(peer, function)| Step::CanDo { peer, function }),
        1 => (peer.clone(), of()).prop_map(|(peer, function)| Step::CantDo { peer, function }),
        6 => peer.clone().prop_map(|peer| Step::Grab { peer }),
        3 => peer.clone().prop_map(|peer| Step::Sleep { peer }),
        4 => (peer.clone(), any::<usize>(), how).prop_map(|(peer, at, how)| Step::End { peer, at, how }),
        1 => (peer.clone(), any::<usize>()).prop_map(|(peer, at)| Step::Tell { peer, at }),
        1 => (peer.clone(), any::<usize>()).prop_map(|(peer, job)| Step::Lie { peer, job }),
        1 => (peer.clone(), any::<usize>()).prop_map(|(peer, job)| Step::Cancel { peer, job }),
        1 => peer.prop_map(|peer| Step::Leave { peer }),
        1 => (0..600u64).prop_map(|millis| Step::Pass { millis }),
        1 => (of(), any::<bool>()).prop_map(|(function, is_paused)| Step::Pause { function, is_paused }),
        1 => Just(Step::Drain),
    ]
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Queued,
    Running { peer: usize, until: Option<Instant> },
    Over,
}

#[derive(Debug)]
struct Job {
    handle: Vec<u8>,
    function: usize,
    priority: usize,
    key: usize,
    place: Place,
    detached: bool,
    /// Submits that wait for the end, by peer.
    waiting: BTreeMap<usize, usize>,
}

#[derive(Default)]
struct Peer {
    abilities: [bool; FUNCTIONS.len()],
    asleep: bool,
    /// Was told of a job, and has neither looked nor gone to sleep since.
    woken: bool,
    exceptions: bool,
    in_hand: Vec<usize>,
    /// Jobs that were taken from its hands, which it may still speak of.
    taken: BTreeSet<usize>,
}

struct Run {
    table: Table,
    choice: Choice,
    /// By function.
    paused: [bool; FUNCTIONS.len()],
    drains: bool,
    now: Instant,
    keys: Vec<ConnKey>,
    peers: Vec<Peer>,
    jobs: Vec<Job>,
    /// By function and priority.
    queues: [[VecDeque<usize>; 3]; FUNCTIONS.len()],
    /// What peers are to get, in order; NOOPs are looked at apart.
    expected: Vec<Vec<(Kind, Vec<u8>)>>,
}

impl Run {
    fn new(choice: Choice) -> Run {
        let engine = Engine::builder().workers(1).start().unwrap();
        let mut settings = Settings { host: "model".into(), ..Settings::default() };
        settings.rules.max_queue = MaxQueue::All(choice.most);
        settings.rules.overflow = choice.overflow;
        settings.rules.on_timeout = choice.on_timeout;
        settings.rules.runs_abandoned = choice.runs_abandoned;
        let table = Table::new(engine, Arc::new(settings), Arc::new(Notices::new(|| ())), 1);
        let mut run = Run {
            table,
            choice,
            paused: [false; FUNCTIONS.len()],
            drains: false,
            now: Instant::now(),
            keys: Vec::new(),
            peers: Vec::new(),
            jobs: Vec::new(),
            queues: Default::default(),
            expected: vec![Vec::new(); PEERS],
        };
        for peer in 0..PEERS {
            run.peers.push(Peer::default());
            run.keys.push(ConnKey::default());
            run.connect(peer);
        }
        run
    }

    fn connect(&mut self, peer: usize) {
        self.keys[peer] = self.table.connect(Conn::new(0, peer as i32, format!("peer {peer}"), None, true));
        // Half of them ask for exceptions.
        self.peers[peer] = Peer { exceptions: peer % 2 == 0, ..Peer::default() };
        if peer % 2 == 0 {
            self.send(peer, Kind::OptionReq, &[b"exceptions"]);
            self.expect(peer, Kind::OptionRes, b"exceptions");
        }
    }

    fn send(&mut self, peer: usize, kind: Kind, args: &[&[u8]]) {
        let mut bytes = Vec::new();
        packet::encode(&mut bytes, Magic::Request, kind, args);
        let frame = Frame { magic: Magic::Request, code: kind.code(), body: &bytes[packet::HEADER..] };
        let _has_table = HasTable::new();
        self.table.frame(self.keys[peer], &frame, self.now);
        self.table.settle();
    }

    fn expect(&mut self, peer: usize, kind: Kind, handle: &[u8]) {
        self.expected[peer].push((kind, handle.to_vec()));
    }

    /// A job is over: whoever listens hears of it once for each submit.
    fn end(&mut self, job: usize, how: Kind) {
        let (handle, waiting) = (self.jobs[job].handle.clone(), std::mem::take(&mut self.jobs[job].waiting));
        self.leave_place(job);
        self.jobs[job].place = Place::Over;
        for (peer, times) in waiting {
            let hears = if how == Kind::WorkException && !self.peers[peer].exceptions { Kind::WorkFail } else { how };
            (0..times).for_each(|_| self.expect(peer, hears, &handle));
        }
    }

    fn leave_place(&mut self, job: usize) {
        let Job { function, priority, place, .. } = self.jobs[job];
        match place {
            Place::Queued => self.queues[function][priority].retain(|queued| *queued != job),
            Place::Running { peer, .. } => self.peers[peer].in_hand.retain(|held| *held != job),
            Place::Over => {}
        }
    }

    fn submit(&mut self, peer: usize, function: usize, priority: usize, background: bool, key: usize) {
        let kinds = [
            [Kind::SubmitJobHigh, Kind::SubmitJobHighBg],
            [Kind::SubmitJob, Kind::SubmitJobBg],
            [Kind::SubmitJobLow, Kind::SubmitJobLowBg],
        ];
        let kind = kinds[priority][usize::from(background)];
        self.send(peer, kind, &[FUNCTIONS[function].as_bytes(), KEYS[key].as_bytes(), b"payload"]);
        let is_same = |job: &Job| job.function == function && job.key == key && job.place != Place::Over;
        let joined = if key > 0 { self.jobs.iter().position(is_same) } else { None };
        let is_running = |job: usize| matches!(self.jobs[job].place, Place::Running { .. });
        if self.drains && !joined.is_some_and(is_running) {
            return self.expect(peer, Kind::Error, b"server_error");
        }
        if joined.is_none() && !self.make_room(function, priority) {
            return self.expect(peer, Kind::Error, b"queue_full");
        }
        let job = joined.unwrap_or_else(|| {
            let handle = self.created(peer);
            self.queues[function][priority].push_back(self.jobs.len());
            let (place, waiting) = (Place::Queued, BTreeMap::new());
            self.jobs.push(Job { handle, function, priority, key, place, detached: false, waiting });
            self.jobs.len() - 1
        });
        if background {
            self.jobs[job].detached = true;
        } else {
            *self.jobs[job].waiting.entry(peer).or_default() += 1;
        }
        let handle = self.jobs[job].handle.clone();
        self.expect(peer, Kind::JobCreated, &handle);
    }

    /// Whether there is room for a job, which others may have to leave: the least urgent ones, if they are not more urgent.
    fn make_room(&mut self, function: usize, priority: usize) -> bool {
        let Some(most) = self.choice.most else { return true };
        let total: usize = self.queues[function].iter().map(VecDeque::len).sum();
        let mut going: Vec<usize> = Vec::new();
        let mut queues = self.queues[function].clone();
        while total - going.len() >= most {
            let least = (priority..3).rev().find(|of| !queues[*of].is_empty());
            let Some(from) = least.filter(|_| self.choice.overflow != Overflow::Reject) else { return false };
            let oldest = self.choice.overflow == Overflow::EvictOldest;
            going.extend(if oldest { queues[from].pop_front() } else { queues[from].pop_back() });
        }
        going.into_iter().for_each(|job| self.end(job, Kind::WorkFail));
        true
    }

    /// The handle of the job that was created just now.
    fn created(&self, peer: usize) -> Vec<u8> {
        let out = &self.table.conns[self.keys[peer]].out;
        let mut handle = None;
        each_packet(out, |kind, first| {
            if kind == Kind::JobCreated {
                handle = Some(first.to_vec());
            }
        });
        handle.expect("it was created")
    }

    fn grab(&mut self, peer: usize) {
        // No two at the same time: in which order their limits are over is not promised then.
        self.now += Duration::from_micros(1);
        self.send(peer, Kind::GrabJob, &[]);
        (self.peers[peer].asleep, self.peers[peer].woken) = (false, false);
        let able = |function: &usize| self.peers[peer].abilities[*function] && !self.paused[*function] && !self.drains;
        let urgent = (0..3).find(|priority| {
            (0..FUNCTIONS.len()).filter(able).any(|function| !self.queues[function][*priority].is_empty())
        });
        let Some(priority) = urgent else { return self.expect(peer, Kind::NoJob, b"") };
        let mut assigned = None;
        each_packet(&self.table.conns[self.keys[peer]].out, |kind, first| {
            if kind == Kind::JobAssign {
                assigned = Some(first.to_vec());
            }
        });
        let handle = assigned.expect("there is a job");
        let job = self.jobs.iter().position(|job| job.handle == handle).expect("it is a job");
        let function = self.jobs[job].function;
        assert!(self.peers[peer].abilities[function]);
        assert_eq!(self.queues[function][priority].pop_front(), Some(job), "the first of the most urgent");
        let until = (function == 1).then(|| self.now + LIMIT);
        self.jobs[job].place = Place::Running { peer, until };
        self.peers[peer].in_hand.push(job);
        self.expect(peer, Kind::JobAssign, &handle);
    }

    fn say(&mut self, peer: usize, job: usize, kind: Kind) {
        let handle = self.jobs[job].handle.clone();
        let more: &[u8] = if kind == Kind::WorkStatus { b"1" } else { b"r" };
        match kind {
            Kind::WorkFail => self.send(peer, kind, &[&handle]),
            Kind::WorkStatus => self.send(peer, kind, &[&handle, more, more]),
            _ => self.send(peer, kind, &[&handle, more]),
        }
        let is_its = matches!(self.jobs[job].place, Place::Running { peer: holder, .. } if holder == peer);
        let is_last = matches!(kind, Kind::WorkComplete | Kind::WorkFail);
        if !is_its {
            let taken = &mut self.peers[peer].taken;
            let is_known = if is_last { taken.remove(&job) } else { taken.contains(&job) };
            if !is_known {
                self.expect(peer, Kind::Error, b"not_worker");
            }
        } else if kind == Kind::WorkStatus {
            let listeners: Vec<usize> = self.jobs[job].waiting.keys().copied().collect();
            listeners.into_iter().for_each(|listener| self.expect(listener, kind, &handle));
        } else {
            self.end(job, kind);
            if kind == Kind::WorkException {
                self.peers[peer].taken.insert(job);
            }
        }
    }

    fn cancel(&mut self, peer: usize, job: usize) {
        let line = [b"cancel job ", &self.jobs[job].handle[..]].concat();
        // Its answer is text: taken out, so that packets are left.
        let before = self.table.conns[self.keys[peer]].out.len();
        assert_eq!(self.table.line(self.keys[peer], &line), None);
        let place = self.jobs[job].place;
        let answer: &[u8] = if place == Place::Over { b"ERR UNKNOWN_JOB" } else { b"OK\r\n" };
        let out = &mut self.table.conns[self.keys[peer]].out;
        let at = (before..out.len()).find(|at| out[*at..].starts_with(answer)).expect("an answer");
        let end = at + out[at..].iter().position(|byte| *byte == b'\n').unwrap() + 1;
        out.drain(at..end);
        if let Place::Running { peer, .. } = place {
            self.peers[peer].taken.insert(job);
        }
        if place != Place::Over {
            self.end(job, Kind::WorkFail);
        }
    }

    fn leave(&mut self, peer: usize) {
        {
            let _has_table = HasTable::new();
            self.table.disconnect(self.keys[peer]);
        }
        for job in std::mem::take(&mut self.peers[peer].in_hand).into_iter().rev() {
            self.jobs[job].waiting.remove(&peer);
            self.jobs[job].place = Place::Over;
            if self.choice.runs_abandoned || self.jobs[job].detached || !self.jobs[job].waiting.is_empty() {
                self.jobs[job].place = Place::Queued;
                let Job { function, priority, .. } = self.jobs[job];
                self.queues[function][priority].push_front(job);
            }
        }
        for job in 0..self.jobs.len() {
            self.jobs[job].waiting.remove(&peer);
            let of = &self.jobs[job];
            let is_dropped = !self.choice.runs_abandoned && !of.detached && of.waiting.is_empty();
            if of.place == Place::Queued && is_dropped {
                self.end(job, Kind::WorkFail);
            }
        }
        self.expected[peer].clear();
        self.connect(peer);
    }

    fn pass(&mut self, millis: u64) {
        self.now += Duration::from_millis(millis);
        {
            let _has_table = HasTable::new();
            self.table.tick(self.now);
        }
        let mut over: Vec<(Instant, usize, usize)> = Vec::new();
        for (at, job) in self.jobs.iter().enumerate() {
            if let Place::Running { peer, until: Some(until) } = job.place
                && until <= self.now
            {
                over.push((until, at, peer));
            }
        }
        // By the time, as they are dealt with: each goes before the others.
        over.sort();
        for (_, job, peer) in over {
            let is_wanted = self.choice.runs_abandoned || self.jobs[job].detached || !self.jobs[job].waiting.is_empty();
            if self.choice.on_timeout == OnLoss::Requeue && is_wanted {
                self.leave_place(job);
                self.jobs[job].place = Place::Queued;
                let Job { function, priority, .. } = self.jobs[job];
                self.queues[function][priority].push_front(job);
            } else {
                self.end(job, Kind::WorkFail);
            }
            self.peers[peer].taken.insert(job);
        }
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Submit { peer, function, priority, background, key } => {
                self.submit(peer, function, priority, background, key);
            }
            Step::CanDo { peer, function } => {
                let limit = LIMIT.as_millis().to_string();
                let limit: &[u8] = if function == 1 { limit.as_bytes() } else { b"0" };
                self.send(peer, Kind::CanDoTimeout, &[FUNCTIONS[function].as_bytes(), limit]);
                self.peers[peer].abilities[function] = true;
            }
            Step::CantDo { peer, function } => {
                self.send(peer, Kind::CantDo, &[FUNCTIONS[function].as_bytes()]);
                self.peers[peer].abilities[function] = false;
            }
            Step::Grab { peer } => self.grab(peer),
            Step::Sleep { peer } => {
                self.peers[peer].woken = false;
                self.peers[peer].asleep = true;
                self.send(peer, Kind::PreSleep, &[]);
            }
            Step::End { peer, at, how } => {
                if let Some(job) = pick(&self.peers[peer].in_hand, at) {
                    self.say(peer, job, how);
                }
            }
            Step::Tell { peer, at } => {
                if let Some(job) = pick(&self.peers[peer].in_hand, at) {
                    self.say(peer, job, Kind::WorkStatus);
                }
            }
            Step::Lie { peer, job } if !self.jobs.is_empty() => {
                let job = job % self.jobs.len();
                let is_its = matches!(self.jobs[job].place, Place::Running { peer: holder, .. } if holder == peer);
                if !is_its {
                    self.say(peer, job, Kind::WorkComplete);
                }
            }
            Step::Cancel { peer, job } if !self.jobs.is_empty() => self.cancel(peer, job % self.jobs.len()),
            Step::Lie { .. } | Step::Cancel { .. } => {}
            Step::Leave { peer } => self.leave(peer),
            Step::Pass { millis } => self.pass(millis),
            Step::Pause { function, is_paused } => {
                let _has_table = HasTable::new();
                let name = FUNCTIONS[function].as_bytes();
                self.table.on_function(name, |table, key| table.set_paused(key, is_paused)).unwrap();
                self.table.settle();
                self.paused[function] = is_paused;
            }
            Step::Drain => {
                self.drains |= self.choice.may_drain;
                self.table.is_draining = self.drains;
            }
        }
    }

    fn check(&mut self) {
        for peer in 0..PEERS {
            let out = std::mem::take(&mut self.table.conns[self.keys[peer]].out);
            let (mut got, mut noops) = (Vec::new(), 0);
            each_packet(&out, |kind, first| match kind {
                Kind::Noop => noops += 1,
                kind => got.push((kind, first.to_vec())),
            });
            // Of what one step brings the order between jobs is not promised.
            let mut expected = std::mem::take(&mut self.expected[peer]);
            got.sort_by_key(|(kind, handle)| (kind.code(), handle.clone()));
            expected.sort_by_key(|(kind, handle)| (kind.code(), handle.clone()));
            assert_eq!(got, expected, "what peer {peer} got");
            assert!(noops <= usize::from(self.peers[peer].asleep), "{noops} wake-ups of one that is awake");
            if noops == 1 {
                (self.peers[peer].asleep, self.peers[peer].woken) = (false, true);
            }
        }
        self.check_counts();
        for (function, name) in FUNCTIONS.iter().enumerate() {
            let queued: usize = self.queues[function].iter().map(VecDeque::len).sum();
            let able = || self.peers.iter().filter(|peer| peer.abilities[function]);
            let is_given_out = !self.paused[function] && !self.drains;
            let lost = queued > 0 && is_given_out && able().any(|peer| peer.asleep) && !able().any(|peer| peer.woken);
            assert!(!lost, "{queued} jobs of {name} wait, a worker sleeps, and nobody was woken");
        }
    }

    fn check_counts(&self) {
        for (at, name) in FUNCTIONS.iter().enumerate() {
            let Some(entry) = self.table.names.get(name.as_bytes()).map(|key| &self.table.functions[*key]) else {
                assert!(self.jobs.iter().all(|job| job.function != at));
                continue;
            };
            let queued: [usize; 3] = std::array::from_fn(|priority| self.queues[at][priority].len());
            let running =
                self.jobs.iter().filter(|job| job.function == at && matches!(job.place, Place::Running { .. }));
            let able = self.peers.iter().filter(|peer| peer.abilities[at]).count();
            assert_eq!((entry.queued, entry.running, entry.workers), (queued, running.count(), able), "{name}");
        }
        let (runs, jobs) = (&self.table.runs, &self.table.jobs);
        let is_held = |job| jobs.get(job).is_some_and(|job| job.state == State::Held);
        for (stale, counted) in self.table.timers.stale(|run| runs.contains_key(run), is_held) {
            assert_eq!(stale, counted, "timers of what has ended");
        }
        // What is counted as it comes and goes is what there is.
        let table = &self.table;
        let of_functions = |count: fn(&Entry) -> usize| table.functions.values().map(count).sum::<usize>();
        assert_eq!(table.keyed, of_functions(|entry| entry.uniques.len()));
        assert_eq!(table.tombstones, of_functions(|entry| entry.tombstones));
        assert_eq!(table.workers, table.conns.values().filter(|conn| conn.worker.is_some()).count());
        assert_eq!(table.places, table.conns.values().map(|conn| conn.listening.capacity()).sum::<usize>());
        assert_eq!(
            table.bytes,
            table.jobs.iter().map(|(_, job)| if job.state == State::Buried { 0 } else { job.bytes() }).sum::<usize>()
        );
        let waiting: usize = self.jobs.iter().map(|job| job.waiting.len()).sum();
        assert_eq!(self.table.conns.values().map(|conn| conn.live).sum::<usize>(), waiting);
    }
}

fn pick(from: &[usize], at: usize) -> Option<usize> {
    (!from.is_empty()).then(|| from[at % from.len()])
}

fn each_packet(mut bytes: &[u8], mut each: impl FnMut(Kind, &[u8])) {
    while let Message::Frame { frame, length } = packet::decode(bytes, &Limits::default()).unwrap() {
        let packet = frame.packet().unwrap();
        each(packet.kind, packet.arg(0));
        bytes = &bytes[length..];
    }
    assert!(bytes.is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]
    #[test]
    fn any_order(choice in choice(), steps in prop::collection::vec(step(), 0..120)) {
        let mut run = Run::new(choice);
        run.check();
        for step in &steps {
            run.step(step);
            run.check();
        }
        // When all are gone, nothing is left but what runs by itself.
        (0..PEERS).for_each(|peer| run.leave(peer));
        run.check();
        let left = run.jobs.iter().filter(|job| job.place != Place::Over).count();
        let is_kept = |job: &&Job| (job.detached || choice.runs_abandoned) && job.place == Place::Queued;
        let kept = run.jobs.iter().filter(is_kept).count();
        prop_assert_eq!(left, kept);
        prop_assert!(run.table.runs.is_empty());
    }
}

/// What a server does for jobs that go, where a function has limits: not a look at the whole queue for each.
mod effort {
    use super::*;

    const MOST: usize = 2000;

    impl Run {
        fn submit_many(&mut self, peer: usize, kind: Kind, jobs: usize) {
            (0..jobs).for_each(|_| self.send(peer, kind, &[b"f", b"", b"x"]));
        }

        fn limit(&mut self, jobs: usize) {
            let key = self.table.function(b"f").unwrap();
            self.table.set_max_queue(key, MaxQueue::All(Some(jobs)));
        }

        fn disconnect(&mut self, peer: usize) {
            let _has_table = HasTable::new();
            self.table.disconnect(self.keys[peer]);
        }

        fn queued(&self) -> usize {
            self.table.functions[self.table.names[&b"f"[..]]].queued.iter().sum()
        }
    }

    #[test]
    fn an_evicted_job_costs_no_look_at_the_others() {
        let mut run = Run::new(Choice { overflow: Overflow::EvictNewest, ..DEFAULT });
        run.limit(MOST);
        run.submit_many(0, Kind::SubmitJobBg, 2 * MOST);
        assert_eq!(run.queued(), MOST);
        assert!(run.table.effort < MOST, "{}", run.table.effort);
        assert_eq!(run.table.jobs.iter().count(), MOST, "nothing is left of those that went");
    }

    /// They were queued before the limit was set.
    #[test]
    fn jobs_of_a_client_that_leaves_cost_one_look_at_the_others() {
        let mut run = Run::new(DEFAULT);
        run.submit_many(0, Kind::SubmitJob, MOST);
        run.submit_many(1, Kind::SubmitJobBg, MOST);
        run.limit(MOST + 10);
        run.disconnect(0);
        assert_eq!(run.queued(), MOST);
        assert!(run.table.effort < 2 * MOST, "{}", run.table.effort);
        // What went takes no room, and the rest has its order and its limit.
        run.submit_many(1, Kind::SubmitJobBg, 20);
        assert_eq!(run.queued(), MOST + 10);
        run.send(2, Kind::CanDo, &[b"f"]);
        run.table.conns[run.keys[2]].out.clear();
        (0..MOST + 20).for_each(|_| run.send(2, Kind::GrabJob, &[]));
        let mut got = [0; 2];
        each_packet(&run.table.conns[run.keys[2]].out, |kind, _| got[usize::from(kind == Kind::JobAssign)] += 1);
        assert_eq!(got, [10, MOST + 10]);
    }
}
