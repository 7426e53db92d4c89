//! What a handle knows of the function its job was submitted to.
//!
//! A handle must not keep a function alive (counting would cost more than the submit), and may outlive it. So the little
//! it needs lies in process-wide type-stable memory, one record a function, addressed by index.
//!
//! Submits that wait for room sleep here, too, because a cancel makes room and knows no more than the record. A submit says
//! that it waits, then looks at the queue and the count of cancels; a canceller counts, then looks whether one waits; others
//! who make room look after they had the queue's lock, under which a submit says that it waits.

use crate::queue::pool::{Link, NIL, Pool};
use crate::sync::{AtomicU32, Ordering, futex_wait, futex_wake, global, load_after_rmw};
use std::alloc::Layout;
use std::ptr::NonNull;

/// One function's record.
#[repr(C)]
pub(crate) struct Origin {
    link: Link,
    /// Cancelled jobs that still lie in the lane, modulo 2^32. A canceller that loses adds and takes back, which may even
    /// reach the next function that uses the record: the sum is right again when it is done.
    tombstones: AtomicU32,
    grants: Grants,
    /// The engine's number, and whether consumer sets pull the jobs.
    engine: AtomicU32,
}

/// Cancels that were granted, and who waits for room.
struct Grants {
    /// Modulo 2^32: whether there was one since somebody looked.
    cancels: AtomicU32,
    /// Odd when a submit may wait: whoever wakes it makes it even, the next one that waits odd again.
    room: AtomicU32,
}

impl Grants {
    fn new() -> Self {
        Grants { cancels: AtomicU32::new(0), room: AtomicU32::new(0) }
    }
}

/// Bit of `engine` for functions without a body.
const PULLED: u32 = 1 << 31;

unsafe fn init(piece: NonNull<Link>, link: Link) {
    let origin = Origin { link, tombstones: AtomicU32::new(0), grants: Grants::new(), engine: AtomicU32::new(0) };
    // SAFETY: the pool passes fresh memory of the layout below.
    unsafe { piece.cast().write(origin) };
}

global! {
    static ORIGINS: Pool = Pool::new(Layout::new::<Origin>(), if crate::sync::IS_MODEL { 2 } else { 64 }, init);
}

global! {
    /// For all functions without a record.
    static OTHERS: Grants = Grants::new();
}

global! {
    static ENGINES: AtomicU32 = AtomicU32::new(0);
}

/// A number for a new engine. Repeats after 2^31 engines.
pub(crate) fn engine_number() -> u32 {
    // Ordering: Relaxed, only uniqueness matters.
    ENGINES.fetch_add(1, Ordering::Relaxed) & !PULLED
}

/// The index of a record for a new function.
pub(crate) fn acquire(engine: u32, pulled: bool) -> u32 {
    let Some(piece) = ORIGINS.get() else { return NIL };
    let origin: NonNull<Origin> = piece.cast();
    // SAFETY: pieces of this pool live as long as the process.
    let origin = unsafe { origin.as_ref() };
    let word = if pulled { engine | PULLED } else { engine };
    // Ordering: Relaxed, reaches handles with the function's key.
    origin.engine.store(word, Ordering::Relaxed);
    origin.link.index
}

/// Gives the record back.
pub(crate) fn release(index: u32) {
    if index != NIL {
        ORIGINS.put(ORIGINS.at(index));
    }
}

/// The record with this index; `None` when there were too many functions in the process for one each.
fn at(index: u32) -> Option<&'static Origin> {
    (index != NIL).then(|| {
        // SAFETY: pieces of this pool live as long as the process.
        unsafe { ORIGINS.at(index).cast().as_ref() }
    })
}

/// Adds to (or with `u32::MAX` takes from) the count of cancelled jobs that lie in the lane.
pub(crate) fn count_tombstones(index: u32, n: u32) {
    if let Some(origin) = at(index) {
        // Ordering: Relaxed, counter only.
        origin.tombstones.fetch_add(n, Ordering::Relaxed);
    }
}

/// Cancelled jobs that lie in the lane.
pub(crate) fn tombstones(index: u32) -> usize {
    // Ordering: Relaxed, counter only.
    let n = at(index).map_or(0, |origin| origin.tombstones.load(Ordering::Relaxed));
    usize::try_from(n as i32).unwrap_or(0)
}

/// Runs `f` with what is known of a function's cancels, or with that of all functions that have no record.
fn with_grants<T>(index: u32, f: impl FnOnce(&Grants) -> T) -> T {
    match at(index) {
        Some(origin) => f(&origin.grants),
        None => f(&OTHERS),
    }
}

/// A cancel was granted.
pub(crate) fn count_cancel(index: u32) {
    with_grants(index, |grants| {
        // Ordering: SeqCst, before the look whether somebody waits: pairs with `expect_room`. Of this and a submit that says
        // that it waits one sees the other. Its Release is for the grant, see `cancels`.
        grants.cancels.fetch_add(1, Ordering::SeqCst);
        let seen = load_after_rmw(&grants.room);
        wake(grants, seen);
    });
}

/// How many cancels were granted: those are seen as granted. The last of several looks, if it comes after
/// [`expect_room`], misses none whose canceller does not wake who waits.
pub(crate) fn cancels(index: u32) -> u32 {
    // Ordering: SeqCst through the load, after the read-modify-write in `expect_room`; its Acquire pairs with the Release in
    // `count_cancel`.
    with_grants(index, |grants| load_after_rmw(&grants.cancels))
}

/// A submit will wait for room unless its next look finds some; under its queue's lock. To be passed to [`await_room`].
pub(crate) fn expect_room(index: u32) -> u32 {
    // Ordering: SeqCst, before the look at the cancels: pairs with `count_cancel`.
    with_grants(index, |grants| grants.room.fetch_or(1, Ordering::SeqCst) | 1)
}

/// Waits until somebody says that there may be room, since `expected` was returned. May return for no reason.
pub(crate) fn await_room(index: u32, expected: u32) {
    with_grants(index, |grants| futex_wait(&grants.room, expected, None));
}

/// There may be room, or will never be again. After the queue's lock was held by this thread.
pub(crate) fn tell_of_room(index: u32) {
    with_grants(index, |grants| {
        // Ordering: Relaxed, a submit that did not see what has changed said under the lock, before, that it waits.
        let seen = grants.room.load(Ordering::Relaxed);
        wake(grants, seen);
    });
}

/// Wakes the submits that wait, if the word was seen to say that there are some.
fn wake(grants: &Grants, seen: u32) {
    // Ordering: Relaxed, the value alone decides: what has changed is seen through the lock or the count of cancels. It fails
    // when somebody else wakes them; of those who have said since that they wait, each looks once more before it does.
    let is_last =
        |seen: u32| grants.room.compare_exchange(seen, seen.wrapping_add(1), Ordering::Relaxed, Ordering::Relaxed);
    if seen % 2 == 1 && is_last(seen).is_ok() {
        futex_wake(&grants.room, i32::MAX);
    }
}

/// Whether the job runs on the workers of this engine. For jobs that have not ended: their function is alive.
pub(crate) fn is_run_by(index: u32, engine: u32) -> bool {
    // Ordering: Relaxed, written before the function was registered.
    at(index).is_none_or(|origin| origin.engine.load(Ordering::Relaxed) == engine)
}
