//! Gearman: its wire protocol.
//!
//! | module | what it is |
//! |---|---|
//! | [`Address`] | where a server listens |
//! | [`packet`] | the binary protocol, without I/O |
//! | [`text`] | the text protocol, without I/O |

mod address;
pub mod packet;
pub mod text;

pub use address::{Address, AddressError, PORT};
