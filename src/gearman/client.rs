//! A client: submits jobs to Gearman servers, and hears what becomes of them.
//!
//! One thread a client does all its I/O, over one connection a server, on which thousands of jobs may be on their way.
//! Callers hand jobs over and wait on handles, by blocking or as futures of any executor: there is one core for both.
//!
//! | file | what it is |
//! |---|---|
//! | `builder`, `submit`, `handle`, `reply`, `update`, `updates`, `text`, `error` | the public types |
//! | `mail` | from callers to the thread; how much may be on the way |
//! | `io`, `stream` | the thread: sockets |
//! | `core`, `answers` | what it decides, without I/O; what servers say |
//! | `job`, `jobs`, `spec`, `ask` | a job, the table of them, what is written of one; questions that are no jobs |
//! | `link`, `server`, `route`, `crc`, `cause` | a connection, a server, which one gets a job, why a connection is over |

mod answers;
mod ask;
mod builder;
mod cause;
mod core;
mod crc;
mod error;
mod handle;
mod io;
mod job;
mod jobs;
mod link;
mod mail;
mod reply;
mod route;
mod server;
mod spec;
mod stream;
mod submit;
#[cfg(all(test, unix))]
mod tests;
mod text;
mod timers;
mod update;
mod updates;

pub use builder::ClientBuilder;
pub use error::ClientError;
pub use handle::RemoteHandle;
pub use reply::Reply;
pub use route::Routing;
pub use submit::{RemoteSubmit, Submitting};
pub use text::TextAnswer;
pub use update::{RemoteId, RemoteStatus, RemoteUpdate};
pub use updates::Updates;

use crate::gearman::address::Address;
use crate::sync::Mutex;
use ask::{Ask, Question};
use mail::{Command, Line};
use reply::pair;
use std::fmt;
use std::sync::Arc;
use std::thread::JoinHandle;
use text::Text;

/// A client of Gearman servers. Clones share its thread and its connections.
///
/// ```no_run
/// use layshaft::Priority;
/// use layshaft::gearman::Client;
///
/// let client = Client::connect("10.0.0.7, 10.0.0.8:7003")?;
/// let handle = client.job("reverse", "stressed").priority(Priority::High).submit()?;
/// assert_eq!(handle.wait()?, b"desserts");           // or `handle.await`
///
/// client.job("thumb", "cat.png").unique("-").submit_background()?.wait()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # When a server is lost
/// A job that the server cannot have taken goes to another one. Of one that may have run nobody knows what became of it: with
/// a unique key, or [`RemoteSubmit::resubmit`], it is submitted again, otherwise it ends with an error. Nothing waits for ever
/// for a server that is gone: see [`ClientBuilder::command_timeout`]. A job that no worker takes does, without a
/// [`timeout`](RemoteSubmit::timeout).
///
/// # Drop
/// When the last clone is dropped, the thread ends and the connections are closed. Handles of jobs that have not ended get
/// [`ClientError::Closed`]. Background jobs that were not accepted yet may be lost: wait for their reply.
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

struct Inner {
    line: Line,
    addresses: Vec<Address>,
    namespace: Vec<u8>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Client {
    /// Settings, with stated defaults.
    pub fn builder() -> ClientBuilder {
        ClientBuilder::new()
    }

    /// A client of these servers (a list with commas), with default settings. It connects when the first job is submitted.
    ///
    /// # Errors
    /// As [`ClientBuilder::start`].
    pub fn connect(servers: &str) -> Result<Client, ClientError> {
        Client::builder().server(servers).start()
    }

    /// A job to be submitted.
    pub fn job(&self, function: impl AsRef<[u8]>, payload: impl Into<Vec<u8>>) -> RemoteSubmit {
        let mut name = Vec::new();
        if !self.inner.namespace.is_empty() {
            name.extend_from_slice(&self.inner.namespace);
            name.push(b'\t');
        }
        name.extend_from_slice(function.as_ref());
        RemoteSubmit::new(self.inner.line.clone(), name, payload.into())
    }

    /// Submits a job and waits for its result.
    ///
    /// # Errors
    /// Whatever went wrong.
    pub fn call(&self, function: impl AsRef<[u8]>, payload: impl Into<Vec<u8>>) -> Result<Vec<u8>, ClientError> {
        self.job(function, payload).submit()?.wait()
    }

    /// What its server knows of a job.
    pub fn status(&self, id: &RemoteId) -> Reply<RemoteStatus> {
        let (completer, reply) = pair(self.inner.line.io);
        match self.servers().iter().position(|address| address == id.server()) {
            Some(server) => self.ask(Ask::Status(id.clone(), completer), Some(server)),
            None => completer.complete(Err(ClientError::InvalidJob("the job's server is none of this client's"))),
        }
        reply
    }

    /// What is known of the job with this unique key, of any function, by the server that [`Routing::UniqueHash`] sends it
    /// to. Old servers do not know the question and refuse it.
    pub fn status_unique(&self, key: impl AsRef<[u8]>) -> Reply<RemoteStatus> {
        let (completer, reply) = pair(self.inner.line.io);
        self.ask(Ask::StatusUnique(key.as_ref().to_vec(), completer), None);
        reply
    }

    /// Has a server send bytes back.
    pub fn echo(&self, bytes: impl Into<Vec<u8>>) -> Reply<Vec<u8>> {
        let (completer, reply) = pair(self.inner.line.io);
        self.ask(Ask::Echo(bytes.into(), completer), None);
        reply
    }

    /// A text command, such as `status` or `maxqueue resize 100`, to one of [`servers`](Self::servers).
    ///
    /// The reply is [`ClientError::Server`] when the server answers `ERR`.
    ///
    /// # Panics
    /// When there is no server of this number.
    pub fn admin(&self, server: usize, line: &str) -> Reply<TextAnswer> {
        assert!(server < self.servers().len(), "there are {} servers, and no number {server}", self.servers().len());
        let io = self.inner.line.io;
        if line.is_empty() || line.bytes().any(|byte| matches!(byte, 0 | b'\n' | b'\r')) {
            return Reply::ready(io, Err(ClientError::InvalidJob("a text command is one line, and not empty")));
        }
        let (completer, reply) = pair(io);
        self.ask(Ask::Text(Text::new(line), completer), Some(server));
        reply
    }

    /// The servers, as they were given.
    pub fn servers(&self) -> &[Address] {
        &self.inner.addresses
    }

    fn ask(&self, ask: Ask, server: Option<usize>) {
        self.inner.line.mailbox.tell(Command::Ask(Question { ask, server, losses: 0 }));
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("servers", &self.inner.addresses).finish_non_exhaustive()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.line.mailbox.close();
        let Some(thread) = self.thread.lock().take() else { return };
        // Dropped by a listener, it ends when that returns.
        if thread.thread().id() != std::thread::current().id() {
            // A panic there was told on standard error; callers hear that the client is closed.
            let _ = thread.join();
        }
    }
}
