//! A job as its two ends see it: the result slot that the worker fills and the handle reads, and the job's id.

pub(crate) mod id;
pub(crate) mod origin;
pub(crate) mod slab;
pub(crate) mod slot;
