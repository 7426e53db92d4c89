//! The one switch between real hardware and the model checker.
//!
//! Everything that synchronises goes through this module: `native` maps the names onto `std`, `parking_lot` and two
//! Linux system calls (futex and membarrier); `model`, compiled only under `--cfg layshaft_loom`, maps the same names
//! onto [loom](https://docs.rs/loom). No other file names an atomic type, a lock or a system call.

#[cfg(not(layshaft_loom))]
mod native;
#[cfg(not(layshaft_loom))]
pub(crate) use native::*;

#[cfg(layshaft_loom)]
mod model;
#[cfg(layshaft_loom)]
pub(crate) use model::*;

pub(crate) use std::sync::atomic::Ordering;
