//! What one thread does to an engine, at random.

use crate::common::rng::{Rng, jitter};
use crate::common::wake::CountingWaker;
use crate::ledger::{ACCEPTED, Arg, CANCELLED, DELAYED, GIVEN_UP, HANDLE, Kind, RETURNED, Reply, TIMED, WISHED};
use crate::round::{Kept, Round, Set, Slot};
use layshaft::{CallError, Completer, Engine, Limits, Overflow, Priority, Pulled, Retry, SubmitError, WaitError};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::mpsc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

const NEVER: Duration = Duration::from_secs(3600);
const PRIORITIES: [Priority; 3] = [Priority::High, Priority::Normal, Priority::Low];
/// What one thread keeps at most.
const MOST_KEPT: usize = 40;
const MOST_PULLED: usize = 4;

pub(crate) struct Actor<const N: usize> {
    pub(crate) round: Arc<Round<N>>,
    pub(crate) rng: Rng,
    set: Set<N>,
    pub(crate) kept: Vec<Kept>,
    pulled: Vec<Pulled<Arg<N>, Reply>>,
    completers: Vec<(usize, Completer<Reply>)>,
}

fn short(rng: &mut Rng) -> Duration {
    Duration::from_micros(rng.below(2_000))
}

/// Submitting, for threads and bodies alike.
impl<const N: usize> Round<N> {
    fn arg(&self, slot: &Slot<N>, facts: u32, depth: u8) -> Option<Arg<N>> {
        self.ledger.args(1, slot.kind, facts, depth).pop()
    }

    pub(crate) fn refused(&self, slot: &Slot<N>, error: SubmitError<Arg<N>>) {
        let is_right = if error.is_full() { slot.kind.is_limited() } else { slot.function.is_closed() };
        self.ledger.check(is_right, || format!("{error} ({:?})", slot.kind));
        error.into_arg().hand_back();
    }

    pub(crate) fn send(&self, rng: &mut Rng, slot: &Slot<N>, depth: u8) {
        let Some(arg) = self.arg(slot, 0, depth) else { return };
        let id = arg.id;
        let sent = if rng.one_in(2) { slot.function.send(arg) } else { self.job(rng, slot, arg, false).send() };
        match sent {
            Ok(()) => _ = self.ledger.note(id, ACCEPTED),
            Err(error) => self.refused(slot, error),
        }
    }

    /// `is_plain`: one that is waited for without a limit, which must not be another's or lie there for an hour.
    pub(crate) fn submit(&self, rng: &mut Rng, slot: &Slot<N>, depth: u8, is_plain: bool) -> Option<Kept> {
        let arg = self.arg(slot, HANDLE, depth)?;
        let id = arg.id;
        let submitted =
            if rng.one_in(2) { slot.function.submit(arg) } else { self.job(rng, slot, arg, is_plain).submit() };
        match submitted {
            Ok(handle) => {
                self.ledger.note(id, ACCEPTED);
                Some(Kept { id, handle, waker: None })
            }
            Err(error) => {
                self.refused(slot, error);
                None
            }
        }
    }

    fn job<'f>(
        &self,
        rng: &mut Rng,
        slot: &'f Slot<N>,
        arg: Arg<N>,
        is_plain: bool,
    ) -> layshaft::Submit<'f, Arg<N>, Reply> {
        let id = arg.id;
        let mut job = slot.function.job(arg).priority(PRIORITIES[rng.below(3) as usize]);
        if !is_plain && rng.one_in(8) {
            self.ledger.note(id, DELAYED);
            job = if rng.one_in(2) { job.after(NEVER) } else { job.after(short(rng)) };
        }
        if self.is_simple {
            return job;
        }
        if !is_plain && rng.one_in(3) {
            if rng.one_in(2) {
                self.ledger.note_whole_key::<N>(id);
                job = job.unique_argument();
            } else {
                let key = rng.below(4) as u8;
                self.ledger.note_key(id, 1 + u32::from(key));
                job = job.unique([key]);
            }
        }
        if rng.one_in(8) {
            self.ledger.note(id, TIMED);
            job = job.timeout(short(rng));
        }
        if rng.one_in(8) {
            self.ledger.note(id, TIMED);
            job = job.deadline(short(rng));
        }
        if rng.one_in(8) {
            let token = self.ledger.live.token();
            let updates = Arc::clone(&self.updates);
            job = job.on_update(move |_| {
                updates.fetch_add(token.number().min(1), SeqCst);
            });
        }
        job
    }

    pub(crate) fn batch(&self, rng: &mut Rng, slot: &Slot<N>, depth: u8, mut keep: impl FnMut(Kept)) {
        let handles = rng.one_in(2);
        let count = if rng.one_in(4) { rng.below(150) } else { rng.below(12) } as usize;
        let args = self.ledger.args(count, slot.kind, if handles { HANDLE } else { 0 }, depth);
        let ids: Vec<usize> = args.iter().map(|arg| arg.id).collect();
        let (accepted, made, rest) = if handles {
            match slot.function.submit_batch(args) {
                Ok(made) => (made.len(), Some(made), Vec::new()),
                Err(error) => {
                    let (accepted, (made, rest)) = (error.accepted(), error.into_parts());
                    (accepted, Some(made), rest)
                }
            }
        } else {
            match slot.function.send_batch(args) {
                Ok(accepted) => (accepted, None, Vec::new()),
                Err(error) => (error.accepted(), None, error.into_parts().1),
            }
        };
        let (taken, refused) = ids.split_at(accepted);
        taken.iter().for_each(|id| _ = self.ledger.note(*id, ACCEPTED));
        let is_rest = rest.iter().map(|arg| arg.id).eq(refused.iter().copied());
        self.ledger.check(is_rest, || "a batch came back otherwise than it was refused".to_owned());
        rest.into_iter().for_each(Arg::hand_back);
        for (id, handle) in taken.iter().zip(made.into_iter().flatten()) {
            let kept = Kept { id: *id, handle, waker: None };
            if rng.one_in(2) { keep(kept) } else { self.detach(kept) }
        }
    }

    pub(crate) fn cancel(&self, kept: &Kept) {
        let granted = kept.handle.cancel();
        self.ledger.note(kept.id, if granted { CANCELLED } else { WISHED });
        let is_kept = !granted || kept.handle.is_finished();
        self.ledger.check(is_kept, || format!("job {} was cancelled, and has not ended", kept.id));
    }
}

/// Ends a pulled job somehow.
pub(crate) fn finish<const N: usize>(round: &Round<N>, rng: &mut Rng, pulled: Pulled<Arg<N>, Reply>) {
    let id = pulled.arg().id;
    if rng.one_in(8) {
        round.ledger.note(id, GIVEN_UP);
        drop(pulled);
        return;
    }
    let (mut arg, completer) = pulled.take();
    arg.start();
    complete(round, rng, id, completer);
}

fn complete<const N: usize>(round: &Round<N>, rng: &mut Rng, id: usize, completer: Completer<Reply>) {
    completer.progress(1, 1);
    completer.data(b"part");
    let _ = (completer.is_cancelled(), completer.id());
    match rng.below(6) {
        0 => {
            round.ledger.note(id, GIVEN_UP);
            completer.fail("meant");
        }
        1 => {
            round.ledger.note(id, GIVEN_UP);
            drop(completer);
        }
        _ => {
            round.ledger.note(id, RETURNED);
            completer.complete(Reply::new(id, &round.ledger.live));
        }
    }
}

/// A consumer that waits for jobs until its functions are closed and empty.
pub(crate) fn serve<const N: usize>(round: &Round<N>, set: &Set<N>, mut rng: Rng) {
    while let Some(pulled) = set.next() {
        jitter(&mut rng);
        if rng.one_in(6) { pulled.put_back() } else { finish(round, &mut rng, pulled) }
    }
}

impl<const N: usize> Actor<N> {
    pub(crate) fn new(round: Arc<Round<N>>, engine: &Engine, n: usize) -> Self {
        let rng = Rng::new(round.seed ^ (n as u64 + 1).wrapping_mul(0x51ed));
        let (kept, pulled, completers) = (Vec::new(), Vec::new(), Vec::new());
        Actor { round, rng, set: engine.consumer_set(), kept, pulled, completers }
    }

    /// Does that many operations, and tells when half of them and when all are done.
    pub(crate) fn act(mut self, engine: &Engine, operations: u64, passed: &mpsc::Sender<()>) -> Self {
        for n in 0..operations {
            self.once(engine);
            jitter(&mut self.rng);
            if n == operations / 2 {
                let _ = passed.send(());
            }
        }
        let _ = passed.send(());
        self
    }

    fn once(&mut self, engine: &Engine) {
        let round = Arc::clone(&self.round);
        let slot = round.pick(&mut self.rng);
        let depth = self.rng.below(3) as u8;
        match self.rng.below(46) {
            0..=5 => round.send(&mut self.rng, &slot, depth),
            6..=11 => {
                let kept = round.submit(&mut self.rng, &slot, depth, false);
                self.kept.extend(kept);
            }
            12..=13 => {
                let kept = &mut self.kept;
                round.batch(&mut self.rng, &slot, depth.min(1), |new| kept.push(new));
            }
            14 => self.call(&slot, depth),
            15..=17 => {
                if let Some(at) = self.pick_kept() {
                    round.cancel(&self.kept[at]);
                }
            }
            18..=19 => self.wait(),
            20..=21 => self.poll(),
            22..=25 => self.pull(),
            26..=28 => self.end_one_pulled(),
            29..=30 => self.change_set(&slot),
            31..=34 => self.control(&slot),
            35 if self.rng.one_in(4) => self.replace(engine),
            36 | 40 => self.ask(engine),
            41 => self.borrow(engine),
            42 => self.as_they_come(),
            44 => self.in_order(),
            45 => self.lend(engine),
            _ => {
                if let Some(at) = self.pick_kept() {
                    round.detach(self.kept.swap_remove(at));
                }
            }
        }
        while self.kept.len() > MOST_KEPT {
            round.detach(self.kept.swap_remove(0));
        }
    }

    pub(crate) fn pick_kept(&mut self) -> Option<usize> {
        (!self.kept.is_empty()).then(|| self.rng.below(self.kept.len() as u64) as usize)
    }

    fn call(&mut self, slot: &Slot<N>, depth: u8) {
        if !matches!(slot.kind, Kind::Plain | Kind::Ordered) {
            return;
        }
        let Some(arg) = self.round.arg(slot, HANDLE, depth) else { return };
        let id = arg.id;
        let end = match slot.function.call(arg) {
            Err(CallError::Submit(error)) => return self.round.refused(slot, error),
            Err(CallError::Wait(WaitError::Job(error))) => Err(error),
            Err(other) => panic!("{other}"),
            Ok(reply) => Ok(reply),
        };
        self.round.ledger.note(id, ACCEPTED);
        self.round.ledger.end(id, &end);
    }

    fn wait(&mut self) {
        let Some(at) = self.pick_kept() else { return };
        let Kept { id, handle, waker } = self.kept.swap_remove(at);
        if let Some(waker) = waker.filter(|_| handle.is_finished()) {
            waker.wait_for(1);
        }
        match handle.wait_timeout(Duration::from_micros(self.rng.below(200))) {
            Ok(end) => self.round.ledger.end(id, &end),
            // That took the waker's place.
            Err(handle) => self.kept.push(Kept { id, handle, waker: None }),
        }
    }

    fn poll(&mut self) {
        let Some(at) = self.pick_kept() else { return };
        let (counter, waker) = CountingWaker::pair();
        let kept = &mut self.kept[at];
        match Pin::new(&mut kept.handle).poll(&mut Context::from_waker(&waker)) {
            Poll::Pending => kept.waker = Some(counter),
            Poll::Ready(end) => {
                let kept = self.kept.swap_remove(at);
                self.round.ledger.end(kept.id, &end);
            }
        }
    }

    fn pull(&mut self) {
        if self.rng.one_in(8) {
            let (_, waker) = CountingWaker::pair();
            let _ = self.set.poll_ready(&mut Context::from_waker(&waker));
        }
        if self.pulled.len() < MOST_PULLED {
            self.pulled.extend(self.set.try_next());
        }
    }

    fn end_one_pulled(&mut self) {
        let (round, rng) = (&self.round, &mut self.rng);
        if !self.completers.is_empty() && rng.one_in(2) {
            let at = rng.below(self.completers.len() as u64) as usize;
            let (id, completer) = self.completers.swap_remove(at);
            complete(round, rng, id, completer);
            return;
        }
        if self.pulled.is_empty() {
            return;
        }
        let pulled = self.pulled.swap_remove(rng.below(self.pulled.len() as u64) as usize);
        match rng.below(4) {
            0 => pulled.put_back(),
            1 if self.completers.len() < MOST_PULLED => {
                let (mut arg, completer) = pulled.take();
                arg.start();
                self.completers.push((arg.id, completer));
            }
            _ => finish(round, rng, pulled),
        }
    }

    /// What is still out comes back, or ends.
    pub(crate) fn end_pulled(&mut self) {
        while !self.pulled.is_empty() || !self.completers.is_empty() {
            self.end_one_pulled();
        }
        let (_, waker) = CountingWaker::pair();
        let _ = self.set.poll_ready(&mut Context::from_waker(&waker));
    }

    fn change_set(&mut self, slot: &Slot<N>) {
        match (slot.kind.is_remote(), self.rng.below(4)) {
            (false, _) => {}
            (true, 0) => self.set.remove(&slot.function),
            (true, _) => self.set.add(&slot.function),
        }
    }

    fn control(&mut self, slot: &Slot<N>) {
        let (rng, function) = (&mut self.rng, &slot.function);
        if !slot.kind.is_limited() {
            return;
        }
        match rng.below(9) {
            8 => function.time_exactly(rng.one_in(2)),
            0 => function.pause(),
            1 => function.pause_until(Instant::now() + short(rng)),
            2..=3 => function.resume(),
            4..=5 if slot.kind.retries() => self.retry(slot),
            _ => function.set_limits(limits(rng, self.round.blocks)),
        }
    }

    fn retry(&mut self, slot: &Slot<N>) {
        let (rng, function) = (&mut self.rng, &slot.function);
        match rng.below(4) {
            0 => function.set_retry(None),
            1 => {
                // A clone of an argument: nobody is waiting for it.
                let dead = function.dead();
                drop(dead.first().and_then(|dead| function.take_dead(dead.number)));
            }
            2 => {
                let retried = function.dead().last().map(|dead| function.retry_dead(dead.number));
                self.round.ledger.revived.fetch_add(usize::from(matches!(retried, Some(Ok(true)))), SeqCst);
            }
            _ => {
                let retry = Retry::attempts(rng.below(4) as u32).panics(rng.one_in(2)).timeouts(rng.one_in(2));
                let delay = [Duration::ZERO, short(rng), NEVER][rng.below(3) as usize];
                function.set_retry(retry.delay(delay).keep_dead(rng.below(5) as usize));
            }
        }
    }

    /// Removes a function, and registers another in its place.
    fn replace(&mut self, engine: &Engine) {
        let mut slots = self.round.slots.lock();
        let at = self.rng.below(slots.len() as u64) as usize;
        engine.remove(&format!("function {at}"));
        if let Some(slot) = self.round.register(engine, at, slots[at].kind) {
            slots[at] = slot;
        }
    }
}

fn limits(rng: &mut Rng, blocks: bool) -> Limits {
    let mut limits = Limits::new().drop_abandoned(rng.one_in(4));
    if rng.one_in(2) {
        limits = limits.capacity(rng.below(30) as usize);
    }
    if rng.one_in(4) {
        limits = limits.capacity_of(PRIORITIES[rng.below(3) as usize], rng.below(10) as usize);
    }
    if rng.one_in(2) {
        limits = limits.concurrency(rng.below(4) as usize);
    }
    let policies = [Overflow::Reject, Overflow::EvictNewest, Overflow::EvictOldest, Overflow::Block];
    limits.overflow(policies[rng.below(if blocks { 4 } else { 3 }) as usize])
}
