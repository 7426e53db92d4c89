//! What can be seen of the consumer sets of a function.

use super::waiting::waiting;
use crate::sched::core::{Core, PULLED};
use std::sync::Arc;

/// The consumer sets of a function without a body.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Sets {
    /// Those that have it.
    pub(crate) all: usize,
    /// Those of them that are parked.
    pub(crate) parked: usize,
    /// Those that were woken for it, and have not looked yet.
    pub(crate) woken: usize,
}

/// The consumer sets of a function; `None` if it has a body.
pub(crate) fn sets(core: &Core) -> Option<Sets> {
    if core.flags() & PULLED == 0 {
        return None;
    }
    // SAFETY: without a body, as the flag says.
    let waiting = unsafe { waiting(core) };
    let (parked, woken) = {
        let lists = waiting.lists.lock();
        (lists.parked.len(), lists.wakes)
    };
    // One is the function's own.
    Some(Sets { all: Arc::strong_count(&waiting.had) - 1, parked, woken })
}
