//! What a handle knows of the function its job was submitted to.
//!
//! A handle must not keep a function alive (counting would cost more than the submit), and may outlive it. So the little
//! it needs lies in process-wide type-stable memory, one record a function, addressed by index.

use crate::queue::pool::{Link, NIL, Pool};
use crate::sync::{AtomicU32, Ordering, global};
use std::alloc::Layout;
use std::ptr::NonNull;

/// One function's record.
#[repr(C)]
pub(crate) struct Origin {
    link: Link,
    /// Cancelled jobs that still lie in the lane, modulo 2^32. A canceller that loses adds and takes back, which may even
    /// reach the next function that uses the record: the sum is right again when it is done.
    tombstones: AtomicU32,
    /// Cancels that were granted, modulo 2^32: whether there was one since somebody looked.
    cancels: AtomicU32,
    /// The engine's number, and whether consumer sets pull the jobs.
    engine: AtomicU32,
}

/// Bit of `engine` for functions without a body.
const PULLED: u32 = 1 << 31;

unsafe fn init(piece: NonNull<Link>, link: Link) {
    let origin = Origin { link, tombstones: AtomicU32::new(0), cancels: AtomicU32::new(0), engine: AtomicU32::new(0) };
    // SAFETY: the pool passes fresh memory of the layout below.
    unsafe { piece.cast().write(origin) };
}

global! {
    static ORIGINS: Pool = Pool::new(Layout::new::<Origin>(), if crate::sync::IS_MODEL { 2 } else { 64 }, init);
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

/// A cancel was granted.
pub(crate) fn count_cancel(index: u32) {
    if let Some(origin) = at(index) {
        // Ordering: Relaxed, counter only.
        origin.cancels.fetch_add(1, Ordering::Relaxed);
    }
}

/// How many cancels were granted; `None` when nobody counts.
pub(crate) fn cancels(index: u32) -> Option<u32> {
    // Ordering: Relaxed, counter only.
    at(index).map(|origin| origin.cancels.load(Ordering::Relaxed))
}

/// Whether the job runs on the workers of this engine. For jobs that have not ended: their function is alive.
pub(crate) fn is_run_by(index: u32, engine: u32) -> bool {
    // Ordering: Relaxed, written before the function was registered.
    at(index).is_none_or(|origin| origin.engine.load(Ordering::Relaxed) == engine)
}
