//! `std`, `parking_lot`, futex and membarrier.

pub(crate) use parking_lot::{Condvar, Mutex, MutexGuard};
pub(crate) use std::collections::hash_map::RandomState as Hashing;
pub(crate) use std::hint::spin_loop;
pub(crate) use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU8, AtomicU32, AtomicU64, AtomicUsize};
pub(crate) use std::thread::yield_now;

use std::sync::OnceLock;
use std::sync::atomic::{Ordering, compiler_fence, fence};
use std::time::Duration;

/// `std::cell::UnsafeCell` with the closure interface of loom's, which lets a model see every access.
#[repr(transparent)]
pub(crate) struct UnsafeCell<T>(std::cell::UnsafeCell<T>);

impl<T> UnsafeCell<T> {
    pub(crate) const fn new(value: T) -> Self {
        UnsafeCell(std::cell::UnsafeCell::new(value))
    }

    #[inline(always)]
    pub(crate) fn with<U>(&self, f: impl FnOnce(*const T) -> U) -> U {
        f(self.0.get())
    }

    #[inline(always)]
    pub(crate) fn with_mut<U>(&self, f: impl FnOnce(*mut T) -> U) -> U {
        f(self.0.get())
    }
}

/// Sets whether `fence_light` may be a compiler fence. Written once, before any worker starts.
static ASYMMETRIC: AtomicBool = AtomicBool::new(false);

/// Chooses the fences of this process: `membarrier` where the kernel has it, full fences on both sides otherwise.
///
/// Must run before the first worker starts; later calls change nothing.
pub(crate) fn prepare_fences() {
    static ONCE: OnceLock<()> = OnceLock::new();
    ONCE.get_or_init(|| {
        if cfg!(layshaft_tsan) {
            return;
        }
        // SAFETY: membarrier(2) takes three integers and touches no memory of ours.
        let r = unsafe { libc::syscall(libc::SYS_membarrier, libc::MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0) };
        // Ordering: Relaxed, read by threads that are started after this call and see it by the start itself.
        ASYMMETRIC.store(r == 0, Ordering::Relaxed);
    });
}

/// The hot half of an asymmetric handshake: its partner is [`fence_heavy`].
///
/// With `membarrier` it only keeps the compiler from moving accesses across it; without, it is a full fence.
#[inline(always)]
pub(crate) fn fence_light() {
    // Ordering: SeqCst against the compiler only; `fence_heavy` makes every core execute a full fence in between.
    compiler_fence(Ordering::SeqCst);
    // Ordering: Relaxed, written once before any worker starts (`prepare_fences`).
    if !ASYMMETRIC.load(Ordering::Relaxed) {
        fence_full();
    }
}

/// A fence that pairs with its like: for two rare sides, and where there is no `membarrier`.
#[cold]
pub(crate) fn fence_full() {
    // Ordering: SeqCst, pairs with the same fence elsewhere, or in `fence_heavy`.
    fence(Ordering::SeqCst);
}

/// The rare half of an asymmetric handshake: every running thread of the process passes a full fence before it returns.
///
/// membarrier(2), `MEMBARRIER_CMD_PRIVATE_EXPEDITED`: 0.3 us when the other threads sleep, about 10 us when one runs.
#[cold]
pub(crate) fn fence_heavy() {
    // Ordering: Relaxed, written once before any worker starts (`prepare_fences`).
    if ASYMMETRIC.load(Ordering::Relaxed) {
        // SAFETY: membarrier(2) takes three integers and touches no memory of ours.
        let r = unsafe { libc::syscall(libc::SYS_membarrier, libc::MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0) };
        assert_eq!(
            r, 0,
            "membarrier was registered and then refused: a seccomp filter was installed after the engine started"
        );
    } else {
        // Ordering: SeqCst, pairs with the same fence in `fence_light`.
        fence(Ordering::SeqCst);
    }
}

/// An atomic that [`load_after_rmw`] can read.
pub(crate) trait Word {
    /// What it holds.
    type Value;
    /// A SeqCst load.
    fn load_seq_cst(&self) -> Self::Value;
}

macro_rules! word {
    ($($atomic:ty => $value:ty),*) => {$(
        impl Word for $atomic {
            type Value = $value;
            #[inline(always)]
            fn load_seq_cst(&self) -> $value {
                // Ordering: SeqCst, the load half of a sleep/notify pair; the caller names its partner.
                self.load(Ordering::SeqCst)
            }
        }
    )*};
}
impl<T> Word for AtomicPtr<T> {
    type Value = *mut T;
    #[inline(always)]
    fn load_seq_cst(&self) -> *mut T {
        // Ordering: SeqCst, as for the numbers.
        self.load(Ordering::SeqCst)
    }
}

word!(AtomicU32 => u32, AtomicU64 => u64, AtomicUsize => usize);

/// The load that follows a SeqCst read-modify-write of another word in a sleep/notify pair.
///
/// On x86-64 the read-modify-write is already a full fence, so this is a plain load. Loom treats SeqCst accesses as
/// acquire/release, so its version puts the fence in.
#[inline(always)]
pub(crate) fn load_after_rmw<W: Word>(word: &W) -> W::Value {
    word.load_seq_cst()
}

/// Sleeps while `word` holds `expected`, for at most `timeout`. Returns early for any reason: the caller looks again.
pub(crate) fn futex_wait(word: &AtomicU32, expected: u32, timeout: Option<Duration>) {
    let spec = timeout.map(|t| libc::timespec {
        tv_sec: libc::time_t::try_from(t.as_secs()).unwrap_or(libc::time_t::MAX),
        tv_nsec: libc::c_long::from(t.subsec_nanos() as i32),
    });
    let spec = spec.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
    let op = libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG;
    // SAFETY: `word` is a live, aligned u32 and `spec` is null or a timespec that outlives the call.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), op, expected, spec) };
}

/// Wakes up to `count` threads that sleep on `word`.
#[cold]
pub(crate) fn futex_wake(word: &AtomicU32, count: i32) {
    let op = libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG;
    // SAFETY: FUTEX_WAKE uses the address as a key and does not read through it.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), op, count) };
}

/// Asks for the cache line of `address` in a writable state.
#[inline(always)]
pub(crate) fn prefetch_write<T>(address: *const T) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_ET0, _mm_prefetch};
        // SAFETY: a prefetch is a hint; it faults for no address.
        unsafe { _mm_prefetch::<_MM_HINT_ET0>(address.cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}

/// A process-wide value made on first use; under the model checker, one per execution.
macro_rules! global {
    ($(#[$doc:meta])* static $name:ident: $type:ty = $init:expr;) => {
        $(#[$doc])*
        static $name: std::sync::LazyLock<$type> = std::sync::LazyLock::new(|| $init);
    };
}
pub(crate) use global;

/// A thread-local value.
macro_rules! local {
    ($(#[$doc:meta])* static $name:ident: $type:ty = $init:expr;) => {
        std::thread_local! { $(#[$doc])* static $name: $type = const { $init }; }
    };
}
pub(crate) use local;
