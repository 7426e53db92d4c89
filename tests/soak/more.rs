//! What the threads do besides submitting, pulling and changing: asking, borrowing, and taking results as they come.

use crate::actor::Actor;
use crate::ledger::{ACCEPTED, Arg, HANDLE, Kind, Reply};
use layshaft::{Engine, Function, LookupError, WaitError};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::SeqCst;

impl<const N: usize> Actor<N> {
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
        if slot.kind != Kind::Plain {
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
