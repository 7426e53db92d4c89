//! Are the counts of a server exact at all times? Random submits, grabs, ends, cancels and disconnects; after each, what the
//! tables say is compared with what the test knows.
#![cfg(feature = "gearman")]

#[path = "common/peer.rs"]
mod peer;
#[path = "common/rng.rs"]
#[allow(dead_code)]
mod rng;

use layshaft::gearman::packet::Kind;
use layshaft::gearman::{JobState, Server};
use peer::{Peer, server};
use rng::Rng;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

const FUNCTIONS: [&str; 3] = ["f", "g", "h"];
const PEERS: usize = 4;

/// A job as the test knows it.
#[derive(Debug)]
struct Job {
    function: usize,
    /// High, normal, low.
    priority: usize,
    unique: Option<u64>,
    /// Clients, each as often as it has submitted it.
    listeners: Vec<usize>,
    background: bool,
    worker: Option<usize>,
}

struct World {
    server: Server,
    rng: Rng,
    clients: Vec<Peer>,
    workers: Vec<Peer>,
    can_do: Vec<BTreeSet<usize>>,
    admin: Peer,
    jobs: BTreeMap<Vec<u8>, Job>,
}

impl World {
    fn new(seed: u64) -> World {
        let server = server();
        let mut peers = (0..2 * PEERS + 1).map(|_| Peer::new(&server));
        let (clients, workers) = (peers.by_ref().take(PEERS).collect(), peers.by_ref().take(PEERS).collect());
        let (admin, can_do) = (peers.next().unwrap(), vec![BTreeSet::new(); PEERS]);
        drop(peers);
        World { server, rng: Rng::new(seed), clients, workers, can_do, admin, jobs: BTreeMap::new() }
    }

    fn below(&mut self, limit: usize) -> usize {
        self.rng.below(limit as u64) as usize
    }

    fn step(&mut self) {
        match self.below(20) {
            0..=7 => self.submit(),
            8..=11 => self.grab(),
            12..=13 => self.finish(),
            14 => self.cancel(),
            15 => self.client_leaves(),
            16 => self.worker_leaves(),
            17 => self.forget(),
            _ => self.learn(),
        }
    }

    fn submit(&mut self) {
        let (client, function, priority) = (self.below(PEERS), self.below(3), self.below(3));
        let background = self.rng.one_in(2);
        let unique = self.rng.one_in(3).then(|| self.rng.below(4));
        let kind = match (priority, background) {
            (0, false) => Kind::SubmitJobHigh,
            (0, true) => Kind::SubmitJobHighBg,
            (1, false) => Kind::SubmitJob,
            (1, true) => Kind::SubmitJobBg,
            (_, false) => Kind::SubmitJobLow,
            (_, true) => Kind::SubmitJobLowBg,
        };
        let key = unique.map_or(String::new(), |key| format!("key{key}"));
        self.clients[client].sync();
        let handle = self.clients[client].submit(kind, FUNCTIONS[function], key.as_bytes(), b"x");
        let same = |job: &Job| job.function == function && unique.is_some() && job.unique == unique;
        let known = self.jobs.iter().find(|(_, job)| same(job)).map(|(handle, _)| handle.clone());
        assert_eq!(known.is_some(), self.jobs.contains_key(&handle), "joined what has this key, and nothing else");
        let job = self.jobs.entry(handle).or_insert(Job {
            function,
            priority,
            unique,
            listeners: Vec::new(),
            background: false,
            worker: None,
        });
        job.background |= background;
        if !background {
            job.listeners.push(client);
        }
    }

    fn grab(&mut self) {
        let worker = self.below(PEERS);
        self.workers[worker].send(Kind::GrabJob, &[]);
        let got = self.workers[worker].next().unwrap();
        let can = &self.can_do[worker];
        let best = self
            .jobs
            .values()
            .filter(|job| job.worker.is_none() && can.contains(&job.function))
            .map(|job| job.priority);
        match (got.kind, best.min()) {
            (Kind::NoJob, None) => {}
            (Kind::JobAssign, Some(priority)) => {
                let job = self.jobs.get_mut(&got.args[0]).expect("a job that is known");
                assert!(job.worker.is_none() && can.contains(&job.function) && job.priority == priority, "{job:?}");
                job.worker = Some(worker);
            }
            other => panic!("{other:?} of {:?}", self.jobs),
        }
    }

    fn running(&mut self) -> Option<(Vec<u8>, usize)> {
        let running: Vec<(Vec<u8>, usize)> =
            self.jobs.iter().filter_map(|(handle, job)| Some((handle.clone(), job.worker?))).collect();
        (!running.is_empty()).then(|| running[self.below(running.len())].clone())
    }

    fn finish(&mut self) {
        let Some((handle, worker)) = self.running() else { return };
        match self.below(3) {
            0 => self.workers[worker].complete(&handle, b"done"),
            1 => self.workers[worker].send(Kind::WorkFail, &[&handle]),
            _ => {
                self.workers[worker].send(Kind::WorkException, &[&handle, b"why"]);
                self.workers[worker].send(Kind::WorkFail, &[&handle]);
            }
        }
        self.workers[worker].expect_nothing();
        self.jobs.remove(&handle);
    }

    fn cancel(&mut self) {
        if self.jobs.is_empty() {
            return;
        }
        let n = self.below(self.jobs.len());
        let handle = self.jobs.keys().nth(n).unwrap().clone();
        let line = format!("cancel job {}", String::from_utf8(handle.clone()).unwrap());
        assert_eq!(self.admin.ask(&line), "OK");
        self.jobs.remove(&handle);
    }

    fn client_leaves(&mut self) {
        let client = self.below(PEERS);
        self.clients[client].sync();
        let new = self.newcomer();
        std::mem::replace(&mut self.clients[client], new).reset();
        self.wait_for_peers();
        for job in self.jobs.values_mut() {
            job.listeners.retain(|listener| *listener != client);
        }
        self.drop_abandoned();
    }

    fn worker_leaves(&mut self) {
        let worker = self.below(PEERS);
        self.workers[worker] = self.newcomer();
        self.wait_for_peers();
        self.can_do[worker].clear();
        for job in self.jobs.values_mut().filter(|job| job.worker == Some(worker)) {
            job.worker = None;
        }
        self.drop_abandoned();
    }

    /// What runs goes on; what is queued, and nobody waits for, does not run.
    fn drop_abandoned(&mut self) {
        self.jobs.retain(|_, job| job.background || job.worker.is_some() || !job.listeners.is_empty());
    }

    fn newcomer(&self) -> Peer {
        let mut peer = Peer::new(&self.server);
        peer.expect_nothing();
        peer
    }

    fn wait_for_peers(&mut self) {
        let start = Instant::now();
        while self.server.clients().len() != 2 * PEERS + 1 {
            assert!(start.elapsed() < Duration::from_secs(30), "{:?}", self.server.clients());
            std::thread::yield_now();
        }
    }

    fn learn(&mut self) {
        let (worker, function) = (self.below(PEERS), self.below(3));
        self.workers[worker].send(Kind::CanDo, &[FUNCTIONS[function].as_bytes()]);
        self.workers[worker].expect_nothing();
        self.can_do[worker].insert(function);
    }

    fn forget(&mut self) {
        let (worker, function) = (self.below(PEERS), self.below(3));
        self.workers[worker].send(Kind::CantDo, &[FUNCTIONS[function].as_bytes()]);
        self.workers[worker].expect_nothing();
        self.can_do[worker].remove(&function);
    }

    /// Each table says what the test knows.
    fn check(&mut self) {
        let of = |jobs: &BTreeMap<Vec<u8>, Job>, function: usize, which: &dyn Fn(&Job) -> bool| {
            jobs.values().filter(|job| job.function == function && which(job)).count()
        };
        let (status, priorities) = (self.admin.rows("status"), self.admin.rows("prioritystatus"));
        let told = self.server.status();
        for (n, name) in FUNCTIONS.iter().enumerate() {
            let total = of(&self.jobs, n, &|_| true);
            let running = of(&self.jobs, n, &|job| job.worker.is_some());
            let queued = [0, 1, 2].map(|p| of(&self.jobs, n, &|job| job.worker.is_none() && job.priority == p));
            let workers = self.can_do.iter().filter(|can| can.contains(&n)).count();
            let [high, normal, low] = queued;
            let row = status.iter().find(|row| row.starts_with(&format!("{name}\t")));
            // One that nobody has named yet is in no table.
            let Some(row) = row else {
                assert_eq!((total, workers), (0, 0));
                continue;
            };
            assert_eq!(*row, format!("{name}\t{total}\t{running}\t{workers}"));
            assert!(priorities.contains(&format!("{name}\t{high}\t{normal}\t{low}\t{workers}")), "{priorities:?}");
            let entry = told.functions.iter().find(|entry| entry.name == name.as_bytes()).unwrap();
            assert_eq!((entry.queued.high, entry.queued.normal, entry.queued.low), (high, normal, low));
            assert_eq!((entry.running, entry.workers), (running, workers));
        }
        assert_eq!(self.admin.rows("jobs").len(), self.jobs.len());
        let jobs = self.server.jobs();
        assert_eq!(jobs.len(), self.jobs.len());
        for job in jobs {
            let known = &self.jobs[&job.handle];
            assert_eq!(matches!(job.state, JobState::Running(_)), known.worker.is_some());
            assert_eq!((job.listeners, job.is_background), (known.listeners.len(), known.background), "{known:?}");
        }
        let running = self.jobs.values().filter(|job| job.worker.is_some()).count();
        assert_eq!((told.queued, told.running), (self.jobs.len() - running, running));
        assert_eq!(told.job_bytes == 0, self.jobs.is_empty());
    }
}

#[test]
fn counts_are_exact_at_all_times() {
    let seed = rng::seed("counts_are_exact_at_all_times");
    for round in 0..4 {
        let mut world = World::new(seed.wrapping_add(round));
        for _ in 0..500 {
            world.step();
            world.check();
        }
    }
}
