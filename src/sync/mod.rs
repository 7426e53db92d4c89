//! The one switch between real hardware and the model checkers.
//!
//! Everything that synchronises goes through this module: `native` maps the names onto `std`, `parking_lot` and two
//! Linux system calls (futex and membarrier); `model`, compiled only under `--cfg layshaft_loom` or
//! `--cfg layshaft_shuttle`, maps the same names onto [loom](https://docs.rs/loom), which explores every schedule of two
//! or three threads, or [shuttle](https://docs.rs/shuttle), which tries random ones of many. No other file names an
//! atomic type, a lock or a system call.

#[cfg(all(layshaft_loom, layshaft_shuttle))]
compile_error!("`--cfg layshaft_loom` and `--cfg layshaft_shuttle` exclude each other: there is one checker at a time");

#[cfg(not(any(layshaft_loom, layshaft_shuttle)))]
mod native;
#[cfg(not(any(layshaft_loom, layshaft_shuttle)))]
pub(crate) use native::*;

#[cfg(any(layshaft_loom, layshaft_shuttle))]
mod model;
#[cfg(any(layshaft_loom, layshaft_shuttle))]
pub(crate) use model::*;

#[cfg(feature = "gearman")]
mod sockets;
#[cfg(feature = "gearman")]
pub(crate) use sockets::set_backlog;

pub(crate) use std::sync::atomic::Ordering;

/// Whether a checker runs this: then capacities are as small as they can be, and nobody spins long.
pub(crate) const IS_MODEL: bool = cfg!(any(layshaft_loom, layshaft_shuttle));
