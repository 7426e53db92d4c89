//! Private parts, wrapped for the models in `loom-tests` and `shuttle-tests`. Compiled only under
//! `--cfg layshaft_loom` and `--cfg layshaft_shuttle`; not an interface.
#![allow(missing_docs)]

pub mod counts;
pub mod jobs;
pub mod loans;
pub mod queues;
pub mod workers;

/// Races on plain data that shuttle has come across.
#[cfg(layshaft_shuttle)]
pub fn races() -> usize {
    crate::sync::races()
}
