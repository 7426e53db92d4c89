//! The few system calls that measuring needs. Each is a best effort: where the kernel refuses, the figures are noisier.

use std::mem;
use std::sync::OnceLock;

/// Timers of this thread, and of those it starts, fire within a nanosecond of their time instead of 50 microseconds.
pub(crate) fn sharpen_timers() {
    // SAFETY: this option takes an integer and touches no memory of ours.
    unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1 as libc::c_ulong, 0, 0, 0) };
}

/// The cores that this process may use, as it was started.
fn cores() -> &'static [usize] {
    static CORES: OnceLock<Vec<usize>> = OnceLock::new();
    CORES.get_or_init(|| {
        // SAFETY: all zeros is the empty set.
        let mut set: libc::cpu_set_t = unsafe { mem::zeroed() };
        // SAFETY: `set` is as large as said.
        let failed = unsafe { libc::sched_getaffinity(0, mem::size_of_val(&set), &mut set) } != 0;
        let has = |core: &usize| {
            // SAFETY: `core` is below the set's size.
            unsafe { libc::CPU_ISSET(*core, &set) }
        };
        if failed { Vec::new() } else { (0..libc::CPU_SETSIZE as usize).filter(has).collect() }
    })
}

/// Binds the calling thread, and those it starts, to the n-th core it may use. Without two cores it does nothing.
pub(crate) fn pin(n: usize) {
    let &[_, _, ..] = cores() else { return };
    // SAFETY: all zeros is the empty set.
    let mut set: libc::cpu_set_t = unsafe { mem::zeroed() };
    // SAFETY: `cores` has numbers below the set's size only.
    unsafe { libc::CPU_SET(cores()[n], &mut set) };
    // SAFETY: `set` is as large as said. A refusal leaves the thread where it was.
    unsafe { libc::sched_setaffinity(0, mem::size_of_val(&set), &set) };
}
