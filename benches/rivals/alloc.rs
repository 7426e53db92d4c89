//! The allocator of every contestant. The environment chooses it, once, before `main`: so all sides are built alike.

use mimalloc::MiMalloc;
use std::alloc::{GlobalAlloc, Layout, System};
use std::ffi::CStr;
use std::sync::atomic::{AtomicI64, AtomicU8, AtomicU64, Ordering};

/// Set by the parent for its children: `system` or `mimalloc`, and `,counted` behind it.
pub(crate) const VARIABLE: &str = "LAYSHAFT_RIVALS_ALLOCATOR";
const C_VARIABLE: &CStr = c"LAYSHAFT_RIVALS_ALLOCATOR";

#[global_allocator]
static ALLOCATOR: Switch = Switch;

const KNOWN: u8 = 1;
const SYSTEM: u8 = 2;
const COUNTED: u8 = 4;

static MODE: AtomicU8 = AtomicU8::new(0);
static CALLS: AtomicU64 = AtomicU64::new(0);
static LIVE: AtomicI64 = AtomicI64::new(0);

/// The variable's value.
pub(crate) fn setting(is_system: bool, is_counted: bool) -> String {
    let name = if is_system { "system" } else { "mimalloc" };
    if is_counted { format!("{name},counted") } else { name.to_owned() }
}

/// Allocations since the start. Stays zero when they are not counted.
pub(crate) fn calls() -> u64 {
    // Ordering: Relaxed, counter only.
    CALLS.load(Ordering::Relaxed)
}

/// Bytes allocated and not freed. Stays zero when they are not counted.
pub(crate) fn live() -> i64 {
    // Ordering: Relaxed, counter only.
    LIVE.load(Ordering::Relaxed)
}

#[inline(always)]
fn mode() -> u8 {
    // Ordering: Relaxed, every thread would read the same from the environment.
    match MODE.load(Ordering::Relaxed) {
        0 => read_mode(),
        known => known,
    }
}

/// Allocates nothing: it runs inside the first allocation.
#[cold]
fn read_mode() -> u8 {
    // SAFETY: the name ends in NUL, and nothing in this program changes its own environment.
    let value = unsafe { libc::getenv(C_VARIABLE.as_ptr()) };
    let mut mode = KNOWN;
    if !value.is_null() {
        // SAFETY: what `getenv` found ends in NUL and stays.
        let value = unsafe { CStr::from_ptr(value) }.to_bytes();
        mode |= if value.starts_with(b"system") { SYSTEM } else { 0 };
        mode |= if value.ends_with(b",counted") { COUNTED } else { 0 };
    }
    // Ordering: Relaxed, see `mode`.
    MODE.store(mode, Ordering::Relaxed);
    mode
}

/// Hands on to the chosen allocator, which never changes: what one gave, the same one takes back.
struct Switch;

impl Switch {
    #[inline(always)]
    fn count(mode: u8, calls: u64, bytes: i64) {
        if mode & COUNTED != 0 {
            // Ordering: Relaxed, counters only.
            CALLS.fetch_add(calls, Ordering::Relaxed);
            LIVE.fetch_add(bytes, Ordering::Relaxed);
        }
    }
}

// SAFETY: each call goes to one allocator, and it is the same one for a block's whole life.
unsafe impl GlobalAlloc for Switch {
    #[inline(always)]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let mode = mode();
        Self::count(mode, 1, layout.size() as i64);
        if mode & SYSTEM != 0 {
            // SAFETY: the caller's promises.
            unsafe { System.alloc(layout) }
        } else {
            // SAFETY: the caller's promises.
            unsafe { MiMalloc.alloc(layout) }
        }
    }

    #[inline(always)]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        let mode = mode();
        Self::count(mode, 1, layout.size() as i64);
        if mode & SYSTEM != 0 {
            // SAFETY: the caller's promises.
            unsafe { System.alloc_zeroed(layout) }
        } else {
            // SAFETY: the caller's promises.
            unsafe { MiMalloc.alloc_zeroed(layout) }
        }
    }

    #[inline(always)]
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        let mode = mode();
        Self::count(mode, 0, -(layout.size() as i64));
        if mode & SYSTEM != 0 {
            // SAFETY: the caller's promises; the block came from there.
            unsafe { System.dealloc(block, layout) }
        } else {
            // SAFETY: the caller's promises; the block came from there.
            unsafe { MiMalloc.dealloc(block, layout) }
        }
    }

    #[inline(always)]
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let mode = mode();
        Self::count(mode, 1, size as i64 - layout.size() as i64);
        if mode & SYSTEM != 0 {
            // SAFETY: the caller's promises; the block came from there.
            unsafe { System.realloc(block, layout, size) }
        } else {
            // SAFETY: the caller's promises; the block came from there.
            unsafe { MiMalloc.realloc(block, layout, size) }
        }
    }
}
