//! How many workers sleep, how many search, and how many there are, packed in one word.

/// ```text
///  63     48 47        32 31        16 15        0
/// +---------+------------+------------+-----------+
/// |    0    |  enlisted  | searchers  | sleepers  |
/// +---------+------------+------------+-----------+
/// ```
///
/// * **sleepers**: parked, or decided to park and looking once more.
/// * **searchers**: looking for work, or woken to look.
/// * **enlisted**: all threads but the spares that stand by.
///
/// Enlisted threads in neither of the other counts run jobs, or are blocked inside one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Counts(pub(crate) u64);

impl Counts {
    /// One sleeper.
    pub(crate) const SLEEPER: u64 = 1;
    /// One searcher.
    pub(crate) const SEARCHER: u64 = 1 << 16;
    /// One enlisted thread.
    pub(crate) const ENLISTED: u64 = 1 << 32;
    const FIELD: u64 = 0xffff;

    #[inline(always)]
    pub(crate) fn sleepers(self) -> u32 {
        (self.0 & Self::FIELD) as u32
    }

    #[inline(always)]
    pub(crate) fn searchers(self) -> u32 {
        ((self.0 / Self::SEARCHER) & Self::FIELD) as u32
    }

    /// Whether every enlisted thread sleeps, in one look, so that it was so at one moment; and as many have settled
    /// (`Phase::settle`): a sleeper may still be at its last look.
    pub(crate) fn are_all_asleep(self, settled: usize) -> bool {
        let enlisted = (self.0 / Self::ENLISTED) & Self::FIELD;
        u64::from(self.sleepers()) == enlisted && settled as u64 == enlisted
    }

    /// Whether new work should wake somebody: there is a sleeper, and no searcher who would find the work anyway.
    #[inline(always)]
    pub(crate) fn wants_wake(self) -> bool {
        self.sleepers() > 0 && self.searchers() == 0
    }

    /// One sleeper becomes a searcher.
    #[must_use]
    pub(crate) fn wake(self) -> Counts {
        Counts(self.0 - Self::SLEEPER + Self::SEARCHER)
    }

    /// All sleepers become searchers.
    #[must_use]
    pub(crate) fn wake_all(self) -> Counts {
        let sleepers = u64::from(self.sleepers());
        Counts(self.0 - sleepers * Self::SLEEPER + sleepers * Self::SEARCHER)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transitions_keep_the_sum() {
        let two = Counts(2 * Counts::ENLISTED + 2 * Counts::SLEEPER);
        assert!(two.wants_wake() && two.are_all_asleep(2) && !two.are_all_asleep(1));
        let one = two.wake();
        assert_eq!((one.sleepers(), one.searchers()), (1, 1));
        assert!(!one.wants_wake() && !one.are_all_asleep(2), "a searcher finds the work");
        let none = two.wake_all();
        assert_eq!((none.sleepers(), none.searchers()), (0, 2));
    }
}
