//! How urgent a job is: the lane it goes to.

/// How urgent a job is. Over all functions that a worker or a consumer set serves, a high job starts before any normal one,
/// and a normal one before any low one. Within a function and a priority, jobs start in the order of their submits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Priority {
    /// Before all others. Looked for before each job.
    High,
    /// The default, and the fastest.
    #[default]
    Normal,
    /// When there is nothing else to do.
    Low,
}

impl Priority {
    /// Most urgent first; each at its [`index`](Self::index).
    pub(crate) const ALL: [Priority; 3] = [Priority::High, Priority::Normal, Priority::Low];

    #[inline(always)]
    pub(crate) const fn index(self) -> usize {
        self as usize
    }
}
