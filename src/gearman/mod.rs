//! Gearman: its wire protocol.
//!
//! | module | what it is |
//! |---|---|
//! | [`packet`] | the binary protocol, without I/O |
//! | [`text`] | the text protocol, without I/O |

pub mod packet;
pub mod text;
