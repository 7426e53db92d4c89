//! Gearman: its wire protocol, a server, a client and a worker.
//!
//! | module | what it is |
//! |---|---|
//! | [`Address`] | where a server listens |
//! | [`Client`] | submits jobs to servers, and hears what becomes of them |
//! | [`packet`] | the binary protocol, without I/O |
//! | [`Server`] | a server over an engine's functions |
//! | [`Network`] | where peers of a server may come from |
//! | [`text`] | the text protocol, without I/O |
//! | [`worker`] | [`Worker`]: jobs of Gearman servers, run on an engine |

mod address;
mod client;
mod error;
mod network;
pub mod packet;
mod secured;
mod server;
pub mod text;
#[cfg_attr(not(feature = "tls"), path = "tls/without.rs")]
mod tls;
mod waiting;
pub mod worker;

pub use address::{Address, AddressError, PORT};
pub use client::{
    Client, ClientBuilder, ClientError, RemoteHandle, RemoteId, RemoteStatus, RemoteSubmit, RemoteUpdate, Reply,
    Routing, Submitting, TextAnswer, Updates,
};
pub use error::Error;
pub use network::{Network, NetworkError};
pub use server::{
    Answer, Builder as ServerBuilder, ChangeError, ClientStatus, Compat, ExposedError, FunctionSettings,
    FunctionStatus, JobState, JobStatus, OnLoss, Server, ServerCounters, ServerEvent, ServerStatus, Times,
};
pub use tls::TlsError;
#[cfg(feature = "tls")]
pub use tls::{Tls, TlsClient};
pub use worker::{Job, WorkError, Worker};
