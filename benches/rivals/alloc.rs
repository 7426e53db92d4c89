//! mimalloc or the system's allocator, by environment, counting what is alive.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicI64, AtomicU8, AtomicU64, Ordering};

/// The allocator of this process.
pub(crate) struct Chosen;

/// 0: not looked, 1: mimalloc, 2: the system's.
static CHOICE: AtomicU8 = AtomicU8::new(0);
/// Whether allocations are counted: only the memory workloads pay for it.
static COUNTING: AtomicU8 = AtomicU8::new(0);
static LIVE: AtomicI64 = AtomicI64::new(0);
static CALLS: AtomicU64 = AtomicU64::new(0);

pub(crate) fn count() {
    COUNTING.store(1, Ordering::SeqCst);
}

/// Bytes alive and calls so far.
pub(crate) fn counted() -> (i64, u64) {
    (LIVE.load(Ordering::SeqCst), CALLS.load(Ordering::SeqCst))
}

pub(crate) fn is_system() -> bool {
    match CHOICE.load(Ordering::Relaxed) {
        0 => {
            // SAFETY: getenv returns null or a string that nobody changes while the process starts.
            let value = unsafe { libc::getenv(c"RIVALS_ALLOCATOR".as_ptr()) };
            // SAFETY: as above; `s` is the first letter of "system".
            let system = !value.is_null() && unsafe { *value } == b's' as libc::c_char;
            CHOICE.store(if system { 2 } else { 1 }, Ordering::Relaxed);
            system
        }
        choice => choice == 2,
    }
}

fn note(bytes: i64) {
    if COUNTING.load(Ordering::Relaxed) != 0 {
        LIVE.fetch_add(bytes, Ordering::Relaxed);
        CALLS.fetch_add(u64::from(bytes > 0), Ordering::Relaxed);
    }
}

// SAFETY: both allocators keep the contract, and one of them serves the whole process.
unsafe impl GlobalAlloc for Chosen {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(layout.size() as i64);
        if is_system() {
            // SAFETY: passed on.
            return unsafe { System.alloc(layout) };
        }
        // SAFETY: passed on.
        unsafe { mimalloc::MiMalloc.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        note(-(layout.size() as i64));
        if is_system() {
            // SAFETY: passed on.
            return unsafe { System.dealloc(at, layout) };
        }
        // SAFETY: passed on.
        unsafe { mimalloc::MiMalloc.dealloc(at, layout) }
    }
}
