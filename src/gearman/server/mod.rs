//! A server: remote workers pull the jobs of the engine's functions, clients submit them.
//!
//! ```no_run
//! use layshaft::{Engine, gearman::Server};
//!
//! let engine = Engine::builder().workers(1).start()?;
//! let server = Server::builder(&engine).listen("127.0.0.1:4730").start()?;
//! server.wait();
//! # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
//! ```
//!
//! # How it is built
//!
//! | file | what it is |
//! |---|---|
//! | `shard` | a thread that owns sockets: waits, reads, has packets dealt with, sends once a turn |
//! | `stream`, `socket` | one socket: what came and is no message yet, what is to be sent, deadlines |
//! | `handshake` | connections with TLS, until they are secure |
//! | `hub` | what threads share: the table behind one lock, and how to wake each other |
//! | `table`, `functions`, `job`, `conn`, `timers`, `wakes` | jobs, functions and connections, without I/O |
//! | `slots`, `keys` | a table that grows without moving, and names of its entries |
//! | `settings` | what can be set, and the two ancestors' defaults |
//! | `peers` | connections that come and go |
//! | `rules` | what holds for the jobs of each function |
//! | `listening` | what is listened on |
//! | `events`, `times` | what happens, for a log; how long jobs take, for metrics |
//! | `command`, `admin` | what each packet, and each text command, does to them |
//! | `status` | the same as plain data, and by call |
//! | `notices` | what engine and bodies tell while somebody has the table |
//! | `local` | functions of this process behind bytes |
//! | `handles` | names of jobs on the wire |
//! | `output` | what is to be sent, and how much of it there may be |
//!
//! The lock is taken once a read, and not while sockets are read or written: those calls are where the time goes (about
//! 3.7 us to send a segment over loopback, 3.5 us to receive one), so more threads share that work, and take turns at the
//! table.

mod admin;
mod command;
mod conn;
mod events;
mod functions;
mod handles;
mod handshake;
mod hub;
mod job;
mod keys;
mod listening;
mod local;
mod notices;
mod output;
mod peers;
mod rules;
mod settings;
mod shard;
mod slots;
mod socket;
mod status;
mod stream;
mod table;
mod timers;
mod times;
mod wakes;

pub use events::ServerEvent;
pub use listening::ExposedError;
pub use local::Answer;
pub use rules::FunctionSettings;
pub use settings::{Compat, OnLoss};
pub use status::{ChangeError, ClientStatus, FunctionStatus, JobState, JobStatus, ServerCounters, ServerStatus};
pub use times::Times;

use crate::gearman::network::Network;
use crate::gearman::tls::{Acceptor, TlsError};
use crate::sync::Mutex;
use crate::{Engine, Function, Overflow, RegisterError};
use hub::{DRAINING, ENDED, Hub, Link, SENDING};
use listening::Bound;
use mio::{Poll, Waker};
use notices::Notices;
use settings::Settings;
use shard::{NewSocket, Shard, WAKER};
use socket::Socket;
use std::io;
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use table::Table;

/// What is set of a server before it starts.
#[must_use = "nothing is served until `start`"]
pub struct Builder {
    engine: Engine,
    settings: Settings,
    threads: usize,
    addresses: Vec<Asked>,
    /// What was said of TLS and cannot be used.
    wrong: Option<TlsError>,
    backlog: i32,
    unix_mode: u32,
    is_insecure: bool,
    hook: Option<events::Hook>,
    locals: Vec<(String, Box<dyn local::Local>)>,
}

/// What is to be listened on, and what its connections may do.
#[derive(Debug)]
struct Asked {
    place: Place,
    is_admin: bool,
    tls: Option<Arc<Acceptor>>,
}

#[derive(Debug)]
enum Place {
    Tcp(String),
    TcpListener(std::net::TcpListener),
    Unix(PathBuf),
    UnixListener(std::os::unix::net::UnixListener),
}

/// A running server. Dropping it ends it at once.
pub struct Server {
    hub: Arc<Hub>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    addresses: Vec<SocketAddr>,
    #[cfg_attr(not(feature = "tls"), expect(dead_code, reason = "there are none"))]
    acceptors: Vec<Arc<Acceptor>>,
}

impl Builder {
    fn new(engine: &Engine) -> Builder {
        Builder {
            engine: engine.clone(),
            settings: Settings::default(),
            threads: 1,
            addresses: Vec::new(),
            wrong: None,
            backlog: 1024,
            unix_mode: 0o660,
            is_insecure: false,
            hook: None,
            locals: Vec::new(),
        }
    }

    /// Listens on an address, as `127.0.0.1:4730`; port 0 chooses one. May be called several times. Default: none, and then
    /// only [`Server::connect_local`] reaches the server.
    ///
    /// Text commands that change something are taken from peers on this machine, if the address is one of its own.
    pub fn listen(mut self, address: impl Into<String>) -> Self {
        self.add(Place::Tcp(address.into()), false);
        self
    }

    /// Listens on an address on which any peer may use text commands that change something.
    pub fn listen_admin(mut self, address: impl Into<String>) -> Self {
        self.add(Place::Tcp(address.into()), true);
        self
    }

    /// Takes connections from these networks, too, and from no others but those; Unix sockets are not meant. May be called
    /// several times. Default: from anywhere.
    pub fn allow(mut self, networks: impl IntoIterator<Item = Network>) -> Self {
        self.settings.allowed.extend(networks);
        self
    }

    /// Listens on a Unix socket. One that is left there by a server that is gone is replaced; anything else is not. It is removed
    /// when no connection is taken any more.
    pub fn listen_unix(mut self, path: impl Into<PathBuf>) -> Self {
        self.add(Place::Unix(path.into()), true);
        self
    }

    /// Threads that own sockets. Default: 1.
    ///
    /// # Panics
    /// When there are none.
    pub fn threads(mut self, threads: usize) -> Self {
        assert!(threads > 0, "a server needs a thread");
        self.threads = threads;
        self
    }

    /// Takes the defaults of an older server, where they differ. To be called before single settings.
    pub fn compat(mut self, with: Compat) -> Self {
        self.settings.make_compatible(with);
        self
    }

    /// How many sleeping workers are woken for a job: 0 none, `usize::MAX` all. And after which time as many more, while jobs are
    /// queued, and so on; `None`: none. Default: 1, and one more each second, for one that is woken may hang, or its machine be
    /// gone. One that takes nothing, or whose connection ends, passes the wake-up on at once.
    pub fn wakeups(mut self, workers: usize, more_after: impl Into<Option<Duration>>) -> Self {
        self.settings.rules.wakeups = workers;
        self.settings.rules.wakeup_delay = more_after.into();
        self
    }

    /// Whether sleeping workers that did something since they slept last are woken before the others, which then can be
    /// retired. Default: yes; otherwise it is first come, first woken.
    pub fn wake_busy_first(mut self, busy_first: bool) -> Self {
        self.settings.hot_first = busy_first;
        self
    }

    /// Whether the newest job of high priority comes first, instead of the oldest. Default: no.
    pub fn newest_high_first(mut self, newest_first: bool) -> Self {
        self.settings.rules.high_is_lifo = newest_first;
        self
    }

    /// What becomes of a job whose worker is gone. Default: [`OnLoss::Requeue`].
    pub fn on_worker_lost(mut self, what: OnLoss) -> Self {
        self.settings.rules.on_loss = what;
        self
    }

    /// What becomes of a job that runs longer than its worker said. Default: [`OnLoss::Fail`].
    pub fn on_timeout(mut self, what: OnLoss) -> Self {
        self.settings.rules.on_timeout = what;
        self
    }

    /// How often a job is handed out at most; then it fails. Default: no limit.
    pub fn job_retries(mut self, hand_outs: impl Into<Option<u32>>) -> Self {
        self.settings.rules.job_retries = hand_outs.into().filter(|n| *n > 0);
        self
    }

    /// Queued jobs of each function at most, and what becomes of a submit to a full queue. Default: no limit, and
    /// [`Overflow::Reject`]. [`Overflow::Block`] is taken as that: a network client is not kept waiting.
    pub fn max_queue(mut self, jobs: impl Into<Option<usize>>, overflow: Overflow) -> Self {
        self.settings.rules.max_queue = crate::gearman::text::MaxQueue::All(jobs.into());
        self.settings.rules.overflow = overflow;
        self
    }

    /// Bytes of all queued and running jobs together at most, with 128 for each besides payload and key,
    /// and 64 for each client but the first that waits for it. Default: 4 GiB.
    pub fn job_bytes(mut self, bytes: usize) -> Self {
        self.settings.job_bytes = bytes;
        self
    }

    /// Bytes of a packet's body at most. Default: 64 MiB, and 64 KiB for what is not payload.
    pub fn packet_bytes(mut self, bytes: usize) -> Self {
        self.settings.packets.body = bytes;
        self
    }

    /// Connections at most. Default: 100,000.
    pub fn connections(mut self, most: usize) -> Self {
        self.settings.connections = most;
        self
    }

    /// Connections from one address at most; of version 6, from one network of 64 bits. Default: no limit.
    pub fn connections_of_peer(mut self, most: usize) -> Self {
        self.settings.connections_of_peer = most;
        self
    }

    /// Connections that are accepted before other peers have their turn. Default: 64.
    ///
    /// # Panics
    /// When there are none.
    pub fn accept_batch(mut self, connections: usize) -> Self {
        assert!(connections > 0, "a server needs connections");
        self.settings.accept_batch = connections;
        self
    }

    /// How long a thread of the server looks for something to do before it blocks, at most. It looks for as long as that has paid
    /// lately, and an idle server does not look: this saves the time of being woken, for CPU time while there is traffic.
    /// Default: 100 us. Zero: it blocks at once.
    pub fn busy_poll(mut self, most: Duration) -> Self {
        self.settings.busy_poll = most;
        self
    }

    /// How long a message may take from its first byte to its last, and how long a peer may read nothing though there is
    /// something for it. Default: 60 s each.
    ///
    /// Of a message of more than 64 KiB each 64 KiB may take so long: one that takes hours is well if it goes on. A peer that is
    /// late is told so, and closed.
    pub fn deadlines(mut self, message: Duration, write_stall: Duration) -> Self {
        self.settings.message_deadline = message;
        self.settings.write_stall = write_stall;
        self
    }

    /// How long a connection that has just come may say nothing, before it is told so, and closed. Default: 60 s. `None`: for
    /// ever. Connections that this process has made itself are not meant.
    pub fn silence(mut self, limit: impl Into<Option<Duration>>) -> Self {
        self.settings.silence = limit.into();
        self
    }

    /// The host in the handles of jobs. Default: the machine's name.
    pub fn host(mut self, name: impl Into<String>) -> Self {
        self.settings.host = name.into();
        self
    }

    /// Whether the text command `shutdown` ends the server. Default: no.
    pub fn allow_shutdown(mut self, allow: bool) -> Self {
        self.settings.allow_shutdown = allow;
        self
    }

    /// As [`Server::serve`], from the start.
    pub fn serve<A, R, D, E>(mut self, function: &Function<A, R>, decode: D, encode: E) -> Self
    where
        A: Send + 'static,
        R: Send + 'static,
        D: Fn(&[u8]) -> Result<A, String> + Send + Sync + 'static,
        E: Fn(R) -> Answer + Send + Sync + 'static,
    {
        let local = Box::new(local::Typed::new(function.clone(), decode, encode));
        self.locals.push((function.name().to_owned(), local));
        self
    }

    /// Starts the server.
    ///
    /// # Errors
    /// When an address cannot be listened on, or is not to be ([`ExposedError`]), which the error names; TLS cannot be set up, a
    /// thread cannot be started, or two functions of this process have one name.
    pub fn start(self) -> io::Result<Server> {
        if let Some(error) = self.wrong {
            return Err(error.into());
        }
        let mut bound = Bound {
            doors: Vec::new(),
            addresses: Vec::new(),
            is_guarded: self.is_insecure || !self.settings.allowed.is_empty(),
            backlog: self.backlog,
            unix_mode: self.unix_mode,
        };
        for asked in self.addresses {
            bound.add(asked)?;
        }
        let Bound { doors, addresses, .. } = bound;
        let acceptors = doors.iter().filter_map(|door| door.tls.clone()).collect();
        let polls = (0..self.threads).map(|_| Poll::new()).collect::<io::Result<Vec<Poll>>>()?;
        let mut links = Vec::new();
        for poll in &polls {
            links.push(Link { waker: Arc::new(Waker::new(poll.registry(), WAKER)?), sockets: Default::default() });
        }
        let first = Arc::clone(&links[0].waker);
        let notices = Arc::new(Notices::new(move || _ = first.wake()));
        let mut table = Table::new(self.engine, Arc::new(self.settings), notices, self.threads);
        table.events = self.hook.is_some().then(Vec::new);
        for (name, local) in self.locals {
            let taken = |error: RegisterError| io::Error::new(io::ErrorKind::AlreadyExists, error.to_string());
            table.serve(&name, local).map_err(taken)?;
        }
        let hub = Arc::new(Hub::new(table, links, self.hook));
        let server = Server { hub, threads: Mutex::default(), addresses, acceptors };
        let mut doors = Some(doors);
        for (i, poll) in polls.into_iter().enumerate() {
            let shard = Shard::new(i, Arc::clone(&server.hub), poll, doors.take().unwrap_or_default());
            let thread = thread::Builder::new().name(format!("gearman-{i}")).spawn(move || shard.run())?;
            server.threads.lock().push(thread);
        }
        Ok(server)
    }
}

impl Server {
    /// A server over the functions of an engine.
    pub fn builder(engine: &Engine) -> Builder {
        Builder::new(engine)
    }

    /// The addresses that are listened on, with the ports that were chosen.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// One end of a socket pair, whose other end is a connection of this server: for a client or worker in this process, without
    /// a port.
    ///
    /// # Errors
    /// When there is no socket pair to be had.
    pub fn connect_local(&self) -> io::Result<UnixStream> {
        let (ours, theirs) = UnixStream::pair()?;
        self.adopt(ours, "[local]".to_owned())?;
        Ok(theirs)
    }

    fn adopt(&self, socket: UnixStream, peer: String) -> io::Result<()> {
        if self.hub.phase() >= SENDING {
            return Err(io::Error::new(io::ErrorKind::NotConnected, "the server has ended"));
        }
        socket.set_nonblocking(true)?;
        let socket = Socket::Unix(mio::net::UnixStream::from_std(socket));
        self.hub.link(0).sockets.lock().push(NewSocket {
            socket,
            peer,
            ip: None,
            is_admin: true,
            tls: None,
            may_be_silent: true,
        });
        self.hub.wake(0);
        Ok(())
    }

    /// Starts a worker process whose standard input and output are a connection to this server. Its environment says so:
    /// `GEARMAN_WORKER_USE_STDIO=1`. Its standard error is what `command` says; by default this process's.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn spawn_worker(&self, mut command: std::process::Command) -> io::Result<std::process::Child> {
        use std::os::fd::OwnedFd;
        let (ours, theirs) = UnixStream::pair()?;
        let input = OwnedFd::from(theirs.try_clone()?);
        let child = command.env("GEARMAN_WORKER_USE_STDIO", "1").stdin(input).stdout(OwnedFd::from(theirs)).spawn()?;
        self.adopt(ours, "[gearman_child]".to_owned())?;
        Ok(child)
    }

    /// Serves a function of this process: clients that submit a job of its name get what its body returns, without a worker
    /// between them. `decode` reads the argument from the payload, or says why it cannot; `encode` writes what the client
    /// gets. Both run on the server's threads, and should be quick.
    ///
    /// What the body tells by [`Running::progress`](crate::Running::progress) and its like is passed on.
    ///
    /// # Errors
    /// [`RegisterError::NameTaken`] when the server knows a function of this name already.
    pub fn serve<A, R, D, E>(&self, function: &Function<A, R>, decode: D, encode: E) -> Result<(), RegisterError>
    where
        A: Send + 'static,
        R: Send + 'static,
        D: Fn(&[u8]) -> Result<A, String> + Send + Sync + 'static,
        E: Fn(R) -> Answer + Send + Sync + 'static,
    {
        let local = Box::new(local::Typed::new(function.clone(), decode, encode));
        self.hub.with(usize::MAX, |table| table.serve(function.name(), local))
    }

    /// Reads the certificates, keys and authorities of all TLS listeners again. New connections use them; those that there are
    /// stay as they are.
    ///
    /// # Errors
    /// When something cannot be read or used: then nothing has changed, for any listener.
    #[cfg(feature = "tls")]
    pub fn reload_tls(&self) -> Result<(), TlsError> {
        Acceptor::reload(&self.acceptors)
    }

    /// Ends the server when no job is in a worker's hands and all that was to be sent is sent, or so much time has passed: it
    /// takes no connections and gives out no jobs from now on.
    pub fn drain(&self, limit: Duration) {
        self.hub.with(usize::MAX, |table| table.end_by = Instant::now().checked_add(limit));
        self.hub.set_phase(DRAINING);
    }

    /// Ends the server at once: connections are closed, and what is queued is lost.
    pub fn end(&self) {
        self.hub.set_phase(ENDED);
    }

    /// Waits until the server has ended: by [`drain`](Self::drain), [`end`](Self::end), or a text command. Its functions are then
    /// the engine's no more, but for those of this process: another server may have them.
    pub fn wait(&self) {
        let mut threads = self.threads.lock();
        for thread in threads.drain(..) {
            // A thread that panicked has said so.
            let _ = thread.join();
        }
        self.hub.with(usize::MAX, Table::leave_engine);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end();
        self.wait();
    }
}

impl std::fmt::Debug for Builder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Builder { settings, threads, addresses, .. } = self;
        let mut shown = f.debug_struct("Builder");
        shown.field("settings", settings).field("threads", threads).field("addresses", addresses);
        shown.finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server").field("addresses", &self.addresses).finish_non_exhaustive()
    }
}
