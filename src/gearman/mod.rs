//! Gearman: its wire protocol, and a worker that speaks it.
//!
//! | module | what it is |
//! |---|---|
//! | [`packet`] | the binary protocol, without I/O |
//! | [`text`] | the text protocol, without I/O |
//! | [`worker`] | [`Worker`]: jobs of Gearman servers, run on an engine |

mod error;
pub mod packet;
pub mod text;
pub mod worker;

pub use error::Error;
pub use worker::{Job, WorkError, Worker};
