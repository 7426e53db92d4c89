//! Holding workers still, so that a test knows what is queued.

use super::{PATIENCE, engine, value};
use layshaft::{Engine, JobHandle};
use std::sync::{Arc, Condvar, Mutex};

/// Threads wait in [`Gate::pass`] until the gate is open.
#[derive(Clone, Default)]
pub(crate) struct Gate {
    shared: Arc<(Mutex<State>, Condvar)>,
}

#[derive(Default)]
struct State {
    entered: usize,
    open: bool,
}

impl Gate {
    pub(crate) fn new() -> Gate {
        Gate::default()
    }

    /// Reports arrival, then waits until the gate is open.
    pub(crate) fn pass(&self) {
        let (state, changed) = &*self.shared;
        let mut state = state.lock().unwrap();
        state.entered += 1;
        changed.notify_all();
        while !state.open {
            state = changed.wait(state).unwrap();
        }
    }

    /// Waits until `count` threads have arrived.
    #[track_caller]
    pub(crate) fn wait_entered(&self, count: usize) {
        let (state, changed) = &*self.shared;
        let (state, _) =
            changed.wait_timeout_while(state.lock().unwrap(), PATIENCE, |state| state.entered < count).unwrap();
        let entered = state.entered;
        assert!(entered >= count, "only {entered} of {count} bodies started within {PATIENCE:?}");
    }

    pub(crate) fn open(&self) {
        let (state, changed) = &*self.shared;
        state.lock().unwrap().open = true;
        changed.notify_all();
    }
}

/// An engine whose every worker sits in a gate: what is submitted stays queued until [`Held::release`].
pub(crate) struct Held {
    pub(crate) engine: Engine,
    // Opened by `drop`, before the engine goes: a failing test must not hang in the engine's drain.
    gate: Gate,
    holders: Vec<JobHandle<()>>,
}

impl Held {
    pub(crate) fn new(workers: usize) -> Held {
        Held::of(engine(workers))
    }

    pub(crate) fn of(engine: Engine) -> Held {
        let gate = Gate::new();
        let pass = gate.clone();
        let hold = engine.function("hold", move |()| pass.pass()).unwrap();
        let holders = (0..engine.workers()).map(|_| hold.submit(()).unwrap()).collect();
        gate.wait_entered(engine.workers());
        Held { engine, gate, holders }
    }

    /// Opens the gate, without waiting for the workers to leave it.
    pub(crate) fn open(&self) {
        self.gate.open();
    }

    /// Lets the workers go on.
    pub(crate) fn release(mut self) -> Engine {
        self.gate.open();
        for holder in self.holders.drain(..) {
            value(holder);
        }
        self.engine.clone()
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.gate.open();
    }
}
