//! Jobs that jobs submit: the worker's own deque, the nodes for large arguments, and waiting inside a job.

use super::core::{Class, Core};
use super::worker::Worker;
use crate::job::slot::ResultSlot;
use crate::queue::pool::Link;
use crate::sync::IS_MODEL;
use std::ptr::NonNull;
use std::time::Duration;

/// Free nodes that a worker keeps at most; above this it gives half back.
const KEEP_NODES: usize = 256;
/// Nodes fetched at a time.
const FETCH_NODES: usize = 64;

/// About how far the calling thread's stack reaches.
pub(super) fn stack_address() -> usize {
    let here = 0u8;
    std::hint::black_box(&raw const here).addr()
}

impl Worker {
    /// A free node of a class.
    #[inline(always)]
    pub(crate) fn node(&self, class: &Class) -> Option<NonNull<Link>> {
        // SAFETY: only this thread uses the cache, and nothing below calls back into it.
        let nodes = unsafe { &mut *self.nodes.get() };
        match nodes.get_mut(class.id).and_then(Vec::pop) {
            Some(node) => Some(node),
            None => Self::fetch_node(nodes, class),
        }
    }

    #[cold]
    fn fetch_node(nodes: &mut Vec<Vec<NonNull<Link>>>, class: &Class) -> Option<NonNull<Link>> {
        if nodes.len() <= class.id {
            nodes.resize_with(class.id + 1, Vec::new);
        }
        class.nodes.refill(&mut nodes[class.id], FETCH_NODES);
        nodes[class.id].pop()
    }

    #[inline(always)]
    pub(crate) fn free_node(&self, class: &Class, node: NonNull<Link>) {
        // SAFETY: as in `node`.
        let nodes = unsafe { &mut *self.nodes.get() };
        match nodes.get_mut(class.id) {
            Some(list) if list.len() < KEEP_NODES => list.push(node),
            _ => Self::spill_node(nodes, class, node),
        }
    }

    #[cold]
    fn spill_node(nodes: &mut Vec<Vec<NonNull<Link>>>, class: &Class, node: NonNull<Link>) {
        if nodes.len() <= class.id {
            nodes.resize_with(class.id + 1, Vec::new);
        }
        nodes[class.id].push(node);
        class.nodes.spill(&mut nodes[class.id], KEEP_NODES / 2);
    }

    pub(super) fn give_nodes_back(&self) {
        // The classes own the nodes' memory: nothing is lost when the cache goes.
        // SAFETY: as in `node`.
        unsafe { &mut *self.nodes.get() }.clear();
    }

    /// Queues a nested job on this worker, or hands the argument back when the deque is full.
    #[inline(always)]
    pub(crate) fn push<S>(&self, core: &Core, control: *mut ResultSlot, argument: S) -> Result<(), S> {
        // SAFETY: this thread is the owner.
        unsafe { self.me().deque.push(NonNull::from(core), control, argument) }?;
        self.woke(self.shared.sleep.notify_local());
        Ok(())
    }

    // Waiting inside a job.

    /// Waits inside a job for `job`, up to `limit`: runs it, if it is queued here, or blocks. Whether it is done; `false` at
    /// once when the wait would never end.
    pub(crate) fn wait_inside(&self, job: NonNull<ResultSlot>, limit: Option<Duration>) -> bool {
        if self.is_on_this_stack(job) {
            return false;
        }
        self.help(job);
        self.wait_blocked(job, limit, false)
    }

    /// Waits inside a job for a job that others than this engine's workers run.
    pub(crate) fn wait_outside(&self, job: NonNull<ResultSlot>, limit: Option<Duration>) -> bool {
        self.wait_blocked(job, limit, true)
    }

    /// Waits, with a spare in this worker's place unless the job is about to end.
    fn wait_blocked(&self, job: NonNull<ResultSlot>, limit: Option<Duration>, for_others: bool) -> bool {
        if ResultSlot::spin(job) {
            return true;
        }
        if limit == Some(Duration::ZERO) {
            return false;
        }
        let Some(_blocked) = self.block(for_others) else { return false };
        ResultSlot::park(job, limit)
    }

    /// Whether `job` is running on this stack, or suspended further down: it ends only after the running one.
    pub(crate) fn is_on_this_stack(&self, job: NonNull<ResultSlot>) -> bool {
        // SAFETY: this thread alone uses the list, for moments.
        let suspended = unsafe { &*self.suspended.get() };
        self.running.get().is(job) || suspended.iter().any(|running| running.is(job))
    }

    /// Whether the jobs on this stack have used so much of it that the next one has to run elsewhere.
    fn is_deep(&self) -> bool {
        // The models' threads have small stacks, and few jobs.
        !IS_MODEL && self.stack.abs_diff(stack_address()) > self.shared.spares.stack_limit()
    }

    /// Runs `job` if it is in this worker's deque: it, and nothing that came later. The running job is suspended meanwhile.
    /// Whether it has.
    pub(crate) fn help(&self, job: NonNull<ResultSlot>) -> bool {
        if self.is_deep() {
            return false;
        }
        // SAFETY: this thread is the owner.
        if !unsafe { self.me().deque.raise(job.as_ptr()) } {
            return false;
        }
        // SAFETY: this thread is the owner. A thief may be faster: then the job runs elsewhere.
        let Some(taken) = (unsafe { self.me().deque.pop() }) else { return false };
        let outer = self.running.get();
        // SAFETY: this thread alone uses the list, for moments.
        unsafe { &mut *self.suspended.get() }.push(outer);
        self.run_one(taken);
        // SAFETY: as above.
        unsafe { &mut *self.suspended.get() }.pop();
        self.set_running(outer);
        true
    }
}
