//! Gearman: its wire protocol.
//!
//! | module | what it is |
//! |---|---|
//! | [`packet`] | the binary protocol, without I/O |
//! | [`Server`] | a server over an engine's functions |
//! | [`text`] | the text protocol, without I/O |

pub mod packet;
mod server;
pub mod text;

pub use server::{
    Answer, Builder as ServerBuilder, ChangeError, ClientStatus, Compat, FunctionStatus, JobState, JobStatus, OnLoss,
    Server, ServerCounters, ServerStatus,
};
