//! Jobs that jobs submit: the worker's own deque, the nodes for large arguments, and waiting inside a job.

use super::core::{Class, Core};
use super::worker::Worker;
use crate::job::slot::ResultSlot;
use crate::queue::pool::Link;
use std::ptr::NonNull;

/// Free nodes that a worker keeps at most; above this it gives half back.
const KEEP_NODES: usize = 256;
/// Nodes fetched at a time.
const FETCH_NODES: usize = 64;

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

    /// Makes it possible for a job to wait for `job`: runs it, if it is queued here. `false` when the wait would never
    /// end. Calls `wait` to block otherwise.
    pub(crate) fn wait_inside(&self, job: NonNull<ResultSlot>, wait: impl FnOnce()) -> bool {
        // SAFETY: this thread alone uses the list, for moments.
        let suspended = unsafe { &mut *self.suspended.get() };
        let running = self.running.get().job;
        if running == job.as_ptr() || suspended.contains(&job.as_ptr()) {
            return false;
        }
        suspended.push(running);
        self.help(job);
        // SAFETY: the slab's slots live as long as the process.
        let slot = unsafe { job.as_ref() };
        let fine = if slot.is_done() {
            true
        } else if self.shared.phase.block() {
            wait();
            self.shared.phase.unblock();
            true
        } else {
            false
        };
        // SAFETY: as above.
        unsafe { &mut *self.suspended.get() }.pop();
        fine
    }

    /// Runs `job` if it is in this worker's deque: it, and nothing that came later.
    pub(crate) fn help(&self, job: NonNull<ResultSlot>) {
        // SAFETY: this thread is the owner.
        let Some(lifted) = (unsafe { self.me().deque.extract(job.as_ptr()) }) else { return };
        // SAFETY: this thread is the owner, and lifted an entry just now.
        let pushed = unsafe { self.me().deque.push_lifted(lifted) };
        assert!(pushed.is_ok(), "there is room where the entry came from");
        // SAFETY: this thread is the owner. A thief may be faster: then the job runs elsewhere.
        if let Some(taken) = unsafe { self.me().deque.pop() } {
            let outer = self.running.get();
            self.run_one(taken);
            self.set_running(outer);
        }
    }
}
