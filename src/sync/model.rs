//! A checker in place of the hardware, with a way to weaken one ordering site (which only loom looks at).
//!
//! Every operation is `#[track_caller]`. `LAYSHAFT_WEAKEN=src/queue/lane.rs:123` (or `...:123:45`) makes the operation
//! called from there Relaxed, or leaves the fence called from there out: a mutant that some model has to catch.
//! `LAYSHAFT_SITES=FILE` appends each site that a model reaches and that orders something to FILE, once a process.

use super::Ordering;
use std::collections::HashSet;
use std::panic::Location;
use std::sync::{Mutex as StdMutex, OnceLock};
use std::time::{Duration, Instant};

/// The crate that has the threads: loom.
#[cfg(layshaft_loom)]
#[path = "model/with_loom.rs"]
mod checker;
/// The crate that has the threads: shuttle.
#[cfg(layshaft_shuttle)]
#[path = "model/with_shuttle.rs"]
mod checker;

#[cfg(layshaft_shuttle)]
pub(crate) use checker::races;
pub(crate) use checker::{UnsafeCell, yield_now};

/// The same order of names in every execution.
pub(crate) type Hashing = std::hash::BuildHasherDefault<std::collections::hash_map::DefaultHasher>;

pub(crate) fn spin_loop() {
    yield_now();
}

/// The site that `LAYSHAFT_WEAKEN` names.
struct Target {
    file: String,
    line: u32,
    column: Option<u32>,
}

impl Target {
    fn from_env() -> Option<Target> {
        let named = std::env::var("LAYSHAFT_WEAKEN").ok()?;
        let mut parts = named.split(':');
        let file = parts.next()?.to_owned();
        let mut number = || parts.next().map(|n| n.parse().expect("LAYSHAFT_WEAKEN=FILE:LINE[:COLUMN]"));
        Some(Target { file, line: number()?, column: number() })
    }

    fn is(&self, site: &Location<'_>) -> bool {
        self.line == site.line() && self.column.is_none_or(|c| c == site.column()) && site.file().ends_with(&self.file)
    }
}

/// Whether the operation at `site`, which orders something, is the one to weaken.
fn is_weakened(site: &Location<'_>) -> bool {
    static TARGET: OnceLock<Option<Target>> = OnceLock::new();
    note(site);
    TARGET.get_or_init(Target::from_env).as_ref().is_some_and(|target| target.is(site))
}

/// Writes the sites that are reached to the file that `LAYSHAFT_SITES` names.
fn note(site: &Location<'_>) {
    use std::io::Write;
    type Seen = (HashSet<(usize, u32, u32)>, std::fs::File);
    static SEEN: OnceLock<Option<StdMutex<Seen>>> = OnceLock::new();
    let seen = SEEN.get_or_init(|| {
        let path = std::env::var_os("LAYSHAFT_SITES")?;
        let file = std::fs::OpenOptions::new().create(true).append(true).open(path).ok()?;
        Some(StdMutex::new((HashSet::new(), file)))
    });
    if let Some(seen) = seen {
        let mut seen = seen.lock().expect("nothing panics under this lock");
        if seen.0.insert((site.file().as_ptr().addr(), site.line(), site.column())) {
            writeln!(seen.1, "{site}").expect("the site list can be written");
        }
    }
}

fn ordering(given: Ordering, site: &Location<'_>) -> Ordering {
    // Ordering: as given, or Relaxed, a mutant.
    if given != Ordering::Relaxed && is_weakened(site) { Ordering::Relaxed } else { given }
}

macro_rules! atomic {
    ($name:ident $(<$t:ident>)?, $value:ty) => {
        #[derive(Debug)]
        pub(crate) struct $name $(<$t>)? (checker::atomic::$name $(<$t>)?);

        #[allow(dead_code)]
        impl $(<$t>)? $name $(<$t>)? {
            #[track_caller]
            pub(crate) fn new(value: $value) -> Self {
                Self(checker::atomic::$name::new(value))
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
                // Ordering: Acquire, after a fence: what loom knows of SeqCst.
                self.0.load(Ordering::Acquire)
            }
            fn load_relaxed(&self) -> $value {
                // Ordering: Relaxed, a mutant.
                self.0.load(Ordering::Relaxed)
            }
        }
    )*};
}

impl<T> Word for AtomicPtr<T> {
    type Value = *mut T;
    fn load_acquire(&self) -> *mut T {
        // Ordering: Acquire, as for the numbers.
        self.0.load(Ordering::Acquire)
    }
    fn load_relaxed(&self) -> *mut T {
        // Ordering: Relaxed, a mutant.
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
    fence(Location::caller());
    word.load_acquire()
}

/// A fence, unless its site is the one to weaken.
fn fence(site: &Location<'_>) {
    if !is_weakened(site) {
        // Ordering: SeqCst, as the native ones.
        checker::atomic::fence(Ordering::SeqCst);
    }
}

/// Both halves of an asymmetric pair are full fences here; that `membarrier` gives the same is the kernel's promise.
#[track_caller]
pub(crate) fn fence_light() {
    fence(Location::caller());
}

/// See [`fence_light`].
#[track_caller]
pub(crate) fn fence_heavy() {
    fence(Location::caller());
}

/// See [`fence_light`].
#[track_caller]
pub(crate) fn fence_full() {
    fence(Location::caller());
}

pub(crate) fn prepare_fences() {}

pub(crate) fn prefetch_write<T>(_address: *const T) {}

/// `parking_lot`'s interface over the checker's mutex.
#[derive(Debug)]
pub(crate) struct Mutex<T>(checker::Mutex<T>);

/// Holds the lock of a [`Mutex`].
pub(crate) struct MutexGuard<'a, T> {
    held: Option<checker::MutexGuard<'a, T>>,
    lock: &'a Mutex<T>,
}

impl<T> Mutex<T> {
    pub(crate) fn new(value: T) -> Self {
        Mutex(checker::Mutex::new(value))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        MutexGuard { held: Some(self.0.lock().expect("no model panics under a lock")), lock: self }
    }

    pub(crate) fn into_inner(self) -> T {
        self.0.into_inner().expect("no model panics under a lock")
    }
}

impl<T> std::ops::Deref for MutexGuard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        self.held.as_ref().expect("held")
    }
}

impl<T> std::ops::DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.held.as_mut().expect("held")
    }
}

/// `parking_lot`'s interface over the checker's condition variable.
#[derive(Debug)]
pub(crate) struct Condvar(checker::Condvar);

/// What a wait with a limit returns.
pub(crate) struct WaitTimeoutResult(bool);

impl WaitTimeoutResult {
    pub(crate) fn timed_out(&self) -> bool {
        self.0
    }
}

impl Condvar {
    pub(crate) fn new() -> Self {
        Condvar(checker::Condvar::new())
    }

    pub(crate) fn wait<T>(&self, guard: &mut MutexGuard<'_, T>) {
        let held = guard.held.take().expect("held");
        guard.held = Some(self.0.wait(held).expect("no model panics under a lock"));
    }

    /// Where time passes, it may do so at any moment, and every limit does in the end: nobody sleeps.
    pub(crate) fn wait_until<T>(&self, guard: &mut MutexGuard<'_, T>, _until: Instant) -> WaitTimeoutResult {
        if !checker::TIME_PASSES {
            self.wait(guard);
            return WaitTimeoutResult(false);
        }
        guard.held = None;
        yield_now();
        guard.held = Some(guard.lock.0.lock().expect("no model panics under a lock"));
        WaitTimeoutResult(checker::is_over())
    }

    pub(crate) fn notify_one(&self) {
        self.0.notify_one();
    }

    pub(crate) fn notify_all(&self) {
        self.0.notify_all();
    }
}

checker::lazy_static! {
    /// The kernel's futex table, with one queue for all addresses: a wake-up wakes everybody, who look again.
    static ref FUTEXES: (checker::Mutex<()>, checker::Condvar) = (checker::Mutex::new(()), checker::Condvar::new());
}

/// Sleeps while `word` holds `expected`. For a limit see [`Condvar::wait_until`].
pub(crate) fn futex_wait(word: &AtomicU32, expected: u32, limit: Option<Duration>) {
    if checker::TIME_PASSES && limit.is_some() {
        return yield_now();
    }
    let guard = FUTEXES.0.lock().expect("no model panics under a lock");
    // Ordering: Relaxed, under the lock of the table.
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
        $crate::sync::lazy_static! { $(#[$doc])* static ref $name: $type = $init; }
    };
}
pub(crate) use global;

/// A thread-local value.
macro_rules! local {
    ($(#[$doc:meta])* static $name:ident: $type:ty = $init:expr;) => {
        $crate::sync::thread_local! { $(#[$doc])* static $name: $type = $init; }
    };
}
pub(crate) use checker::{lazy_static, thread_local};
pub(crate) use local;
