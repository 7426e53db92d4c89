//! Loom in place of the hardware, with a way to weaken one ordering site.
//!
//! Every operation is `#[track_caller]`. `LAYSHAFT_WEAKEN=src/queue/lane.rs:123` (or `...:123:45`) makes the operation
//! called from there Relaxed, or leaves the fence called from there out: a mutant that some model has to catch.
//! `LAYSHAFT_SITES=FILE` appends each site that a model reaches to FILE, once a process.

use super::Ordering;
use std::collections::HashSet;
use std::panic::Location;
use std::sync::{Mutex as StdMutex, OnceLock};
use std::time::{Duration, Instant};

pub(crate) use loom::cell::UnsafeCell;
pub(crate) use loom::thread::yield_now;

pub(crate) fn spin_loop() {
    yield_now();
}

/// Whether the operation at `site` is the one to weaken.
fn is_weakened(site: &Location<'_>) -> bool {
    static TARGET: OnceLock<Option<String>> = OnceLock::new();
    note(site);
    let target = TARGET.get_or_init(|| std::env::var("LAYSHAFT_WEAKEN").ok());
    target.as_deref().is_some_and(|target| {
        let line = format!("{}:{}", site.file(), site.line());
        let column = format!("{line}:{}", site.column());
        line.ends_with(target) || column.ends_with(target)
    })
}

/// Writes the sites that are reached to the file that `LAYSHAFT_SITES` names.
fn note(site: &Location<'_>) {
    use std::io::Write;
    static SEEN: OnceLock<Option<StdMutex<(HashSet<(String, u32)>, std::fs::File)>>> = OnceLock::new();
    let seen = SEEN.get_or_init(|| {
        let path = std::env::var_os("LAYSHAFT_SITES")?;
        let file = std::fs::OpenOptions::new().create(true).append(true).open(path).ok()?;
        Some(StdMutex::new((HashSet::new(), file)))
    });
    if let Some(seen) = seen {
        let mut seen = seen.lock().expect("nothing panics under this lock");
        let key = (site.file().to_owned(), site.line());
        if seen.0.insert(key) {
            writeln!(seen.1, "{}:{}", site.file(), site.line()).expect("the site list can be written");
        }
    }
}

fn ordering(given: Ordering, site: &Location<'_>) -> Ordering {
    if is_weakened(site) { Ordering::Relaxed } else { given }
}

macro_rules! atomic {
    ($name:ident $(<$t:ident>)?, $value:ty) => {
        #[derive(Debug)]
        pub(crate) struct $name $(<$t>)? (loom::sync::atomic::$name $(<$t>)?);

        #[allow(dead_code)]
        impl $(<$t>)? $name $(<$t>)? {
            #[track_caller]
            pub(crate) fn new(value: $value) -> Self {
                Self(loom::sync::atomic::$name::new(value))
            }
            #[track_caller]
            pub(crate) fn load(&self, order: Ordering) -> $value {
                self.0.load(ordering(order, Location::caller()))
            }
            #[track_caller]
            pub(crate) fn store(&self, value: $value, order: Ordering) {
                self.0.store(value, ordering(order, Location::caller()))
            }
            #[track_caller]
            pub(crate) fn swap(&self, value: $value, order: Ordering) -> $value {
                self.0.swap(value, ordering(order, Location::caller()))
            }
            #[track_caller]
            pub(crate) fn compare_exchange(
                &self,
                current: $value,
                new: $value,
                success: Ordering,
                failure: Ordering,
            ) -> Result<$value, $value> {
                let site = Location::caller();
                self.0.compare_exchange(current, new, ordering(success, site), ordering(failure, site))
            }
            #[track_caller]
            pub(crate) fn compare_exchange_weak(
                &self,
                current: $value,
                new: $value,
                success: Ordering,
                failure: Ordering,
            ) -> Result<$value, $value> {
                self.compare_exchange(current, new, success, failure)
            }
        }
    };
}

macro_rules! number {
    ($($name:ident: $value:ty),*) => {$(
        atomic!($name, $value);

        #[allow(dead_code)]
        impl $name {
            #[track_caller]
            pub(crate) fn fetch_add(&self, value: $value, order: Ordering) -> $value {
                self.0.fetch_add(value, ordering(order, Location::caller()))
            }
            #[track_caller]
            pub(crate) fn fetch_sub(&self, value: $value, order: Ordering) -> $value {
                self.0.fetch_sub(value, ordering(order, Location::caller()))
            }
            #[track_caller]
            pub(crate) fn fetch_or(&self, value: $value, order: Ordering) -> $value {
                self.0.fetch_or(value, ordering(order, Location::caller()))
            }
            #[track_caller]
            pub(crate) fn fetch_and(&self, value: $value, order: Ordering) -> $value {
                self.0.fetch_and(value, ordering(order, Location::caller()))
            }
        }

        impl Default for $name {
            fn default() -> Self {
                Self::new(0)
            }
        }

        impl Word for $name {
            type Value = $value;
            fn load_acquire(&self) -> $value {
                self.0.load(Ordering::Acquire)
            }
            fn load_relaxed(&self) -> $value {
                self.0.load(Ordering::Relaxed)
            }
        }
    )*};
}

impl<T> Word for AtomicPtr<T> {
    type Value = *mut T;
    fn load_acquire(&self) -> *mut T {
        self.0.load(Ordering::Acquire)
    }
    fn load_relaxed(&self) -> *mut T {
        self.0.load(Ordering::Relaxed)
    }
}

atomic!(AtomicBool, bool);
atomic!(AtomicPtr<T>, *mut T);
number!(AtomicU8: u8, AtomicU32: u32, AtomicU64: u64, AtomicUsize: usize);

/// An atomic that [`load_after_rmw`] can read.
pub(crate) trait Word {
    /// What it holds.
    type Value;
    /// The strong load.
    fn load_acquire(&self) -> Self::Value;
    /// The weakened load.
    fn load_relaxed(&self) -> Self::Value;
}

/// As the native one: loom treats SeqCst accesses as acquire/release, so the fence is explicit.
#[track_caller]
pub(crate) fn load_after_rmw<W: Word>(word: &W) -> W::Value {
    if is_weakened(Location::caller()) {
        return word.load_relaxed();
    }
    loom::sync::atomic::fence(Ordering::SeqCst);
    word.load_acquire()
}

/// Both halves of an asymmetric pair are full fences here; that `membarrier` gives the same is the kernel's promise.
#[track_caller]
pub(crate) fn fence_light() {
    if !is_weakened(Location::caller()) {
        loom::sync::atomic::fence(Ordering::SeqCst);
    }
}

/// See [`fence_light`].
#[track_caller]
pub(crate) fn fence_heavy() {
    if !is_weakened(Location::caller()) {
        loom::sync::atomic::fence(Ordering::SeqCst);
    }
}

/// See [`fence_light`].
#[track_caller]
pub(crate) fn fence_full() {
    if !is_weakened(Location::caller()) {
        loom::sync::atomic::fence(Ordering::SeqCst);
    }
}

pub(crate) fn prepare_fences() {}

pub(crate) fn prefetch_write<T>(_address: *const T) {}

/// `parking_lot`'s interface over loom's mutex.
#[derive(Debug)]
pub(crate) struct Mutex<T>(loom::sync::Mutex<T>);

/// Holds the lock of a [`Mutex`].
pub(crate) struct MutexGuard<'a, T>(Option<loom::sync::MutexGuard<'a, T>>);

impl<T> Mutex<T> {
    pub(crate) fn new(value: T) -> Self {
        Mutex(loom::sync::Mutex::new(value))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        MutexGuard(Some(self.0.lock().expect("no model panics under a lock")))
    }

    pub(crate) fn into_inner(self) -> T {
        self.0.into_inner().expect("no model panics under a lock")
    }
}

impl<T> std::ops::Deref for MutexGuard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        self.0.as_ref().expect("held")
    }
}

impl<T> std::ops::DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.0.as_mut().expect("held")
    }
}

/// `parking_lot`'s interface over loom's condition variable. Time never passes: no wait times out.
#[derive(Debug)]
pub(crate) struct Condvar(loom::sync::Condvar);

/// What a wait with a limit returns.
pub(crate) struct WaitTimeoutResult;

impl WaitTimeoutResult {
    pub(crate) fn timed_out(&self) -> bool {
        false
    }
}

impl Condvar {
    pub(crate) fn new() -> Self {
        Condvar(loom::sync::Condvar::new())
    }

    pub(crate) fn wait<T>(&self, guard: &mut MutexGuard<'_, T>) {
        let held = guard.0.take().expect("held");
        guard.0 = Some(self.0.wait(held).expect("no model panics under a lock"));
    }

    pub(crate) fn wait_until<T>(&self, guard: &mut MutexGuard<'_, T>, _until: Instant) -> WaitTimeoutResult {
        self.wait(guard);
        WaitTimeoutResult
    }

    pub(crate) fn notify_one(&self) {
        self.0.notify_one();
    }

    pub(crate) fn notify_all(&self) {
        self.0.notify_all();
    }
}

loom::lazy_static! {
    /// The kernel's futex table, with one queue for all addresses: a wake-up wakes everybody, who look again.
    static ref FUTEXES: (loom::sync::Mutex<()>, loom::sync::Condvar) =
        (loom::sync::Mutex::new(()), loom::sync::Condvar::new());
}

/// Sleeps while `word` holds `expected`. The limit never passes.
pub(crate) fn futex_wait(word: &AtomicU32, expected: u32, _limit: Option<Duration>) {
    let guard = FUTEXES.0.lock().expect("no model panics under a lock");
    if word.0.load(Ordering::Relaxed) == expected {
        drop(FUTEXES.1.wait(guard).expect("no model panics under a lock"));
    }
}

/// Wakes the sleepers.
pub(crate) fn futex_wake(_word: &AtomicU32, _count: i32) {
    let guard = FUTEXES.0.lock().expect("no model panics under a lock");
    FUTEXES.1.notify_all();
    drop(guard);
}

/// A value made on first use, one per execution of a model.
macro_rules! global {
    ($(#[$doc:meta])* static $name:ident: $type:ty = $init:expr;) => {
        loom::lazy_static! { $(#[$doc])* static ref $name: $type = $init; }
    };
}
pub(crate) use global;

/// A thread-local value.
macro_rules! local {
    ($(#[$doc:meta])* static $name:ident: $type:ty = $init:expr;) => {
        loom::thread_local! { $(#[$doc])* static $name: $type = $init; }
    };
}
pub(crate) use local;
