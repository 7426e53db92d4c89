//! What a running job tells whoever listens to it.

use crate::quiet::quietly;
use crate::sync::Mutex;
use std::fmt;
use std::sync::Arc;

/// What a running job told, see [`Submit::on_update`](crate::Submit::on_update).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Update {
    /// So much is done, of so much in all, in units of the job's own.
    Progress {
        /// What is done.
        done: u64,
        /// What there is in all.
        total: u64,
    },
    /// A part of the result.
    Data(Arc<[u8]>),
    /// Something went wrong, and the job goes on.
    Warning(Arc<[u8]>),
}

/// Hears of updates.
pub(crate) type OnUpdate = Box<dyn FnMut(&Update) + Send>;

/// Those who listen to one job. The lock keeps updates in order, for everybody the same.
#[derive(Clone)]
pub(crate) struct Audience(Arc<Mutex<Vec<OnUpdate>>>);

impl Audience {
    pub(crate) fn new() -> Self {
        Audience(Arc::new(Mutex::new(Vec::new())))
    }

    pub(crate) fn join(&self, on_update: OnUpdate) {
        self.0.lock().push(on_update);
    }

    /// Tells all, in the order in which they came. Runs others' code.
    pub(crate) fn tell(&self, update: &Update) {
        for on_update in &mut *self.0.lock() {
            quietly(|| on_update(update));
        }
    }
}

impl fmt::Debug for Audience {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Audience")
    }
}
