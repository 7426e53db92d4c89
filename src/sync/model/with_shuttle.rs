//! Shuttle: random schedules of many threads. Every operation is sequentially consistent; of races on plain data it sees
//! those where one access begins before another one has ended.

pub(crate) use shuttle::sync::{Condvar, Mutex, MutexGuard, atomic};
pub(crate) use shuttle::thread::yield_now;
pub(crate) use shuttle::{lazy_static, thread_local};

use shuttle::rand::Rng;
use shuttle::thread::sleep as switch;
use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// Waits with a limit look again and again, and may end as timed out each time.
pub(crate) const TIME_PASSES: bool = true;

/// Whether a limit has passed.
pub(crate) fn is_over() -> bool {
    shuttle::rand::thread_rng().gen_ratio(1, 8)
}

/// Overlapping accesses to plain data, since the process started.
static RACES: AtomicUsize = AtomicUsize::new(0);

pub(crate) fn races() -> usize {
    // Ordering: Relaxed, counter only.
    RACES.load(Ordering::Relaxed)
}

/// `std::cell::UnsafeCell`, with the interface of loom's. In the middle of each access others may run.
#[derive(Debug)]
pub(crate) struct UnsafeCell<T> {
    value: std::cell::UnsafeCell<T>,
    /// Readers; a writer counts as `WRITER`.
    users: Cell<usize>,
}

const WRITER: usize = 1 << 32;

impl<T> UnsafeCell<T> {
    pub(crate) fn new(value: T) -> Self {
        UnsafeCell { value: std::cell::UnsafeCell::new(value), users: Cell::new(0) }
    }

    pub(crate) fn with<U>(&self, f: impl FnOnce(*const T) -> U) -> U {
        let _access = Access::begin(&self.users, 1, self.users.get() >= WRITER);
        f(self.value.get())
    }

    pub(crate) fn with_mut<U>(&self, f: impl FnOnce(*mut T) -> U) -> U {
        let _access = Access::begin(&self.users, WRITER, self.users.get() > 0);
        f(self.value.get())
    }
}

struct Access<'c> {
    users: &'c Cell<usize>,
    weight: usize,
}

impl<'c> Access<'c> {
    fn begin(users: &'c Cell<usize>, weight: usize, is_race: bool) -> Self {
        users.set(users.get() + weight);
        let access = Access { users, weight };
        if is_race && !std::thread::panicking() {
            // The engine may catch the panic, so it is counted as well.
            // Ordering: Relaxed, counter only.
            RACES.fetch_add(1, Ordering::Relaxed);
            panic!("two threads are at the same plain data, one of them to write");
        }
        switch(Duration::ZERO);
        access
    }
}

impl Drop for Access<'_> {
    fn drop(&mut self) {
        self.users.set(self.users.get() - self.weight);
    }
}
