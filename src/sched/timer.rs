//! The clock of an engine: one thread, started when something is first due, that tells functions when their time has come.
//!
//! Each function keeps an ordered set of what is due; here is the earliest of each, in one ordered map. A timing wheel would
//! insert in constant time instead of a logarithmic one, but rounds, and under a lock that is taken anyway. A function asks
//! for a time only if that is earlier than the one that it will be told. Times are of the monotonic clock: setting the wall
//! clock changes nothing.

use super::core::{Core, CoreRef};
use crate::quiet::quietly;
use crate::sync::{Condvar, Mutex};
use std::collections::BTreeMap;
use std::ptr::{self, NonNull};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Instant;

/// When to tell which function.
pub(crate) struct Timer {
    inner: Mutex<Inner>,
    changed: Condvar,
}

struct Inner {
    /// By time, and then by address.
    due: BTreeMap<(Instant, usize), CoreRef>,
    /// The last one that was started.
    thread: Option<JoinHandle<()>>,
    is_running: bool,
    /// The engine has ended: the thread leaves when nothing is due any more.
    has_ended: bool,
}

impl Timer {
    pub(crate) fn new() -> Arc<Timer> {
        let inner = Inner { due: BTreeMap::new(), thread: None, is_running: false, has_ended: false };
        Arc::new(Timer { inner: Mutex::new(inner), changed: Condvar::new() })
    }

    /// Has the function told at this time, or soon after.
    pub(crate) fn arm(self: &Arc<Self>, core: &Core, at: Instant) {
        // SAFETY: the caller refers to the core, so it is alive.
        let keep = unsafe { CoreRef::keep(NonNull::from(core)) };
        let mut inner = self.inner.lock();
        inner.due.insert((at, ptr::from_ref(core).addr()), keep);
        if !inner.is_running {
            // The first time, or after the engine's end: a consumer took a job that has a time.
            inner.thread = self.start();
            inner.is_running = inner.thread.is_some();
        }
        drop(inner);
        self.changed.notify_all();
    }

    /// Lets go of a function that has nothing due any more.
    pub(crate) fn forget(&self, core: &Core) {
        let address = ptr::from_ref(core).addr();
        self.inner.lock().due.retain(|(_, of), _| *of != address);
        self.changed.notify_all();
    }

    /// The engine has ended. What is still due, for jobs that consumers have, will be told; functions that only wait for what
    /// is over are let go of.
    pub(crate) fn end(&self) {
        let due = {
            let mut inner = self.inner.lock();
            inner.has_ended = true;
            std::mem::take(&mut inner.due)
        };
        for core in due.into_values() {
            // They come back if there is something left for them.
            // SAFETY: the vtable was made for this core.
            quietly(|| unsafe { (core.vtable.managed.tick)(&core, Instant::now()) });
            quietly(|| drop(core));
        }
        self.changed.notify_all();
    }

    /// Waits for the thread, if nothing is due any more.
    pub(crate) fn join(&self) {
        let mut inner = self.inner.lock();
        let thread = if inner.due.is_empty() { inner.thread.take() } else { None };
        drop(inner);
        if let Some(thread) = thread.filter(|t| t.thread().id() != thread::current().id()) {
            let _ = thread.join();
        }
    }

    /// Starts the thread. If that fails, the next that asks tries again.
    fn start(self: &Arc<Self>) -> Option<JoinHandle<()>> {
        if crate::sync::IS_MODEL {
            // A model has a thread of its own call `tell`.
            return None;
        }
        let timer = Arc::clone(self);
        thread::Builder::new().name("layshaft-timer".to_owned()).spawn(move || timer.run()).ok()
    }

    fn run(&self) {
        let mut inner = self.inner.lock();
        loop {
            let first = inner.due.first_key_value().map(|((at, _), _)| *at);
            match first {
                None if inner.has_ended => {
                    inner.is_running = false;
                    return;
                }
                None => self.changed.wait(&mut inner),
                Some(at) if at > Instant::now() => _ = self.changed.wait_until(&mut inner, at),
                Some(_) => {
                    drop(inner);
                    self.tell(Instant::now());
                    inner = self.inner.lock();
                }
            }
        }
    }

    /// Tells every function whose time has come by `now`.
    pub(crate) fn tell(&self, now: Instant) {
        loop {
            let core = {
                let mut inner = self.inner.lock();
                let is_due = inner.due.first_key_value().is_some_and(|((at, _), _)| *at <= now);
                if !is_due {
                    return;
                }
                inner.due.pop_first()
            };
            // Not under the lock: it runs others' code.
            if let Some((_, core)) = core {
                // SAFETY: the vtable was made for this core.
                quietly(|| unsafe { (core.vtable.managed.tick)(&core, now) });
                // It may be the last to hold the function.
                quietly(|| drop(core));
            }
        }
    }
}
