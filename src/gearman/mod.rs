//! Gearman: its wire protocol, and a worker that speaks it.
//!
//! | module | what it is |
//! |---|---|
//! | [`Address`] | where a server listens |
//! | [`packet`] | the binary protocol, without I/O |
//! | [`text`] | the text protocol, without I/O |
//! | [`worker`] | [`Worker`]: jobs of Gearman servers, run on an engine |

mod address;
mod error;
pub mod packet;
pub mod text;
pub mod worker;

pub use address::{Address, AddressError, PORT};
pub use error::Error;
pub use worker::{Job, WorkError, Worker};
