//! The clock of samples: monotonic, one word.

use std::sync::LazyLock;
use std::time::Instant;

static START: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Nanoseconds since some moment of this process, never 0.
pub(crate) fn now() -> u64 {
    let nanos = START.elapsed().as_nanos();
    u64::try_from(nanos).unwrap_or(u64::MAX).max(1)
}
