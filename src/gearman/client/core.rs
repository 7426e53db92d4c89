//! What the client's thread decides: which job goes where, what becomes of it when a server is lost, and when what is due.
//! Events and times come from outside, and so does all I/O: see `io`.

use super::ask::Question;
use super::builder::Settings;
use super::cause::Cause;
use super::error::ClientError;
use super::job::Job;
use super::jobs::{Attempt, Jobs, Key};
use super::link::{Link, Owed};
use super::route::Router;
use super::server::{Server, State};
use super::timers::{Timer, Timers};
use super::update::RemoteUpdate;
use crate::gearman::address::{Address, Connected};
use crate::gearman::packet::{Kind, Magic, encode};
use crate::gearman::secured::Secured;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How often a job that may run twice is submitted again because a server was lost: a job that kills servers ends.
const MOST_LOSSES: u32 = 5;
/// Between attempts to reach any server at all, at first and at most.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// What the thread shall do with sockets.
#[derive(Default)]
pub(super) struct Wanted {
    /// Servers to connect to, with the attempt's number.
    pub(super) connects: Vec<(usize, u64, Arc<Address>)>,
    /// Connections to close.
    pub(super) closes: Vec<usize>,
    /// Connections with something to write.
    pub(super) writes: Vec<usize>,
    /// Bytes that have left, or never will.
    pub(super) released: usize,
}

/// All that a client knows.
pub(super) struct Core {
    pub(super) settings: Settings,
    router: Router,
    pub(super) servers: Vec<Server>,
    pub(super) jobs: Jobs,
    pub(super) timers: Timers,
    /// Jobs that no server can be found for.
    parked: Vec<Key>,
    retry_at: Option<Instant>,
    pause: Duration,
    pub(super) wanted: Wanted,
}

impl Core {
    pub(super) fn new(settings: Settings, now: Instant) -> Core {
        let weights = settings.servers.iter().map(|(_, weight)| *weight).collect();
        let servers = settings.servers.iter().map(|(address, _)| Server::new(address.clone(), now)).collect();
        Core {
            router: Router::new(settings.routing, weights, settings.seed),
            settings,
            servers,
            jobs: Jobs::default(),
            timers: Timers::default(),
            parked: Vec::new(),
            retry_at: None,
            pause: FIRST_PAUSE,
            wanted: Wanted::default(),
        }
    }

    /// A new job.
    pub(super) fn submit(&mut self, job: Box<Job>, now: Instant) {
        // The caller's time began before it waited for room.
        let end = job.spec.timeout.and_then(|timeout| job.asked_at.checked_add(timeout));
        let key = self.jobs.insert(job);
        self.timers.extend(end.map(|at| Timer { at, key, attempt: None }));
        self.begin_attempt(key, now);
    }

    fn begin_attempt(&mut self, key: Key, now: Instant) {
        let Some(job) = self.jobs.get(key) else { return };
        let number = job.attempt;
        let end = job.spec.attempt_timeout.and_then(|timeout| now.checked_add(timeout));
        self.timers.extend(end.map(|at| Timer { at, key, attempt: Some(number) }));
        self.place(key, now);
    }

    /// Gives a job to a server, or parks it.
    fn place(&mut self, key: Key, now: Instant) {
        let Core { jobs, servers, router, .. } = self;
        // Parked twice, or ended meanwhile.
        let Some(job) = jobs.get(key).filter(|job| job.server.is_none()) else { return };
        let picked = router.pick(job.spec.key(), |i| servers[i].is_usable(now), |i| servers[i].jobs);
        let Some(i) = picked else { return self.park(key, now) };
        self.open(i, now);
        let Core { jobs, servers, .. } = self;
        let (Some(job), server) = (jobs.get(key), &mut servers[i]) else { return };
        job.server = Some(i);
        server.jobs += 1;
        let attempt = Attempt { key, number: job.attempt };
        server.link.push(Owed::Submit(attempt), now, |out| job.spec.encode(out));
        self.wanted.writes.push(i);
    }

    /// Keeps a job until there is a server, or its patience ends.
    fn park(&mut self, key: Key, now: Instant) {
        let is_hopeless = self.servers.iter().all(|server| server.trouble.is_hopeless());
        let is_connecting = self.servers.iter().any(|server| server.state == State::Connecting);
        let Some(job) = self.jobs.get(key) else { return };
        let since = *job.parked_at.get_or_insert(now);
        let is_over = now.saturating_duration_since(since) >= self.settings.patience;
        if is_hopeless || (is_over && !is_connecting) {
            let error = self.no_server();
            return self.end(key, error);
        }
        self.parked.push(key);
        self.retry_at.get_or_insert(now + self.pause);
    }

    /// Finds places for what is parked.
    fn unpark(&mut self, now: Instant) {
        for key in std::mem::take(&mut self.parked) {
            self.place(key, now);
        }
        if self.parked.is_empty() {
            (self.retry_at, self.pause) = (None, FIRST_PAUSE);
        }
    }

    /// Why there is none.
    fn no_server(&self) -> ClientError {
        let all_refuse = self.servers.iter().all(|server| server.trouble.last().is_some_and(Cause::is_refusal));
        if let Some(server) = self.servers.first().filter(|_| all_refuse)
            && let Some(cause) = server.trouble.last()
        {
            return cause.error(&server.address);
        }
        let which: Vec<String> = self.servers.iter().map(Server::to_string).collect();
        ClientError::NoServer(which.join(", "))
    }

    /// A question that is no job.
    pub(super) fn ask(&mut self, question: Question, now: Instant) {
        let Core { servers, router, .. } = self;
        let i = question.server.unwrap_or_else(|| {
            let picked = router.pick(question.key(), |i| servers[i].is_usable(now), |i| servers[i].jobs);
            // With nobody to choose from somebody is tried all the same: the error then says why.
            picked.unwrap_or(question.losses % servers.len())
        });
        self.open(i, now);
        let mut bytes = Vec::new();
        question.encode(&mut bytes);
        self.servers[i].link.push(Owed::Question(question), now, |out| out.extend_from_slice(&bytes));
        self.wanted.writes.push(i);
    }

    /// Starts a connection where there is none.
    fn open(&mut self, i: usize, now: Instant) {
        let server = &mut self.servers[i];
        if server.state != State::Idle {
            return;
        }
        (server.state, server.connecting_since) = (State::Connecting, now);
        server.attempt += 1;
        self.wanted.connects.push((i, server.attempt, Arc::clone(&server.address)));
        if self.settings.exceptions {
            let option = |out: &mut Vec<u8>| encode(out, Magic::Request, Kind::OptionReq, &[b"exceptions"]);
            server.link.push(Owed::Option, now, option);
        }
    }

    /// An attempt to connect has ended: the connection, if it is still wanted.
    pub(super) fn connected(
        &mut self,
        i: usize,
        attempt: u64,
        result: io::Result<Secured<Connected>>,
        now: Instant,
    ) -> Option<Secured<Connected>> {
        let server = &mut self.servers[i];
        if server.attempt != attempt || server.state != State::Connecting {
            return None;
        }
        match result {
            Err(error) => {
                self.lose(i, Cause::of_connect(error), now);
                None
            }
            Ok(connected) => {
                server.state = State::Up;
                server.link.heard_at = now;
                server.trouble.end_leave();
                self.wanted.writes.push(i);
                self.unpark(now);
                Some(connected)
            }
        }
    }

    /// A connection is over. What it owed is sought elsewhere, or ends.
    pub(super) fn lose(&mut self, i: usize, cause: Cause, now: Instant) {
        let most = self.settings.backoff_max;
        let server = &mut self.servers[i];
        if server.state == State::Idle {
            return;
        }
        server.state = State::Idle;
        server.attempt += 1;
        let link = std::mem::replace(&mut server.link, Link::new(now));
        let is_rest = matches!(cause, Cause::Closed) && link.owed.is_empty() && link.accepted.is_empty();
        // A server may close a connection that nobody uses.
        if !is_rest || server.trouble.last().is_some() {
            server.trouble.add(cause.clone(), most, now);
        }
        self.wanted.closes.push(i);
        for (_, owed) in link.owed {
            match owed {
                Owed::Submit(attempt) => self.lose_job(attempt, i, &cause, now),
                Owed::Question(question) => self.lose_question(question, i, &cause, now),
                Owed::Option | Owed::Ping => {}
            }
        }
        for attempt in link.accepted.into_values().flatten() {
            self.lose_job(attempt, i, &cause, now);
        }
        self.unpark(now);
    }

    fn lose_job(&mut self, attempt: Attempt, i: usize, cause: &Cause, now: Instant) {
        let Some(job) = self.jobs.current(attempt) else { return };
        (job.server, job.id) = (None, None);
        self.servers[i].jobs -= 1;
        // A packet that was not written to its end was not taken; nor was one that nobody there can read.
        let has_not_run = !job.is_sent || cause.is_refusal();
        if has_not_run || (job.spec.resubmit && job.losses < MOST_LOSSES) {
            job.losses += u32::from(!has_not_run);
            job.is_sent = false;
            // The time of this attempt goes on: its number stays.
            return self.place(attempt.key, now);
        }
        let server = &self.servers[i].address;
        let error = match cause {
            Cause::Closed | Cause::Io(_) => ClientError::Lost { server: server.to_string(), why: cause.to_string() },
            _ => cause.error(server),
        };
        self.fail_attempt(attempt.key, error, now);
    }

    fn lose_question(&mut self, mut question: Question, i: usize, cause: &Cause, now: Instant) {
        question.losses += 1;
        if question.server.is_none() && question.losses < self.servers.len() {
            return self.ask(question, now);
        }
        let server = &self.servers[i];
        question.fail(match cause {
            Cause::Connect(_) => ClientError::NoServer(server.to_string()),
            _ => cause.error(&server.address),
        });
    }

    /// An attempt has failed: another one, or the end.
    pub(super) fn fail_attempt(&mut self, key: Key, error: ClientError, now: Instant) {
        let Some(job) = self.jobs.get(key) else { return };
        if job.retried >= job.spec.retries {
            return self.end(key, error);
        }
        job.retried += 1;
        let (retried, limits) = (job.retried, job.spec.attempt_timeout.into_iter().count());
        self.leave(key);
        let Some(job) = self.jobs.get(key) else { return };
        job.attempt += 1;
        job.is_sent = false;
        job.tell(&RemoteUpdate::Retry(retried));
        self.forget_timers(limits);
        self.begin_attempt(key, now);
    }

    /// Takes a job from its server's books.
    fn leave(&mut self, key: Key) {
        let Some(job) = self.jobs.get(key) else { return };
        let attempt = Attempt { key, number: job.attempt };
        let (Some(i), id) = (job.server.take(), job.id.take()) else { return };
        self.servers[i].jobs -= 1;
        if let Some(id) = id {
            self.servers[i].link.forget(&id, attempt);
        }
    }

    /// Removes a job that ends.
    pub(super) fn take(&mut self, key: Key) -> Option<Box<Job>> {
        self.leave(key);
        let job = self.jobs.remove(key)?;
        self.forget_timers(job.spec.timeout.into_iter().chain(job.spec.attempt_timeout).count());
        self.wanted.released += job.held;
        Some(job)
    }

    /// So many limits are of no job or attempt any more.
    fn forget_timers(&mut self, limits: usize) {
        let Core { timers, jobs, .. } = self;
        timers.forget(limits, |timer| jobs.get(timer.key).is_some_and(|job| timer.is_of(job.attempt)));
    }

    /// Ends a job without a result.
    pub(super) fn end(&mut self, key: Key, error: ClientError) {
        if let Some(job) = self.take(key) {
            job.fail(error);
        }
    }

    /// So much was written of what server `i` shall get.
    pub(super) fn wrote(&mut self, i: usize, bytes: usize, now: Instant) {
        let Core { servers, jobs, wanted, .. } = self;
        servers[i].link.wrote(bytes, now, |attempt| {
            if let Some(job) = jobs.current(attempt) {
                job.is_sent = true;
                wanted.released += std::mem::take(&mut job.held);
            }
        });
    }

    /// What is due at `now`.
    pub(super) fn tick(&mut self, now: Instant) {
        while let Some(timer) = self.timers.next_due(now) {
            self.expire(&timer, now);
        }
        let patience = self.settings.command_timeout;
        for i in 0..self.servers.len() {
            let server = &mut self.servers[i];
            if server.connect_due(self.settings.connect_timeout).is_some_and(|due| due <= now) {
                self.lose(i, Cause::Connect(Arc::new(io::ErrorKind::TimedOut.into())), now);
            } else if server.answer_due(patience).is_some_and(|due| due <= now) {
                self.lose(i, Cause::Silent(patience.unwrap_or_default()), now);
            } else if server.ping_due(patience).is_some_and(|due| due <= now) {
                let ping = |out: &mut Vec<u8>| encode(out, Magic::Request, Kind::EchoReq, &[PING]);
                server.link.push(Owed::Ping, now, ping);
                self.wanted.writes.push(i);
            }
        }
        if self.retry_at.is_some_and(|at| at <= now) {
            self.pause = (self.pause * 2).min(LONGEST_PAUSE);
            self.retry_at = Some(now + self.pause);
            (0..self.servers.len()).for_each(|i| self.open(i, now));
        }
    }

    fn expire(&mut self, timer: &Timer, now: Instant) {
        let Some(job) = self.jobs.get(timer.key).filter(|job| timer.is_of(job.attempt)) else {
            return self.timers.was_stale();
        };
        let attempts = job.retried + 1;
        match timer.attempt {
            None => {
                let after = job.spec.timeout.unwrap_or_default();
                self.end(timer.key, ClientError::TimedOut { after, attempts });
            }
            Some(_) => {
                let after = job.spec.attempt_timeout.unwrap_or_default();
                self.fail_attempt(timer.key, ClientError::TimedOut { after, attempts }, now);
            }
        }
    }

    /// When to call [`Core::tick`] again.
    pub(super) fn due(&self) -> Option<Instant> {
        let patience = self.settings.command_timeout;
        let limit = self.settings.connect_timeout;
        let links = self.servers.iter();
        let links = links.flat_map(|s| [s.connect_due(limit), s.answer_due(patience), s.ping_due(patience)]);
        let timer = self.timers.next();
        links.chain([timer, self.retry_at]).flatten().min()
    }
}

/// What an echo asks to hear back that only wants to know whether somebody is there.
pub(super) const PING: &[u8] = b"layshaft: is anybody there?";
