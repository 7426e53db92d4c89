//! A function's queue: lanes of jobs, the blocks they are made of, and the pools that blocks come from.

pub(crate) mod block;
pub(crate) mod cursor;
pub(crate) mod lane;
pub(crate) mod limits;
pub(crate) mod managed;
pub(crate) mod pool;
pub(crate) mod priority;
pub(crate) mod record;
pub(crate) mod retry;
pub(crate) mod update;
