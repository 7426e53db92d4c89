//! Gearman: its wire protocol.
//!
//! | module | what it is |
//! |---|---|
//! | [`Address`] | where a server listens |
//! | [`Client`] | submits jobs to servers, and hears what becomes of them |
//! | [`packet`] | the binary protocol, without I/O |
//! | [`Server`] | a server over an engine's functions |
//! | [`text`] | the text protocol, without I/O |

mod address;
mod client;
pub mod packet;
mod server;
pub mod text;

pub use server::{Answer, Builder as ServerBuilder, Compat, OnLoss, Server};
pub use address::{Address, AddressError, PORT};
pub use client::{
    Client, ClientBuilder, ClientError, RemoteHandle, RemoteId, RemoteStatus, RemoteSubmit, RemoteUpdate, Reply,
    Routing, Submitting, TextAnswer, Updates,
};
