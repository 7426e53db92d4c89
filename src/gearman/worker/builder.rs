//! The knobs of a remote worker.

use super::ability::{self, Make};
use super::ahead::Ahead;
use super::hands::Hands;
use super::job::{Job, WorkError};
use super::mail::{Mail, Wish};
use super::server::{Place, Server};
use super::turn::{MAIL, Turns};
use super::{Backoff, Event, Served, Settings, Worker};
use crate::engine::Engine;
use crate::error::RegisterError;
use crate::function::Function;
use crate::gearman::address::{Address, AddressError};
use crate::gearman::packet::Kind;
use crate::gearman::secured::Connectors;
use crate::gearman::tls::TlsError;
use crate::sync::Hashing;
use mio::{Poll, Waker};
use std::collections::{HashMap, VecDeque};
use std::error::Error as StdError;
use std::fmt;
use std::hash::BuildHasher;
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Jobs that are taken ahead, a thread, at most.
const MOST_AHEAD: usize = 32;
/// How long a job that was taken ahead may have to wait.
const PATIENCE: Duration = Duration::from_millis(1);
/// What stands between a prefix and a name.
const SEPARATOR: char = '\t';

/// Sets up a [`Worker`]: [`Worker::builder`], servers, functions, then [`build`](Self::build).
#[must_use = "a builder does nothing until `build`"]
pub struct WorkerBuilder {
    engine: Engine,
    places: Vec<Place>,
    /// The first address that is none.
    wrong: Option<AddressError>,
    functions: Vec<(String, Make)>,
    timeouts: Vec<(String, Duration)>,
    prefix: Option<String>,
    jobs: usize,
    ahead: (usize, Duration),
    settings: Settings,
}

impl WorkerBuilder {
    pub(super) fn new(engine: &Engine) -> WorkerBuilder {
        WorkerBuilder {
            engine: engine.clone(),
            places: Vec::new(),
            wrong: None,
            functions: Vec::new(),
            timeouts: Vec::new(),
            prefix: None,
            jobs: engine.workers(),
            ahead: (MOST_AHEAD * engine.workers(), PATIENCE),
            settings: Settings {
                client_id: None,
                functions: Vec::new(),
                grab: Kind::GrabJobUniq,
                exceptions: true,
                repoll: Duration::from_secs(15)..Duration::from_secs(75),
                backoff: Backoff::default(),
                connect_timeout: Duration::from_secs(10),
                answer_timeout: Duration::from_secs(30),
                give_up: None,
                tls: Connectors::default(),
                on_event: None,
            },
        }
    }

    /// Takes jobs from these servers, too: see [`Address`]; a list has commas or white space between its entries. What is no
    /// address, [`build`](Self::build) tells.
    pub fn server(mut self, list: impl AsRef<str>) -> Self {
        match Address::list(list.as_ref()) {
            Ok(list) => self.servers(list),
            Err(error) => {
                self.wrong.get_or_insert(error);
                self
            }
        }
    }

    /// Takes jobs from these servers, too.
    pub fn servers(mut self, addresses: impl IntoIterator<Item = Address>) -> Self {
        self.places.extend(addresses.into_iter().map(Place::At));
        self
    }

    /// Takes jobs from these servers, too, over TLS in a way of their own.
    #[cfg(feature = "tls")]
    pub fn tls_server(mut self, list: impl AsRef<str>, tls: &crate::gearman::TlsClient) -> Self {
        for address in Address::list(list.as_ref()).unwrap_or_default() {
            self.settings.tls.set_own(address, tls);
        }
        self.server(list)
    }

    /// Speaks TLS to all servers, but for those on Unix sockets. What cannot be used of `tls`, [`build`](Self::build) tells.
    #[cfg(feature = "tls")]
    pub fn tls(mut self, tls: &crate::gearman::TlsClient) -> Self {
        self.settings.tls.set_all(tls);
        self
    }

    /// Takes jobs over the socket that is standard input and output: a server that starts its workers itself connects them
    /// so, and sets `GEARMAN_WORKER_USE_STDIO`. The worker ends when that connection does. Nothing else may print to
    /// standard output.
    pub fn stdio(mut self) -> Self {
        self.places.push(Place::Stdio);
        self
    }

    /// Offers a function. It is registered with the engine, under its name with the prefix, for as long as the worker lives.
    pub fn function(
        mut self,
        name: impl Into<String>,
        body: impl Fn(&Job, Vec<u8>) -> Result<Vec<u8>, WorkError> + Send + Sync + 'static,
    ) -> Self {
        self.functions.push((name.into(), ability::of_body(body)));
        self
    }

    /// Offers a function that the engine has. What its body tells through [`current`](crate::current) goes to the clients. When
    /// its queue is full, a job that was taken waits until there is room, and no more are taken.
    pub fn serve(self, name: impl Into<String>, function: &Function<Vec<u8>, Result<Vec<u8>, WorkError>>) -> Self {
        self.serve_with(name, function, |payload| Ok(payload.to_vec()), |result| result)
    }

    /// Offers a function that the engine has, whatever its types: `decode` makes its argument of a payload, `encode` makes
    /// bytes of its result. Both run on the thread that does the I/O.
    pub fn serve_with<A, R>(
        mut self,
        name: impl Into<String>,
        function: &Function<A, R>,
        decode: impl Fn(&[u8]) -> Result<A, WorkError> + Send + Sync + 'static,
        encode: impl Fn(R) -> Result<Vec<u8>, WorkError> + Send + Sync + 'static,
    ) -> Self
    where
        A: Send + 'static,
        R: Send + 'static,
    {
        self.functions.push((name.into(), ability::of_function(function.clone(), decode, encode)));
        self
    }

    /// How long the server lets a job of a function run; it fails then, or is given to another worker, as the server likes.
    /// Said in milliseconds, as gearmand wants it. Default: no limit.
    pub fn function_timeout(mut self, name: impl Into<String>, limit: Duration) -> Self {
        self.timeouts.push((name.into(), limit));
        self
    }

    /// A namespace: functions are offered as prefix, tab, name. Default: none.
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = Some(prefix.into());
        self
    }

    /// What servers call this worker in their tables. Default: nothing.
    pub fn client_id(mut self, id: impl Into<Vec<u8>>) -> Self {
        self.settings.client_id = Some(id.into());
        self
    }

    /// How many jobs run at once, as far as this worker knows. Default: as many as the engine has workers; fewer if the
    /// engine has other things to do, more if bodies wait for something.
    pub fn jobs(mut self, jobs: usize) -> Self {
        self.jobs = jobs.max(1);
        self
    }

    /// How many more are taken at most, and how long the last of them may have to wait, going by measured run times: see the
    /// [module](crate::gearman::worker). Default: 32 for each of the engine's workers, and 1 ms. With `ahead(0, _)` none.
    pub fn ahead(mut self, most: usize, patience: Duration) -> Self {
        self.ahead = (most, patience);
        self
    }

    /// Whether failures with a reason ([`WorkError::Exception`], panics) are told as exceptions, or as a warning before a plain
    /// failure. Default: as exceptions.
    ///
    /// gearmand 1.1, when it tells a client that did not ask for exceptions that its job failed by one, gets the job's id
    /// wrong, and such a client, the command `gearman` for one, waits for ever. With such a server and such clients, set
    /// this to `false`.
    pub fn exceptions(mut self, told: bool) -> Self {
        self.settings.exceptions = told;
        self
    }

    /// Asks for jobs with `GRAB_JOB_ALL`, so that [`Job::reducer`] is told. Not every server that knows it answers. Default:
    /// `GRAB_JOB_UNIQ`, and `GRAB_JOB` where a server does not know that.
    pub fn reducers(mut self, wanted: bool) -> Self {
        self.settings.grab = if wanted { Kind::GrabJobAll } else { Kind::GrabJobUniq };
        self
    }

    /// How long after a server was heard last it is asked for jobs although it has woken nobody: a random time within the
    /// range. A wake-up that was lost is made good by that. Default: 15 to 75 s.
    pub fn repoll(mut self, range: Range<Duration>) -> Self {
        self.settings.repoll = range;
        self
    }

    /// When servers that are down are tried again.
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.settings.backoff = backoff;
        self
    }

    /// How long an attempt to connect may take. Default: 10 s.
    pub fn connect_timeout(mut self, limit: Duration) -> Self {
        self.settings.connect_timeout = limit;
        self
    }

    /// How long a server may take to answer when it was asked for a job; then the connection is made anew. A part of a packet that
    /// comes or goes begins the time anew. After half a second already the others are asked. One that takes nothing of what is
    /// sent to it is left after twice the time. Default: 30 s.
    pub fn answer_timeout(mut self, limit: Duration) -> Self {
        self.settings.answer_timeout = limit;
        self
    }

    /// How long to try when no server was ever reached; each is tried once in any case. Default: for ever.
    pub fn give_up(mut self, limit: Duration) -> Self {
        self.settings.give_up = Some(limit);
        self
    }

    /// Calls `on_event` with what happens, on the thread that runs the worker, which waits for it.
    pub fn on_event(mut self, on_event: impl FnMut(&Event<'_>) + Send + 'static) -> Self {
        self.settings.on_event = Some(Box::new(on_event));
        self
    }

    /// Registers the functions with the engine. Connects to nothing.
    ///
    /// # Errors
    /// [`SetupError`]; functions that were registered until then are removed again.
    pub fn build(self) -> Result<Worker, SetupError> {
        let WorkerBuilder { engine, places, wrong, functions, timeouts, prefix, jobs, ahead, mut settings } = self;
        if let Some(error) = wrong {
            return Err(SetupError::Address(error));
        }
        if let Some(error) = settings.tls.wrong.take() {
            return Err(SetupError::Tls(error));
        }
        if places.is_empty() {
            return Err(SetupError::NoServer);
        }
        if functions.is_empty() {
            return Err(SetupError::NoFunction);
        }
        if let Some((name, _)) = timeouts.iter().find(|(name, _)| !functions.iter().any(|(other, _)| other == name)) {
            return Err(SetupError::UnknownFunction(name.clone()));
        }
        let (mut abilities, mut numbers) = (Vec::new(), HashMap::new());
        for (name, make) in functions {
            let limit = timeouts.iter().rev().find(|(other, _)| *other == name).map(|(_, limit)| *limit);
            // Less than the least that can be said would say that there is none.
            let limit = limit.map(|limit| limit.max(Duration::from_millis(1)));
            let name = prefix.iter().map(|prefix| format!("{prefix}{SEPARATOR}")).chain([name]).collect::<String>();
            if name.is_empty() || name.contains('\0') {
                return Err(SetupError::Register(RegisterError::InvalidName(format!(
                    "{name:?}: a name has one byte or more, and no NUL"
                ))));
            }
            if numbers.insert(name.as_bytes().into(), abilities.len()).is_some() {
                return Err(SetupError::Register(RegisterError::NameTaken(name)));
            }
            abilities.push(make(&engine, &name).map_err(SetupError::Register)?);
            settings.functions.push((name.into_bytes(), limit));
        }
        let poll = Poll::new().map_err(SetupError::Io)?;
        let mail = Arc::new(Mail::new(Waker::new(poll.registry(), MAIL).map_err(SetupError::Io)?));
        let now = Instant::now();
        let random = Hashing::new().hash_one(0) | 1;
        let turns = Turns {
            ahead: Ahead::new(jobs, ahead.1, ahead.0, abilities.len()),
            settings,
            poll,
            mail: Arc::clone(&mail),
            abilities,
            numbers,
            next: (random >> 32) as usize % places.len(),
            servers: places.into_iter().map(|place| Server::new(place, now)).collect(),
            hands: Hands::default(),
            stalled: VecDeque::new(),
            wish: Wish::Run,
            random,
            started: now,
            last_job: now,
            has_met: false,
            served: Served::default(),
            letters: Vec::new(),
        };
        Ok(Worker { turns, mail })
    }
}

impl fmt::Debug for WorkerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let functions: Vec<&str> = self.functions.iter().map(|(name, _)| name.as_str()).collect();
        f.debug_struct("WorkerBuilder")
            .field("servers", &self.places)
            .field("functions", &functions)
            .finish_non_exhaustive()
    }
}

/// Why a worker could not be built.
#[derive(Debug)]
#[non_exhaustive]
pub enum SetupError {
    /// It would take jobs from nowhere.
    NoServer,
    /// It would be able to do nothing.
    NoFunction,
    /// Something is no address of a server.
    Address(AddressError),
    /// What was said of TLS cannot be used.
    Tls(TlsError),
    /// A setting is for a function that is not offered.
    UnknownFunction(String),
    /// The engine does not take a function.
    Register(RegisterError),
    /// The system refused what waiting for sockets takes.
    Io(io::Error),
}

impl fmt::Display for SetupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SetupError::NoServer => f.write_str("a worker needs a server to take jobs from; name one"),
            SetupError::NoFunction => f.write_str("a worker needs a function that it can do; add one"),
            SetupError::UnknownFunction(name) => {
                write!(f, "there is a timeout for the function {name:?}, which the worker does not offer")
            }
            SetupError::Address(error) => error.fmt(f),
            SetupError::Tls(error) => error.fmt(f),
            SetupError::Register(_) => f.write_str("the engine does not take the function"),
            SetupError::Io(_) => f.write_str("the system does not let the worker wait for sockets"),
        }
    }
}

impl StdError for SetupError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            SetupError::Register(error) => Some(error),
            SetupError::Io(error) => Some(error),
            SetupError::Tls(error) => error.source(),
            _ => None,
        }
    }
}
