//! Which core a thread runs on. Threads inherit it from the one that starts them.

/// Runs `start`, which starts workers. A single one gets a core of its own, and the caller another until the value is
/// dropped. With more workers, without two cores, or where the system cannot do it, nothing is pinned.
#[cfg(target_os = "linux")]
pub(super) use linux::apart;

#[cfg(target_os = "linux")]
mod linux {
    use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

    /// Gives the caller its cores back.
    pub(in crate::bench) struct Apart(Option<CpuSet>);

    pub(in crate::bench) fn apart<T>(workers: usize, start: impl FnOnce() -> T) -> (T, Apart) {
        let pair = if workers == 1 { cores() } else { None };
        let Some((all, [first, last])) = pair else {
            return (start(), Apart(None));
        };
        let is_pinned = sched_setaffinity(None, &last).is_ok();
        let started = start();
        if is_pinned {
            // It worked for the other core.
            let _ = sched_setaffinity(None, &first);
        }
        (started, Apart(is_pinned.then_some(all)))
    }

    impl Drop for Apart {
        fn drop(&mut self) {
            if let Some(all) = &self.0 {
                // The cores were this thread's before.
                let _ = sched_setaffinity(None, all);
            }
        }
    }

    /// The cores of this thread, and the first and last of them alone.
    fn cores() -> Option<(CpuSet, [CpuSet; 2])> {
        let all = sched_getaffinity(None).ok()?;
        let mut allowed = (0..CpuSet::MAX_CPU).filter(|&cpu| all.is_set(cpu));
        let first = allowed.next()?;
        let last = allowed.next_back()?;
        Some((all, [first, last].map(only)))
    }

    fn only(cpu: usize) -> CpuSet {
        let mut set = CpuSet::new();
        set.set(cpu);
        set
    }
}

#[cfg(not(target_os = "linux"))]
pub(super) fn apart<T>(_workers: usize, start: impl FnOnce() -> T) -> (T, ()) {
    (start(), ())
}
