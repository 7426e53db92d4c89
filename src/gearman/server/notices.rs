//! What happens to jobs and connections while the table is locked, or on other threads: noted here, and dealt with by
//! whoever has the table next.

use super::keys::{ConnKey, JobKey};
use crate::Update;
use crate::sync::Mutex;
use std::cell::Cell;
use std::mem;
use std::sync::Arc;
use std::task::Wake;

/// Something to be dealt with.
pub(super) enum Notice {
    /// The engine woke a sleeping worker's set.
    Woken(ConnKey),
    /// The engine dropped a queued job: to make room for another one, or because what was queued is discarded.
    Dropped(JobKey),
    /// A job in this process may have ended.
    Ended(JobKey),
    /// A job in this process told something.
    Told(JobKey, Update),
}

/// Notices, and how to have somebody look at them.
pub(super) struct Notices {
    pending: Mutex<Vec<Notice>>,
    rouse: Box<dyn Fn() + Send + Sync>,
}

thread_local! {
    /// This thread has the table, and looks at the notices before it lets go of it.
    static HAS_TABLE: Cell<bool> = const { Cell::new(false) };
}

/// Says that this thread has the table.
pub(super) struct HasTable(());

impl HasTable {
    pub(super) fn new() -> HasTable {
        HAS_TABLE.set(true);
        HasTable(())
    }
}

impl Drop for HasTable {
    fn drop(&mut self) {
        HAS_TABLE.set(false);
    }
}

impl Notices {
    pub(super) fn new(rouse: impl Fn() + Send + Sync + 'static) -> Notices {
        Notices { pending: Mutex::new(Vec::new()), rouse: Box::new(rouse) }
    }

    pub(super) fn push(&self, notice: Notice) {
        let mut pending = self.pending.lock();
        let is_first = pending.is_empty();
        pending.push(notice);
        drop(pending);
        if is_first && !HAS_TABLE.get() {
            (self.rouse)();
        }
    }

    /// Takes all, in order. Whoever pushes the next one from elsewhere rouses somebody.
    pub(super) fn take(&self, into: &mut Vec<Notice>) {
        let mut pending = self.pending.lock();
        mem::swap(&mut *pending, into);
    }
}

/// A job's place in its function's queue. Dropped there, it tells.
pub(super) struct Ticket {
    /// Nobody's once it is looked after by other means.
    job: JobKey,
    notices: Arc<Notices>,
}

impl Ticket {
    pub(super) fn new(job: JobKey, notices: &Arc<Notices>) -> Ticket {
        Ticket { job, notices: Arc::clone(notices) }
    }

    pub(super) fn job(&self) -> JobKey {
        self.job
    }

    /// The job is looked after by other means.
    pub(super) fn spend(mut self) -> JobKey {
        std::mem::replace(&mut self.job, JobKey::NOBODY)
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if self.job != JobKey::NOBODY {
            self.notices.push(Notice::Dropped(self.job));
        }
    }
}

/// Wakes a connection, or has a job in this process looked at.
pub(super) struct Bell {
    notice: fn(u64) -> Notice,
    whom: u64,
    notices: Arc<Notices>,
}

impl Bell {
    pub(super) fn of_conn(conn: ConnKey, notices: &Arc<Notices>) -> Arc<Bell> {
        Arc::new(Bell {
            notice: |n| Notice::Woken(ConnKey::from_number(n)),
            whom: conn.number(),
            notices: Arc::clone(notices),
        })
    }

    pub(super) fn of_job(job: JobKey, notices: &Arc<Notices>) -> Arc<Bell> {
        Arc::new(Bell {
            notice: |n| Notice::Ended(JobKey::from_number(n)),
            whom: job.number(),
            notices: Arc::clone(notices),
        })
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.notices.push((self.notice)(self.whom));
    }
}
