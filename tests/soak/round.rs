//! One engine's life: its functions and what their bodies do, what one thread does to it, and its end.

use crate::actor::{Actor, serve};
use crate::common::rng::{Rng, jitter};
use crate::common::wake::CountingWaker;
use crate::common::{PATIENCE, engine, outcome};
use crate::ledger::{Arg, DETACHED, INSIDE, Kind, Ledger, PANICKED, RETURNED, Reply};
use layshaft::{ConsumerSet, Engine, Function, JobHandle, Limits, Shutdown};
use parking_lot::Mutex;
use std::panic::resume_unwind;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

const THREADS: usize = 8;
pub(crate) const WORKERS: usize = 3;

pub(crate) type Fun<const N: usize> = Function<Arg<N>, Reply>;
pub(crate) type Set<const N: usize> = ConsumerSet<Arg<N>, Reply>;

/// A handle, and the waker of its last poll if that was pending.
pub(crate) struct Kept {
    pub(crate) id: usize,
    pub(crate) handle: JobHandle<Reply>,
    pub(crate) waker: Option<Arc<CountingWaker>>,
}

#[derive(Clone)]
pub(crate) struct Slot<const N: usize> {
    pub(crate) function: Fun<N>,
    pub(crate) kind: Kind,
}

/// What the threads and bodies of a round share.
pub(crate) struct Round<const N: usize> {
    pub(crate) seed: u64,
    pub(crate) ledger: Arc<Ledger>,
    /// Only what can be counted exactly: no keys, times, limits.
    pub(crate) is_simple: bool,
    /// Submits may wait for room.
    pub(crate) blocks: bool,
    pub(crate) slots: Mutex<Vec<Slot<N>>>,
    /// All there ever were.
    every: Mutex<Vec<Slot<N>>>,
    /// Handles that bodies leave behind.
    pub(crate) orphans: Mutex<Vec<Kept>>,
    pub(crate) updates: Arc<AtomicUsize>,
}

impl<const N: usize> Round<N> {
    fn new(seed: u64, rng: &mut Rng) -> Arc<Self> {
        let is_simple = rng.one_in(3);
        Arc::new(Round {
            seed,
            ledger: Ledger::new(),
            is_simple,
            blocks: !is_simple && rng.one_in(2),
            slots: Mutex::default(),
            every: Mutex::default(),
            orphans: Mutex::default(),
            updates: Arc::default(),
        })
    }

    /// The function in the slot `at`, anew. A refusal is due to the end of the engine.
    pub(crate) fn register(self: &Arc<Self>, engine: &Engine, at: usize, kind: Kind) -> Option<Slot<N>> {
        let (name, shared) = (format!("function {at}"), Arc::clone(self));
        let made = if kind.is_remote() {
            engine.consumer(&name)
        } else {
            engine.function(&name, move |arg: Arg<N>| shared.body(arg))
        };
        let mut function = made.ok()?;
        if kind == Kind::Ordered {
            function = function.ordered();
            function.set_limits(Limits::new().concurrency(1));
        }
        let slot = Slot { function, kind };
        self.every.lock().push(slot.clone());
        Some(slot)
    }

    pub(crate) fn pick(&self, rng: &mut Rng) -> Slot<N> {
        let slots = self.slots.lock();
        slots[rng.below(slots.len() as u64) as usize].clone()
    }

    pub(crate) fn detach(&self, kept: Kept) {
        self.ledger.note(kept.id, DETACHED);
        drop(kept);
    }

    /// Bodies tell something, submit more, wait for some of it, and sometimes panic.
    fn body(&self, mut arg: Arg<N>) -> Reply {
        arg.start();
        let (id, ledger) = (arg.id, &self.ledger);
        let mut rng = Rng::new(self.seed ^ (id as u64).wrapping_mul(0x1_0001));
        if rng.one_in(4) {
            jitter(&mut rng);
        }
        if rng.one_in(8) {
            let running = layshaft::current().unwrap();
            running.progress(1, 2);
            running.data(b"part");
            running.warning(b"it goes on");
            let _ = (running.is_cancelled(), running.id(), running.function());
            if rng.one_in(8) {
                drop(running.engine());
            }
        }
        for _ in 0..if arg.depth > 0 { rng.below(4) } else { 0 } {
            self.nested(&mut rng, arg.depth - 1);
        }
        if rng.one_in(32) {
            self.lend(&mut rng, &layshaft::current().unwrap().engine(), 1);
        }
        if rng.one_in(16) {
            ledger.note(id, PANICKED);
            ledger.panics.fetch_add(1, SeqCst);
            resume_unwind(Box::new(id.to_string()));
        }
        ledger.note(id, RETURNED);
        Reply::new(id, &ledger.live)
    }

    fn nested(&self, rng: &mut Rng, depth: u8) {
        let slot = self.pick(rng);
        match rng.below(6) {
            0 => self.send(rng, &slot, depth),
            1 => self.batch(rng, &slot, depth, |kept| self.orphans.lock().push(kept)),
            2 => {
                // What always runs can be waited for: the plain functions are never held up.
                let plain = slot.kind == Kind::Plain;
                let Some(kept) = self.submit(rng, &slot, depth, plain) else { return };
                if !plain {
                    self.orphans.lock().push(kept);
                    return;
                }
                match kept.handle.wait() {
                    Ok(reply) => self.ledger.end(kept.id, &Ok(reply)),
                    Err(layshaft::WaitError::Job(error)) => self.ledger.end(kept.id, &Err(error)),
                    Err(layshaft::WaitError::WouldNeverEnd(handle)) => {
                        self.orphans.lock().push(Kept { handle, ..kept });
                    }
                    Err(_) => unreachable!("there is no other error"),
                }
            }
            3 => {
                let Some(kept) = self.submit(rng, &slot, depth, false) else { return };
                self.ledger.note(kept.id, INSIDE);
                self.cancel(&kept);
                if rng.one_in(2) { self.detach(kept) } else { self.orphans.lock().push(kept) }
            }
            4 => {
                let Some(kept) = self.submit(rng, &slot, depth, false) else { return };
                match kept.handle.wait_timeout(Duration::from_micros(rng.below(100))) {
                    Ok(end) => self.ledger.end(kept.id, &end),
                    Err(handle) => self.orphans.lock().push(Kept { handle, ..kept }),
                }
            }
            _ => drop(self.submit(rng, &slot, depth, false).map(|kept| self.detach(kept))),
        }
    }
}

/// Lifts whatever holds threads or jobs up.
fn lift<const N: usize>(round: &Round<N>) {
    let slots = round.every.lock().clone();
    for slot in slots.iter().filter(|slot| slot.kind.is_limited()) {
        slot.function.set_limits(Limits::new());
        slot.function.resume();
    }
}

/// Runs one round. Returns how many jobs there were, and how many of them ran.
pub(crate) fn run<const N: usize>(seed: u64) -> (usize, usize) {
    let mut rng = Rng::new(seed);
    let round = Round::<N>::new(seed, &mut rng);
    let engine = engine(WORKERS);
    let sweeper = engine.consumer_set();
    let kinds: &[Kind] = if round.is_simple {
        &[Kind::Plain, Kind::Plain, Kind::Ordered, Kind::Remote, Kind::Remote]
    } else {
        use Kind::{Limited, Ordered, Plain, Remote, RemoteLimited, RemoteRetrying, Retrying};
        &[Plain, Plain, Ordered, Limited, Retrying, Remote, RemoteLimited, RemoteRetrying]
    };
    let slots = kinds.iter().enumerate().map(|(at, kind)| round.register(&engine, at, *kind).unwrap()).collect();
    *round.slots.lock() = slots;
    let operations = 20 + rng.below(300);
    let mode = match rng.below(5) {
        0 => Some(Shutdown::Drain),
        1 => Some(Shutdown::Discard),
        2 => Some(Shutdown::DrainFor(Duration::from_micros(rng.below(3_000)))),
        3 => Some(Shutdown::DrainFor(PATIENCE)),
        // The last handle is dropped.
        _ => None,
    };
    let is_quiet = mode.is_none() || rng.one_in(2);
    let waits_for = if is_quiet { THREADS * 2 } else { rng.below(THREADS as u64 * 2) as usize };
    let (passed, passes) = mpsc::channel();
    let threads: Vec<_> = (0..THREADS)
        .map(|n| {
            let (round, engine, passed) = (Arc::clone(&round), engine.clone(), passed.clone());
            thread::spawn(move || Actor::new(round, &engine, n).act(&engine, operations, &passed))
        })
        .collect();
    let servers: Vec<_> = (0..2)
        .map(|n| {
            let (round, set) = (Arc::clone(&round), engine.consumer_set());
            let remotes = round.slots.lock().clone().into_iter().filter(|slot| slot.kind.is_remote());
            remotes.for_each(|slot| set.add(&slot.function));
            thread::spawn(move || serve(&round, &set, Rng::new(seed ^ (1_000 + n))))
        })
        .collect();
    // The end comes when enough of them are half through, or all are done.
    let mut seen = 0;
    while seen < waits_for {
        match passes.recv_timeout(Duration::from_millis(5)) {
            Ok(()) => seen += 1,
            Err(_) => lift(&round),
        }
    }
    let shared = mode.is_some().then(|| engine.clone());
    match mode {
        Some(mode) => _ = engine.shutdown(mode),
        None => drop(engine),
    }
    let actors: Vec<_> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
    finish(&round, actors, sweeper, &mut rng);
    servers.into_iter().for_each(|server| server.join().unwrap());
    let all_ran = matches!(mode, None | Some(Shutdown::Drain | Shutdown::DrainFor(PATIENCE)));
    end(&round, shared, is_quiet, all_ran)
}

/// What consumers still have is ended, and what nobody has pulled is; then every handle must report an end.
fn finish<const N: usize>(round: &Round<N>, actors: Vec<Actor<N>>, sweeper: Set<N>, rng: &mut Rng) {
    let mut kept = Vec::new();
    for mut actor in actors {
        actor.end_pulled();
        kept.append(&mut actor.kept);
    }
    let every = round.every.lock().clone();
    every.iter().filter(|slot| slot.kind.is_remote()).for_each(|slot| sweeper.add(&slot.function));
    while let Some(pulled) = sweeper.next() {
        crate::actor::finish(round, rng, pulled);
    }
    kept.append(&mut round.orphans.lock());
    for Kept { id, handle, waker } in kept {
        if let Some(waker) = waker.as_ref().filter(|_| handle.is_finished()) {
            waker.wait_for(1);
        }
        match handle.wait_timeout(PATIENCE / 3) {
            Ok(end) => round.ledger.end(id, &end),
            Err(handle) => {
                // It is wrong to have no end.
                drop(handle);
                continue;
            }
        }
        if let Some(waker) = waker {
            round.ledger.check(waker.wakes() == 1, || format!("job {id} woke its waker {} times", waker.wakes()));
        }
    }
}

fn end<const N: usize>(round: &Round<N>, engine: Option<Engine>, is_quiet: bool, all_ran: bool) -> (usize, usize) {
    let (ledger, is_over) = (&round.ledger, engine.is_some());
    if let Some(engine) = engine {
        let report = engine.shutdown(Shutdown::Drain);
        assert!(report.complete, "{report:?}");
        let kept = std::mem::take(&mut *round.orphans.lock());
        kept.into_iter().for_each(|kept| ledger.end(kept.id, &outcome(kept.handle)));
        let panicked = engine.stats().total().panicked as usize;
        ledger.check(panicked == ledger.panics.load(SeqCst), || format!("{panicked} panics counted"));
        if round.is_simple {
            let (least, most) = ledger.discarded(is_quiet);
            ledger.check((least..=most).contains(&report.discarded), || {
                format!("{} discarded, expected {least} to {most}", report.discarded)
            });
        }
    }
    let slots = std::mem::take(&mut *round.slots.lock());
    let every = std::mem::take(&mut *round.every.lock());
    for slot in every.iter().filter(|_| is_over) {
        let queued = slot.function.queued();
        ledger.check(queued == 0, || format!("{queued} jobs queued in {:?} at the end", slot.kind));
    }
    if is_over {
        let figures: Vec<_> = every.iter().map(|slot| slot.function.stats()).collect();
        let (all, ended): (u64, u64) = figures
            .iter()
            .fold((0, 0), |(all, ended), of| (all + of.accepted() + of.coalesced, ended + of.ended() + of.coalesced));
        let accepted = ledger.accepted() as u64;
        ledger.check((all, ended) == (accepted, accepted), || {
            format!("{accepted} jobs accepted, {all} counted, {ended} of them as ended: {figures:#?}")
        });
    }
    drop((slots, every));
    // Without a handle to the engine there is nobody to ask when its threads have gone.
    let until = Instant::now() + PATIENCE;
    while ledger.live.made() != ledger.live.dropped() && Instant::now() < until {
        let kept = std::mem::take(&mut *round.orphans.lock());
        kept.into_iter().for_each(|kept| ledger.end(kept.id, &outcome(kept.handle)));
        thread::yield_now();
    }
    let settled = ledger.settle(all_ran);
    ledger.live.assert_balanced();
    settled
}
