//! How a run ends.

use super::driver::{Driver, Handle, until};
use super::operation::{Bounds, Finish};
use super::reference::{Kind, State, kind};
use crate::common::{Held, PATIENCE, outcome};
use layshaft::{Drained, FunctionStats, Shutdown};

impl Driver {
    pub(super) fn finish(mut self, finish: Finish) {
        // Those that are lost may come back, and be dead.
        while !self.pulled.is_empty() {
            self.lose(0);
        }
        if finish != Finish::Discard {
            self.make_room(|_, _| true);
        }
        let held = self.held.take().unwrap();
        match finish {
            Finish::Discard => self.discard(&held),
            Finish::Drain => self.drain(held, Some(Shutdown::Drain)),
            Finish::DrainFor => self.drain(held, Some(Shutdown::DrainFor(PATIENCE))),
            Finish::Drop => self.drain(held, None),
        }
        self.finish_batches();
        for Handle { handle, claim, wakes } in std::mem::take(&mut self.handles) {
            self.compare(claim, wakes, outcome(handle));
        }
        for (at, function) in self.functions.iter().enumerate() {
            assert_eq!((function.queued(), function.is_closed()), (0, true));
            self.check_stats(at, &function.stats());
        }
        let live = self.live.clone();
        self.owns.iter().for_each(|own| drop(own.lock().unwrap().take()));
        drop(self);
        // The engine's clock may be the last to hold something.
        until(|| live.made() == live.dropped());
        live.assert_balanced();
    }

    /// Everything has ended: what became of the jobs is what was counted.
    fn check_stats(&self, at: usize, stats: &FunctionStats) {
        let jobs = || self.model.jobs.iter().filter(|job| job.function == at);
        let ended = |state| jobs().filter(|job| job.state == state).count() as u64;
        assert_eq!((stats.queued.total(), stats.running, stats.late), (0, 0, 0), "{stats:?}");
        let FunctionStats { failed, panicked, cancelled, evicted, lost, timed_out, .. } = *stats;
        let states = [State::Failed, State::Panicked, State::Cancelled, State::Evicted, State::Lost, State::TimedOut];
        assert_eq!([failed, panicked, cancelled, evicted, lost, timed_out], states.map(ended), "{stats:?}");
        let of = &self.model.functions[at];
        let expected = [of.coalesced, of.refused, of.retried, of.died];
        assert_eq!([stats.coalesced, stats.refused, stats.retried, stats.dead], expected, "{stats:?}");
        // Where children are no jobs of the model, it does not know how many there were.
        let has_children = jobs().any(|job| matches!(kind(job.n), Kind::Parent(1..)));
        assert!(has_children || stats.done == ended(State::Value), "{stats:?}");
    }

    /// With the worker still held, everything queued is cancelled, and nothing runs later.
    fn discard(&mut self, held: &Held) {
        self.model.discard();
        let discard = || {
            std::thread::scope(|scope| {
                let stopping = scope.spawn(|| held.engine.shutdown(Shutdown::Discard));
                while self.functions.iter().any(|function| !function.is_closed() || function.queued() > 0) {
                    std::thread::yield_now();
                }
                held.open();
                stopping.join().unwrap()
            })
        };
        let drained = Driver::with_closures(held, discard);
        assert_eq!(drained.discarded, self.model.discarded);
        assert!(held.engine.shutdown(Shutdown::Drain).complete);
        // Who waited for room is told that there is none any more.
        self.model.close();
        self.let_in();
        assert!(self.log.take(0).is_empty(), "a discarded job ran");
    }

    /// What may run does, what is paused as well then, and consumers may still pull what is queued for them.
    fn drain(&mut self, held: Held, mode: Option<Shutdown>) {
        self.sweep();
        self.lift();
        self.held = Some(held);
        self.run();
        assert_eq!(self.engine().stats().total().panicked, self.model.panicked);
        let engine = self.held.take().unwrap().release();
        (0..self.functions.len()).for_each(|function| self.model.end(function));
        if let Some(mode) = mode {
            let Drained { complete, discarded, .. } = engine.shutdown(mode);
            assert_eq!((complete, discarded), (true, self.model.discarded));
        }
        drop(engine);
        self.expect_runs();
        self.model.close();
        self.sweep();
    }

    /// Jobs of several priorities that are held up to the end are not: the worker may look between two of them becoming free.
    fn lift(&mut self) {
        for (at, function) in self.functions.iter().enumerate() {
            let of = &self.model.functions[at];
            let priorities = || of.queue.iter().map(|job| self.model.jobs[*job].terms.priority);
            if of.remote || priorities().min() == priorities().max() {
                continue;
            }
            let bounds = Bounds { concurrency: None, ..of.bounds };
            function.set_limits(bounds.limits());
            function.resume();
            self.model.set_limits(at, bounds);
            self.model.functions[at].paused = false;
        }
    }

    fn sweep(&mut self) {
        let mut sweeper = self.sweeper.take().unwrap();
        while self.pull_by(&mut sweeper) {
            self.lose(0);
        }
        self.sweeper = Some(sweeper);
    }
}
