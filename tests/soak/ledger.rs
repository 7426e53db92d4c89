//! What is known of each job, so that at the end every one can be accounted for.

use crate::common::{Live, Token};
use layshaft::JobError;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicUsize, Ordering::SeqCst};

/// Jobs of one round at most: whoever wants more goes without.
const MOST_JOBS: usize = 1 << 15;

// Facts of a job.
pub(crate) const HANDLE: u32 = 1 << 3;
pub(crate) const ACCEPTED: u32 = 1 << 4;
pub(crate) const REFUSED: u32 = 1 << 5;
pub(crate) const UNIQUE: u32 = 1 << 6;
/// Has a deadline or a timeout.
pub(crate) const TIMED: u32 = 1 << 7;
/// Was not to start at once.
pub(crate) const DELAYED: u32 = 1 << 8;
/// A cancel was granted.
pub(crate) const CANCELLED: u32 = 1 << 9;
/// A cancel was refused.
pub(crate) const WISHED: u32 = 1 << 10;
/// Its handle was dropped.
pub(crate) const DETACHED: u32 = 1 << 11;
/// Its body returned, or its completer gave a value.
pub(crate) const RETURNED: u32 = 1 << 12;
pub(crate) const PANICKED: u32 = 1 << 13;
/// Whoever had pulled it reported a failure, or dropped it.
pub(crate) const GIVEN_UP: u32 = 1 << 14;
/// A body cancelled it, perhaps after a discard, which is granted as well.
pub(crate) const INSIDE: u32 = 1 << 15;

/// What a function may do to its jobs: the lowest bits of the facts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    Plain,
    Limited,
    Retrying,
    Remote,
    RemoteLimited,
    RemoteRetrying,
    /// Starts one job at a time, in the order of the submits, also of those by jobs.
    Ordered,
}

impl Kind {
    const ALL: [Kind; 7] = [
        Kind::Plain,
        Kind::Limited,
        Kind::Retrying,
        Kind::Remote,
        Kind::RemoteLimited,
        Kind::RemoteRetrying,
        Kind::Ordered,
    ];

    fn of(facts: u32) -> Kind {
        Kind::ALL[(facts & 7) as usize]
    }

    pub(crate) fn is_remote(self) -> bool {
        matches!(self, Kind::Remote | Kind::RemoteLimited | Kind::RemoteRetrying)
    }

    pub(crate) fn is_limited(self) -> bool {
        !matches!(self, Kind::Plain | Kind::Remote | Kind::Ordered)
    }

    pub(crate) fn retries(self) -> bool {
        matches!(self, Kind::Retrying | Kind::RemoteRetrying)
    }
}

// Ends that a handle reported.
const VALUE: u8 = 1;
const PANIC: u8 = 2;
const FAILED: u8 = 3;
const CANCEL: u8 = 4;
const TIMEOUT: u8 = 5;
const EVICTED: u8 = 6;
const LOST: u8 = 7;

#[derive(Default)]
struct Job {
    facts: AtomicU32,
    /// How often it was started, or pulled and taken.
    runs: AtomicU32,
    /// How often its argument was dropped without that.
    unrun: AtomicU32,
    end: AtomicU8,
    /// Which key it has, if it has one.
    key: AtomicU32,
}

pub(crate) struct Ledger {
    jobs: Vec<Job>,
    next: AtomicUsize,
    pub(crate) panics: AtomicUsize,
    /// Submits off a dead list.
    pub(crate) revived: AtomicUsize,
    pub(crate) live: Live,
    wrong: Mutex<Vec<String>>,
}

/// An argument of N bytes and some more.
pub(crate) struct Arg<const N: usize> {
    pub(crate) id: usize,
    pub(crate) depth: u8,
    /// It was started, or handed back.
    is_used: bool,
    is_clone: bool,
    /// Its place among others that must start in this order.
    turn: Option<(Arc<AtomicUsize>, usize)>,
    ledger: Arc<Ledger>,
    _token: Token,
    payload: [u8; N],
}

pub(crate) struct Reply {
    pub(crate) id: usize,
    live: Live,
    _token: Token,
}

impl Reply {
    pub(crate) fn new(id: usize, live: &Live) -> Reply {
        Reply { id, live: live.clone(), _token: live.token() }
    }
}

impl Clone for Reply {
    fn clone(&self) -> Reply {
        Reply::new(self.id, &self.live)
    }
}

impl<const N: usize> Arg<N> {
    pub(crate) fn start(&mut self) {
        self.is_used = true;
        if let Some((last, turn)) = &self.turn {
            let before = last.swap(*turn, SeqCst);
            self.ledger.check(before < *turn, || format!("job {} started after one that came later", self.id));
        }
        self.ledger.jobs[self.id].runs.fetch_add(1, SeqCst);
    }

    /// Must start after those with a lower turn.
    pub(crate) fn take_turn(&mut self, last: &Arc<AtomicUsize>, turn: usize) {
        self.turn = Some((Arc::clone(last), turn));
    }

    /// It came back from a submit.
    pub(crate) fn hand_back(mut self) {
        self.is_used = true;
        self.ledger.note(self.id, REFUSED);
    }
}

impl<const N: usize> Clone for Arg<N> {
    fn clone(&self) -> Self {
        let (ledger, token) = (Arc::clone(&self.ledger), self.ledger.live.token());
        Arg { ledger, is_used: false, is_clone: true, turn: None, _token: token, ..*self }
    }
}

/// The key of jobs that are unique by their argument: one of three.
impl<const N: usize> AsRef<[u8]> for Arg<N> {
    fn as_ref(&self) -> &[u8] {
        &self.payload
    }
}

impl<const N: usize> Drop for Arg<N> {
    fn drop(&mut self) {
        if !self.is_used && !self.is_clone {
            self.ledger.jobs[self.id].unrun.fetch_add(1, SeqCst);
        }
    }
}

fn whole_key(id: usize) -> usize {
    id % 3
}

impl Ledger {
    pub(crate) fn new() -> Arc<Ledger> {
        Arc::new(Ledger {
            jobs: (0..MOST_JOBS).map(|_| Job::default()).collect(),
            next: AtomicUsize::new(0),
            panics: AtomicUsize::new(0),
            revived: AtomicUsize::new(0),
            live: Live::default(),
            wrong: Mutex::default(),
        })
    }

    /// Arguments of new jobs, with what is known of them before they are submitted.
    pub(crate) fn args<const N: usize>(
        self: &Arc<Self>,
        count: usize,
        kind: Kind,
        facts: u32,
        depth: u8,
    ) -> Vec<Arg<N>> {
        let first = self.next.fetch_add(count, SeqCst);
        let make = |id: usize| {
            self.note(id, kind as u32 | facts);
            let (ledger, token) = (Arc::clone(self), self.live.token());
            let payload = [whole_key(id) as u8; N];
            Arg { id, depth, is_used: false, is_clone: false, turn: None, ledger, _token: token, payload }
        };
        (first..(first + count).min(MOST_JOBS)).map(make).collect()
    }

    pub(crate) fn note(&self, id: usize, fact: u32) -> u32 {
        self.jobs[id].facts.fetch_or(fact, SeqCst) | fact
    }

    /// The job has a key: a number that no other key has.
    pub(crate) fn note_key(&self, id: usize, key: u32) {
        self.note(id, UNIQUE);
        self.jobs[id].key.store(key, SeqCst);
    }

    /// The same, when the whole argument is the key. One without bytes is like all others.
    pub(crate) fn note_whole_key<const N: usize>(&self, id: usize) {
        self.note_key(id, if N == 0 { 100 } else { 100 + whole_key(id) as u32 });
    }

    /// Not a panic: in a body it would be just another failed job.
    pub(crate) fn wrong(&self, what: String) {
        self.wrong.lock().push(what);
    }

    pub(crate) fn check(&self, holds: bool, what: impl FnOnce() -> String) {
        if !holds {
            self.wrong(what());
        }
    }

    /// A handle has reported the end of its job.
    pub(crate) fn end(&self, id: usize, end: &Result<Reply, JobError>) {
        let code = match end {
            Ok(reply) => {
                let facts = self.jobs[id].facts.load(SeqCst);
                let of = self.jobs[reply.id].facts.load(SeqCst);
                let key = |id: usize| self.jobs[id].key.load(SeqCst);
                let same_key = of & 7 == facts & 7 && of & facts & UNIQUE != 0 && key(id) == key(reply.id);
                let is_own = reply.id == id || same_key;
                self.check(is_own && of & RETURNED != 0, || format!("job {id} gave the result of job {}", reply.id));
                VALUE
            }
            Err(JobError::Panicked(_)) => PANIC,
            Err(JobError::Failed(_)) => FAILED,
            Err(JobError::Cancelled) => CANCEL,
            Err(JobError::TimedOut) => TIMEOUT,
            Err(JobError::Evicted) => EVICTED,
            Err(_) => LOST,
        };
        let before = self.jobs[id].end.swap(code, SeqCst);
        self.check(before == 0, || format!("job {id} ended with {before} and {code}"));
    }

    /// Submits that were accepted.
    pub(crate) fn accepted(&self) -> usize {
        let submitted = self.jobs.iter().filter(|job| job.facts.load(SeqCst) & ACCEPTED != 0);
        submitted.count() + self.revived.load(SeqCst)
    }

    /// Everything has ended: fails unless every job is accounted for. `all_ran` says that accepted jobs had all the time they
    /// needed. Returns how many jobs there were, and how many of them ran.
    pub(crate) fn settle(&self, all_ran: bool) -> (usize, usize) {
        let jobs = &self.jobs[..self.next.load(SeqCst).min(MOST_JOBS)];
        for (id, job) in jobs.iter().enumerate() {
            self.settle_job(job, id, all_ran);
        }
        let wrong = self.wrong.lock();
        assert!(wrong.is_empty(), "{} of {} jobs: {:#?}", wrong.len(), jobs.len(), &wrong[..wrong.len().min(20)]);
        (jobs.len(), jobs.iter().filter(|job| job.runs.load(SeqCst) > 0).count())
    }

    fn settle_job(&self, job: &Job, id: usize, all_ran: bool) {
        let facts = job.facts.load(SeqCst);
        let (runs, unrun, end) = (job.runs.load(SeqCst), job.unrun.load(SeqCst), job.end.load(SeqCst));
        let (kind, has) = (Kind::of(facts), |fact: u32| facts & fact != 0);
        let check = |holds: bool, what: &str| {
            self.check(holds, || {
                format!("job {id} ({kind:?}, facts {facts:#x}, {runs} runs, {unrun} unrun, end {end}): {what}")
            });
        };
        check(has(ACCEPTED) != has(REFUSED), "either accepted or refused");
        if has(REFUSED) {
            check(runs == 0 && unrun == 0 && end == 0, "refused, and nothing else");
            return;
        }
        check(kind.retries() || runs + unrun == 1, "run once, or dropped once");
        check(!has(HANDLE) || (end != 0) != has(DETACHED), "one end for each handle");
        let (is_shared, once) = (has(UNIQUE), !kind.retries() && !has(UNIQUE));
        let wanted = !has(CANCELLED | WISHED);
        let held_up = !all_ran || has(DELAYED);
        match end {
            // Nobody saw it: it must have run, unless something may have kept it from that.
            0 => {
                let may_not = held_up || !wanted || is_shared || has(TIMED | GIVEN_UP) || kind.is_limited();
                check(may_not || runs == 1, "it should have run");
            }
            VALUE => check(is_shared || (has(RETURNED) && runs > 0), "it has a value, but did not run"),
            PANIC => check(is_shared || (has(PANICKED) && runs > 0), "it did not panic"),
            FAILED | LOST => check(kind.is_remote() && (is_shared || has(GIVEN_UP)), "nobody gave it up"),
            CANCEL => {
                check(!once || runs == 0, "cancelled, but it ran");
                check(is_shared || !wanted || held_up, "nobody cancelled it");
            }
            TIMEOUT => check(is_shared || has(TIMED), "it had all the time"),
            _ => check(kind.is_limited(), "evicted, without a limit"),
        }
        check(!has(CANCELLED) || end == CANCEL || end == 0, "a granted cancel is kept");
    }

    /// Jobs that ended without having run, and not because somebody cancelled them or gave them up: at least and at most, for a
    /// cancel is granted, too, when the discard came first. `is_quiet`: only bodies could come second.
    pub(crate) fn discarded(&self, is_quiet: bool) -> (usize, usize) {
        let of = |job: &Job| {
            let facts = job.facts.load(SeqCst);
            let is_one = facts & ACCEPTED != 0 && facts & (WISHED | GIVEN_UP) == 0 && job.unrun.load(SeqCst) > 0;
            let may_be = facts & CANCELLED == 0 || facts & INSIDE != 0 || !is_quiet;
            (usize::from(is_one && facts & CANCELLED == 0), usize::from(is_one && may_be))
        };
        self.jobs.iter().map(of).fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1))
    }
}
