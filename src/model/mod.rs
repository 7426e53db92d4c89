//! Private parts, wrapped for the models in `loom-tests`. Compiled only under `--cfg layshaft_loom`; not an interface.
#![allow(missing_docs)]

pub mod jobs;
pub mod queues;
pub mod workers;
