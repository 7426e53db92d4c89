//! The engine's shared part: functions by name and by index, and when the memory of a removed one can go.
//!
//! Workers find a function through the ready set and the table without counting references. So a removed function is
//! kept until no worker can be holding it, which takes three steps (`collect`):
//!
//! 1. its lane is closed and has become empty: it leaves the table;
//! 2. each worker has passed a point between two jobs since then (its *epoch* moved, or it was parked), so nobody claims
//!    from it or adds it to a deque any more; then no deque may mention it;
//! 3. each worker has passed such a point once more, so nobody runs what it took from a deque.
//!
//! The epochs pair as fences do everywhere here: the worker stores its epoch, light fence, looks at the table; the
//! collector changes the table, heavy fence, reads the epochs.

use super::core::{Class, Core, CoreRef, PULLED, REMOVED, Recipe};
use super::ready::{self, ReadySet};
use super::seat::WorkerShared;
use super::shutdown::Phase;
use super::sleep::Sleep;
use super::spares::Spares;
use super::timer::Timer;
use crate::error::RegisterError;
use crate::job::origin;
use crate::queue::priority::Priority;
use crate::sync::{AtomicPtr, AtomicUsize, Hashing, Mutex, Ordering, fence_heavy, load_after_rmw};
use std::borrow::Borrow;
use std::collections::HashSet;
use std::hash::{Hash, Hasher};
use std::ptr::{self, NonNull};
use std::sync::Arc;
use std::time::Duration;

/// The longest function name, in bytes.
const NAME_BYTES: usize = 512;
/// Functions of a page of the table.
const PAGE: usize = if crate::sync::IS_MODEL { 64 } else { 256 };

/// What the workers, the handles and the engine share.
pub(crate) struct Shared {
    /// Tells this engine from others of the process.
    pub(crate) number: u32,
    /// By priority, see [`Priority::index`].
    ready: [ReadySet; 3],
    pub(crate) sleep: Sleep,
    /// The seats of workers, and behind them those of spares.
    pub(crate) workers: Box<[WorkerShared]>,
    pub(crate) spares: Spares,
    pub(crate) phase: Phase,
    pub(crate) timer: Arc<Timer>,
    pub(crate) drain_deadline: Duration,
    /// `Engine` values alive.
    pub(crate) users: AtomicUsize,
    /// Removed functions whose memory is still kept, for workers that have nothing to do.
    retired: AtomicUsize,
    /// The engine's own function, once there is one.
    internal: AtomicPtr<Core>,
    pages: Box<[AtomicPtr<Page>]>,
    names: Mutex<Names>,
    classes: Mutex<Vec<NonNull<Class>>>,
    /// Model checker only: jobs are counted, which makes many more schedules.
    #[cfg(any(layshaft_loom, layshaft_shuttle))]
    pub(crate) is_counting: bool,
}

type Page = [AtomicPtr<Core>; PAGE];

// SAFETY: the raw pointers are to things that this value owns and shares through atomics and locks.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

struct Names {
    by_name: HashSet<Named, Hashing>,
    free: Vec<u32>,
    next: u32,
    retired: Vec<Retired>,
    /// The engine's own function.
    internal: Option<CoreRef>,
    closed: bool,
}

/// A function in the set of names: hashes and compares as its name.
struct Named(CoreRef);

impl Hash for Named {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.name().hash(state);
    }
}

impl PartialEq for Named {
    fn eq(&self, other: &Named) -> bool {
        self.0.name() == other.0.name()
    }
}

impl Eq for Named {}

impl Borrow<str> for Named {
    fn borrow(&self) -> &str {
        self.0.name()
    }
}

/// A removed function on its way out.
struct Retired {
    core: CoreRef,
    step: Step,
}

enum Step {
    /// Jobs may be queued.
    Draining,
    /// Out of the table; waits for the workers to pass these epochs.
    Unlisted(Vec<u64>),
    /// In no deque; waits once more.
    Unmentioned(Vec<u64>),
}

impl Shared {
    pub(crate) fn new(workers: usize, spares: usize, thread_name: String, drain_deadline: Duration) -> Shared {
        let pages = ready::LIMIT.div_ceil(PAGE);
        Shared {
            number: origin::engine_number(),
            ready: std::array::from_fn(|_| ReadySet::new()),
            sleep: Sleep::new(workers),
            workers: (0..workers + spares).map(|_| WorkerShared::new()).collect(),
            spares: Spares::new(workers, spares, thread_name),
            phase: Phase::new(workers),
            timer: Timer::new(),
            drain_deadline,
            users: AtomicUsize::new(1),
            retired: AtomicUsize::new(0),
            internal: AtomicPtr::new(ptr::null_mut()),
            pages: (0..pages).map(|_| AtomicPtr::new(ptr::null_mut())).collect(),
            names: Mutex::new(Names {
                by_name: HashSet::default(),
                free: Vec::new(),
                next: 0,
                retired: Vec::new(),
                internal: None,
                closed: false,
            }),
            classes: Mutex::new(Vec::new()),
            #[cfg(any(layshaft_loom, layshaft_shuttle))]
            is_counting: false,
        }
    }

    /// Registers a function whose jobs are stored as `S`.
    pub(crate) fn register<S>(
        self: &Arc<Self>,
        name: &str,
        recipe: impl FnOnce() -> Recipe,
    ) -> Result<CoreRef, RegisterError> {
        check_name(name)?;
        // Declared before the lock and so dropped after it: the end of a function runs its owner's code.
        let mut gone = Vec::new();
        let mut names = self.names.lock();
        if names.closed {
            return Err(RegisterError::Closed);
        }
        if names.by_name.contains(name) {
            return Err(RegisterError::NameTaken(name.to_owned()));
        }
        if !names.retired.is_empty() {
            gone.append(&mut self.collect(&mut names));
        }
        let core = self.list::<S>(&mut names, name, recipe)?;
        names.by_name.insert(Named(core.clone()));
        Ok(core)
    }

    /// The function of a name.
    pub(crate) fn find(&self, name: &str) -> Option<CoreRef> {
        self.names.lock().by_name.get(name).map(|named| named.0.clone())
    }

    /// Makes a function and gives it an index.
    fn list<S>(
        self: &Arc<Self>,
        names: &mut Names,
        name: &str,
        recipe: impl FnOnce() -> Recipe,
    ) -> Result<CoreRef, RegisterError> {
        let index = match names.free.pop() {
            Some(index) => index,
            None if names.next as usize >= ready::LIMIT => return Err(RegisterError::TooMany(ready::LIMIT)),
            None => {
                names.next += 1;
                names.next - 1
            }
        };
        self.ready(Priority::Normal).cover(index as usize);
        let core = CoreRef::new(self, self.class::<S>(), index, name, recipe());
        // Ordering: Release, pairs with the Acquire in `function`.
        self.entry(index as usize).store(core.as_ptr().as_ptr(), Ordering::Release);
        Ok(core)
    }

    /// The engine's own function, made on first use, with jobs stored as `S`. `None` when it is too late to make it, or
    /// there is no room.
    pub(crate) fn internal<S>(self: &Arc<Self>, recipe: impl FnOnce() -> Recipe) -> Option<CoreRef> {
        let mut names = self.names.lock();
        if names.internal.is_none() && !names.closed {
            let core = self.list::<S>(&mut names, "", recipe).ok()?;
            // Ordering: Release, pairs with the Acquire in `internal_core`.
            self.internal.store(core.as_ptr().as_ptr(), Ordering::Release);
            names.internal = Some(core);
        }
        names.internal.clone()
    }

    /// The same without a lock, for workers: it is kept until the last one has left.
    pub(crate) fn internal_core(&self) -> Option<NonNull<Core>> {
        // Ordering: Acquire, pairs with the Release in `internal`.
        NonNull::new(self.internal.load(Ordering::Acquire))
    }

    /// Removes a function: whether there was one of that name.
    pub(crate) fn remove(&self, name: &str) -> bool {
        let mut names = self.names.lock();
        let Some(Named(core)) = names.by_name.take(name) else { return false };
        core.raise(REMOVED);
        core.close();
        names.retired.push(Retired { core: core.clone(), step: Step::Draining });
        let gone = self.collect(&mut names);
        drop(names);
        core.tell_closed();
        drop(gone);
        true
    }

    /// The functions that have jobs of a priority.
    #[inline(always)]
    pub(crate) fn ready(&self, priority: Priority) -> &ReadySet {
        &self.ready[priority.index()]
    }

    /// Whether any function has jobs.
    pub(crate) fn has_ready(&self) -> bool {
        self.ready.iter().any(ReadySet::any)
    }

    /// Makes the lanes of the other priorities for a function.
    #[cold]
    pub(crate) fn make_side(&self, core: &Core) {
        // Held against `remove` and `close_all`: lanes are not made behind the back of whoever closes them.
        let _names = self.names.lock();
        self.ready(Priority::High).cover(core.index as usize);
        self.ready(Priority::Low).cover(core.index as usize);
        core.make_side();
    }

    /// Makes a function managed, if it is not yet: with a queue that `make` makes, told whether the function is closed, and
    /// then what `then` does.
    #[cold]
    pub(crate) fn make_managed(&self, core: &Core, make: impl FnOnce(bool) -> *mut (), then: impl FnOnce()) {
        // Held as in `make_side`, and until all is done: who comes second finds it done.
        let _names = self.names.lock();
        if !core.managed().is_null() {
            return;
        }
        self.ready(Priority::High).cover(core.index as usize);
        self.ready(Priority::Low).cover(core.index as usize);
        core.make_side();
        core.set_managed(make(core.lane.is_closed()));
        then();
    }

    /// Refuses every later registration and submit. Returns the functions there are.
    pub(crate) fn close_all(&self, flag: u8) -> Vec<CoreRef> {
        let cores = self.close_names();
        {
            let _names = self.names.lock();
            cores.iter().for_each(|core| core.close());
        }
        for core in &cores {
            core.raise(flag);
            core.tell_closed();
        }
        cores
    }

    /// The functions that can be submitted to by name.
    pub(crate) fn listed(&self) -> Vec<CoreRef> {
        self.names.lock().by_name.iter().map(|named| named.0.clone()).collect()
    }

    pub(crate) fn functions(&self) -> usize {
        self.names.lock().by_name.len()
    }

    /// The function with this index, if it is still registered.
    #[inline(always)]
    pub(crate) fn function(&self, index: usize) -> Option<NonNull<Core>> {
        // Ordering: Acquire, pairs with the Release in `entry`.
        let page = self.pages[index / PAGE].load(Ordering::Acquire);
        // SAFETY: pages are made once and freed with `self`.
        let page = unsafe { page.as_ref() }?;
        // Ordering: Acquire, pairs with the Release in `register`.
        NonNull::new(page[index % PAGE].load(Ordering::Acquire))
    }

    /// Whether there is a function with this index, after a SeqCst read-modify-write of its ready bit.
    pub(crate) fn has_function(&self, index: usize) -> bool {
        // Ordering: Acquire, as in `function`.
        let page = self.pages[index / PAGE].load(Ordering::Acquire);
        // SAFETY: pages are made once and freed with `self`.
        let page = unsafe { page.as_ref() };
        page.is_some_and(|page| !load_after_rmw(&page[index % PAGE]).is_null())
    }

    /// The table entry of `index`, for a caller who holds the lock on the names.
    fn entry(&self, index: usize) -> &AtomicPtr<Core> {
        let page = &self.pages[index / PAGE];
        // Ordering: Relaxed, writers are serialised by the lock.
        let mut at = page.load(Ordering::Relaxed);
        if at.is_null() {
            at = Box::into_raw(Box::new(std::array::from_fn(|_| AtomicPtr::new(ptr::null_mut()))));
            // Ordering: Release, pairs with the Acquire in `function`.
            page.store(at, Ordering::Release);
        }
        // SAFETY: made once, freed with `self`.
        let page: &Page = unsafe { &*at };
        &page[index % PAGE]
    }

    /// The pools for jobs stored as `S`.
    fn class<S>(&self) -> NonNull<Class> {
        let mut classes = self.classes.lock();
        // SAFETY: classes live as long as `self`.
        if let Some(class) = classes.iter().find(|c| unsafe { c.as_ref() }.fits::<S>()) {
            return *class;
        }
        let class = Class::new::<S>(classes.len());
        let class = NonNull::from(Box::leak(Box::new(class)));
        classes.push(class);
        class
    }

    /// The seats that have had a thread.
    #[inline(always)]
    pub(crate) fn seats(&self) -> &[WorkerShared] {
        &self.workers[..self.spares.used()]
    }

    /// Whether workers count what they run: always, but for most models.
    #[inline(always)]
    pub(crate) fn counts_jobs(&self) -> bool {
        #[cfg(any(layshaft_loom, layshaft_shuttle))]
        return self.is_counting;
        #[cfg(not(any(layshaft_loom, layshaft_shuttle)))]
        true
    }

    /// Whether removed functions are kept until workers have let go of them.
    #[inline(always)]
    pub(crate) fn has_retired(&self) -> bool {
        // Ordering: Relaxed, see `collect`.
        self.retired.load(Ordering::Relaxed) > 0
    }

    /// For workers with nothing to do, after `mark_parked`: what can be freed, for the caller to drop.
    #[must_use]
    pub(crate) fn collect_idle(&self) -> Vec<CoreRef> {
        // Ordering: Relaxed, a hint; who removes a function looks after the workers that it saw parked.
        if self.retired.load(Ordering::Relaxed) == 0 { Vec::new() } else { self.collect(&mut self.names.lock()) }
    }

    /// Takes each removed function as far on its way out as it goes. Returns those that nobody can hold any more, for
    /// the caller to drop without the lock.
    #[must_use]
    fn collect(&self, names: &mut Names) -> Vec<CoreRef> {
        let Names { retired, free, .. } = names;
        // Ordering: Relaxed, before the heavy fence in `epochs`: a worker that the first look at the epochs finds behind sees
        // this at the next point between two jobs, and the second look waits for that.
        self.retired.store(retired.len(), Ordering::Relaxed);
        let mut gone = Vec::new();
        for i in (0..retired.len()).rev() {
            while self.advance(&mut retired[i]) {}
            if let Step::Unmentioned(epochs) = &retired[i].step
                && self.passed(epochs)
            {
                let core = retired.swap_remove(i).core;
                free.push(core.index);
                self.timer.forget(&core);
                gone.push(core);
            }
        }
        // Ordering: Relaxed, a hint.
        self.retired.store(retired.len(), Ordering::Relaxed);
        gone
    }

    /// One step of a removed function: whether another may follow at once.
    fn advance(&self, retired: &mut Retired) -> bool {
        let core = &retired.core;
        retired.step = match &retired.step {
            // SAFETY: the vtable was made for this core.
            Step::Draining if unsafe { (core.vtable.is_settled)(core) } => {
                // Ordering: Relaxed, ordered before the epochs by the heavy fence in `epochs`.
                self.entry(core.index as usize).store(ptr::null_mut(), Ordering::Relaxed);
                Priority::ALL.into_iter().for_each(|priority| self.ready(priority).clear(core.index as usize));
                Step::Unlisted(self.epochs())
            }
            Step::Unlisted(epochs) if self.passed(epochs) => {
                if self.workers.iter().any(|w| w.deque.mentions(core.as_ptr().as_ptr())) {
                    return false;
                }
                Step::Unmentioned(self.epochs())
            }
            _ => return false,
        };
        true
    }

    /// The workers' epochs, after everything that this thread did before.
    fn epochs(&self) -> Vec<u64> {
        fence_heavy();
        self.workers.iter().map(WorkerShared::epoch).collect()
    }

    /// Whether each worker has been between two jobs since its epoch was read.
    fn passed(&self, then: &[u64]) -> bool {
        self.workers.iter().zip(then).all(|(w, &then)| WorkerShared::is_parked(then) || w.epoch() != then)
    }

    /// Refuses further registrations. Returns the functions there are.
    pub(crate) fn close_names(&self) -> Vec<CoreRef> {
        let mut names = self.names.lock();
        names.closed = true;
        let live = names.by_name.iter().map(|n| n.0.clone());
        live.chain(names.retired.iter().map(|r| r.core.clone())).chain(names.internal.clone()).collect()
    }

    /// Lets go of every function. All workers have ended.
    pub(crate) fn forget_functions(&self) {
        let (live, retired, internal) = {
            let mut names = self.names.lock();
            // Ordering: Relaxed, only workers look, and all but this one have left.
            self.internal.store(ptr::null_mut(), Ordering::Relaxed);
            (std::mem::take(&mut names.by_name), std::mem::take(&mut names.retired), names.internal.take())
        };
        let named = live.into_iter().map(|n| n.0).chain(retired.into_iter().map(|r| r.core));
        let all: Vec<CoreRef> = named.chain(internal).collect();
        // What is dropped below may try to submit: there is no worker left to run it.
        all.iter().for_each(|core| core.raise(REMOVED));
        for core in all {
            if core.flags() & PULLED == 0 {
                // A job whose time was up, and which was to run again, may have come back after the last worker looked.
                self.discard_queued(&core);
                core.drop_body();
            }
        }
    }

    /// Name of the function that worker `i` is running a job of.
    pub(crate) fn running_name(&self, i: usize) -> Option<String> {
        // The lock keeps those that are found from being freed while their name is read. The worker may be past its job by
        // now, and the function gone.
        let names = self.names.lock();
        let running = self.workers[i].running()?;
        let named = names.by_name.iter().map(|n| &n.0).chain(names.retired.iter().map(|r| &r.core));
        let mut all = named.chain(&names.internal);
        all.find(|core| core.as_ptr() == running).map(|core| core.name().to_owned())
    }
}

/// Whether a name can be used.
fn check_name(name: &str) -> Result<(), RegisterError> {
    let why = if name.is_empty() {
        "it is empty; give it at least one character".to_owned()
    } else if name.len() > NAME_BYTES {
        format!("it has {} bytes, the limit is {NAME_BYTES}", name.len())
    } else if let Some(at) = name.bytes().position(|b| b == 0) {
        format!("{name:?} holds a NUL at byte {at}, which ends a name on the wire")
    } else {
        return Ok(());
    };
    Err(RegisterError::InvalidName(why))
}

impl Drop for Shared {
    fn drop(&mut self) {
        for class in self.classes.lock().drain(..) {
            // SAFETY: made by `Box::leak` in `class`; every core that used it is gone, for each holds a count on us.
            drop(unsafe { Box::from_raw(class.as_ptr()) });
        }
        for page in &self.pages {
            // Ordering: Relaxed, `&mut self`: nobody else is left.
            let page = page.load(Ordering::Relaxed);
            if !page.is_null() {
                // SAFETY: made by `Box::into_raw` in `entry`, freed once.
                drop(unsafe { Box::from_raw(page) });
            }
        }
    }
}
