//! What the threads do besides submitting, pulling and changing: asking, borrowing, and taking results as they come.

use crate::actor::Actor;
use crate::common::rng::Rng;
use crate::ledger::{ACCEPTED, Arg, HANDLE, Kind, Reply};
use crate::round::{Round, WORKERS};
#[cfg(feature = "rayon")]
use layshaft::LendError;
use layshaft::{Engine, Function, LookupError, WaitError};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::SeqCst;

impl<const N: usize> Round<N> {
    /// Rayon's threads are the engine's for a while: all that was given to them has been done when the loan is over, or it was
    /// refused and nothing was begun. Not where all that is discarded is counted: the loan's own jobs are among it.
    #[cfg(feature = "rayon")]
    pub(crate) fn lend(&self, rng: &mut Rng, engine: &Engine, most: usize) {
        if self.is_simple {
            return;
        }
        let (begun, done, spawned) = (AtomicUsize::new(0), AtomicUsize::new(0), Arc::new(AtomicUsize::new(0)));
        let (depth, tokens) = (rng.below(5) as u32, rng.below(4) as usize);
        let n = 1 + rng.below(most as u64) as usize;
        let (late, live) = (Arc::clone(&spawned), &self.ledger.live);
        let lent = engine.lend(n, || {
            begun.fetch_add(1, SeqCst);
            for token in (0..tokens).map(|_| live.token()) {
                let late = Arc::clone(&late);
                rayon::spawn(move || _ = late.fetch_add(token.number().min(1), SeqCst));
            }
            count_leaves(depth, &done);
            rayon::current_num_threads()
        });
        let counted = (begun.into_inner(), done.into_inner(), spawned.load(SeqCst));
        match lent {
            Ok(threads) => self.ledger.check((threads, counted) == (n, (1, 1 << depth, tokens)), || {
                format!("{n} workers were lent, {threads} counted; begun, done and spawned: {counted:?}")
            }),
            Err(error) => {
                let from_inside = matches!(error, LendError::TooMany { .. } | LendError::WouldNeverEnd);
                let is_right = error == LendError::Closed || (from_inside && layshaft::current().is_some());
                self.ledger.check(is_right && counted == (0, 0, 0), || format!("{error}: {counted:?}"));
            }
        }
    }

    #[cfg(not(feature = "rayon"))]
    pub(crate) fn lend(&self, _: &mut Rng, _: &Engine, _: usize) {}
}

#[cfg(feature = "rayon")]
fn count_leaves(depth: u32, done: &AtomicUsize) {
    match depth {
        0 => _ = done.fetch_add(1, SeqCst),
        _ => _ = rayon::join(|| count_leaves(depth - 1, done), || count_leaves(depth - 1, done)),
    }
}

impl<const N: usize> Actor<N> {
    pub(crate) fn lend(&mut self, engine: &Engine) {
        if self.rng.one_in(4) {
            Arc::clone(&self.round).lend(&mut self.rng, engine, WORKERS);
        }
    }

    /// Jobs of one priority, which start in this order.
    pub(crate) fn in_order(&mut self) {
        let (round, last) = (Arc::clone(&self.round), Arc::new(AtomicUsize::new(0)));
        let slot = round.pick(&mut self.rng);
        if slot.kind != Kind::Ordered {
            return;
        }
        let mut args = round.ledger.args(self.rng.below(20) as usize, slot.kind, 0, 0);
        args.iter_mut().enumerate().for_each(|(turn, arg)| arg.take_turn(&last, turn + 1));
        for arg in args {
            let id = arg.id;
            match slot.function.send(arg) {
                Ok(()) => _ = round.ledger.note(id, ACCEPTED),
                Err(error) => round.refused(&slot, error),
            }
        }
    }

    /// Whatever the answers are: they are there, and hold up nobody.
    pub(crate) fn ask(&mut self, engine: &Engine) {
        let round = Arc::clone(&self.round);
        let slot = round.pick(&mut self.rng);
        let (function, ledger) = (&slot.function, &round.ledger);
        match self.rng.below(6) {
            0 => {
                let _ = (function.queued(), function.is_closed(), engine.stats().total());
            }
            1 => {
                let stats = function.stats();
                ledger.check(stats.accepted() >= stats.ended(), || format!("more ended than came: {stats:?}"));
            }
            2 => drop(engine.function_stats()),
            3 => {
                let at = self.pick_kept();
                let why = at.map_or_else(|| function.explain(), |at| function.explain_job(&self.kept[at].handle));
                ledger.check(!why.to_string().is_empty(), || "no reason is given".to_owned());
            }
            4 => drop(engine.explain(function.name()).map(|why| why.to_string())),
            _ => {
                let found = engine.lookup::<Arg<N>, Reply>(function.name());
                let other: Result<Function<u8, Reply>, _> = engine.lookup(function.name());
                let is_right = matches!(found, Ok(_) | Err(LookupError::NotFound(_))) && other.is_err();
                ledger.check(is_right, || format!("{found:?} and {other:?}"));
            }
        }
    }

    /// Closures that borrow: all have run when the scope is over, whatever becomes of the engine meanwhile.
    pub(crate) fn borrow(&mut self, engine: &Engine) {
        let (count, ran) = (self.rng.below(6) as usize, AtomicUsize::new(0));
        let one = || _ = ran.fetch_add(1, SeqCst);
        engine.scope(|scope| (0..count).for_each(|_| scope.spawn(one)));
        let inner = || engine.join(one, one);
        engine.join(one, inner);
        let ran = ran.load(SeqCst);
        self.round.ledger.check(ran == count + 3, || format!("{ran} of {} closures ran", count + 3));
    }

    /// Jobs that nothing holds up, in the order in which they end.
    pub(crate) fn as_they_come(&mut self) {
        let slot = self.round.pick(&mut self.rng);
        if !matches!(slot.kind, Kind::Plain | Kind::Ordered) {
            return;
        }
        let ledger = &self.round.ledger;
        let args = ledger.args(self.rng.below(8) as usize, slot.kind, HANDLE, 0);
        let ids: Vec<usize> = args.iter().map(|arg| arg.id).collect();
        let batch = match slot.function.submit_batch(args) {
            Ok(batch) => batch,
            Err(error) => {
                let (batch, rest) = error.into_parts();
                rest.into_iter().for_each(Arg::hand_back);
                batch
            }
        };
        ids[..batch.len()].iter().for_each(|id| _ = ledger.note(*id, ACCEPTED));
        for (index, end) in batch.as_completed() {
            match end {
                Ok(reply) => ledger.end(ids[index], &Ok(reply)),
                Err(WaitError::Job(error)) => ledger.end(ids[index], &Err(error)),
                Err(other) => ledger.wrong(format!("{other}")),
            }
        }
    }
}
