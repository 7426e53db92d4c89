//! The running job, seen from inside its body.

use crate::engine::Engine;
use crate::job::id::JobId;
use crate::job::slot::ResultSlot;
use crate::queue::block::detached;
use crate::queue::record::RecordId;
use crate::queue::update::Update;
use crate::sched::core::Core;
use crate::sched::registry::Shared;
use crate::sched::worker::Worker;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

/// The job that this thread is running, or `None` outside of bodies.
pub fn current() -> Option<Running> {
    Worker::with_current(|worker| {
        let worker = worker?;
        let running = worker.running();
        (!running.function.is_null()).then(|| Running {
            function: running.function,
            job: running.job,
            record: running.record,
            shared: Arc::clone(worker.shared_arc()),
            here: PhantomData,
        })
    })
}

/// The running job. Valid inside the body that asked for it, on the thread that runs it.
pub struct Running {
    function: *const Core,
    job: *const ResultSlot,
    record: RecordId,
    shared: Arc<Shared>,
    /// Not `Send`: what it refers to is kept by the running job.
    here: PhantomData<*const ()>,
}

impl Running {
    /// The job that was current when this was made must still be running, or what it points to may be gone.
    fn check(&self) -> bool {
        Worker::with_current(|worker| {
            worker.is_some_and(|w| {
                let now = w.running();
                std::ptr::eq(now.function, self.function)
                    && std::ptr::eq(now.job, self.job)
                    && now.record == self.record
            })
        })
    }

    fn slot(&self) -> Option<&ResultSlot> {
        let has_slot = !self.job.is_null() && !std::ptr::eq(self.job, detached());
        // SAFETY: the slab's slots live as long as the process.
        has_slot.then(|| unsafe { &*self.job })
    }

    /// The job's id; `None` for a job that was sent, which has no handle and no id, and for one with a key or a time, which may
    /// have several handles.
    pub fn id(&self) -> Option<JobId> {
        self.slot().map(ResultSlot::id)
    }

    /// Whether nobody wants the result any more: the caller asked to cancel this job after it had started (all callers, of
    /// a unique one), or its time is up. Looking is cheap, but for jobs with a key or a time it takes their function's lock.
    pub fn is_cancelled(&self) -> bool {
        if self.record != 0 && self.check() {
            // SAFETY: the job is running, and keeps its function.
            let core = unsafe { &*self.function };
            // SAFETY: the vtable was made for this core.
            return unsafe { (core.vtable.managed.is_cancelled)(core, self.record) };
        }
        self.slot().is_some_and(ResultSlot::is_cancel_requested)
    }

    /// Tells whoever listens ([`Submit::on_update`](crate::Submit::on_update)) how much is done. Without anybody it costs next to
    /// nothing.
    pub fn progress(&self, done: u64, total: u64) {
        self.tell(|| Update::Progress { done, total });
    }

    /// Gives whoever listens a part of the result.
    pub fn data(&self, part: &[u8]) {
        self.tell(|| Update::Data(part.into()));
    }

    /// Warns whoever listens.
    pub fn warning(&self, text: &[u8]) {
        self.tell(|| Update::Warning(text.into()));
    }

    fn tell(&self, update: impl FnOnce() -> Update) {
        if self.record == 0 || !self.check() {
            return;
        }
        // SAFETY: the job is running, and keeps its function.
        let core = unsafe { &*self.function };
        // SAFETY: the vtable was made for this core.
        if let Some(audience) = unsafe { (core.vtable.managed.audience)(core, self.record) } {
            audience.tell(&update());
        }
    }

    /// The function's name.
    ///
    /// # Panics
    /// When called outside the job that this was made in.
    pub fn function(&self) -> String {
        assert!(self.check(), "`Running` was kept beyond its job");
        // SAFETY: the job is running, and keeps its function.
        unsafe { &*self.function }.name().to_owned()
    }

    /// A handle to the engine that runs this job.
    pub fn engine(&self) -> Engine {
        self.shared.add_user();
        Engine::from_shared(Arc::clone(&self.shared))
    }
}

impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Running").field("id", &self.id()).finish_non_exhaustive()
    }
}
