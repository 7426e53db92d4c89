//! The thread that does the I/O: events and letters in, jobs to the engine, answers out, a turn at a time.

mod start;
mod time;

use super::ability::{Ability, Ended, Outcome};
use super::ahead::Ahead;
use super::hands::{Hands, InHand, Key};
use super::job::{Job, Line};
use super::link::{Introduction, Link, News};
use super::mail::{Letter, Mail, Origin, Wish};
use super::server::{Cut, Server, State, Up};
use super::socket::Socket;
use super::{Event, Served, Settings};
use crate::gearman::address::Address;
use crate::gearman::error::Error;
use crate::gearman::secured::Secured;
use crate::gearman::tls::Connector;
use mio::{Events, Interest, Poll, Token};
use start::Stalled;
use std::collections::{HashMap, VecDeque};
use std::io::{self, ErrorKind, Read};
use std::mem;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

/// The token of the letter box; servers have their numbers.
pub(super) const MAIL: Token = Token(usize::MAX);
/// What is read at once.
const BUFFER: usize = 256 << 10;
/// Events that are looked at in a turn.
const EVENTS: usize = 256;
/// How long a server may take to close a connection on which all was said.
const PARTING: Duration = Duration::from_secs(2);

/// All that the thread has.
pub(super) struct Turns {
    pub(super) settings: Settings,
    pub(super) poll: Poll,
    pub(super) mail: Arc<Mail>,
    pub(super) abilities: Vec<Box<dyn Ability>>,
    /// The functions' numbers by their names.
    pub(super) numbers: HashMap<Box<[u8]>, usize>,
    pub(super) servers: Vec<Server>,
    pub(super) hands: Hands,
    /// Jobs that the engine had no room for.
    pub(super) stalled: VecDeque<Stalled>,
    pub(super) ahead: Ahead,
    pub(super) wish: Wish,
    /// The server that is asked next.
    pub(super) next: usize,
    pub(super) random: u64,
    pub(super) started: Instant,
    /// When a job ended last.
    pub(super) last_job: Instant,
    /// Whether there ever was a connection.
    pub(super) has_met: bool,
    pub(super) served: Served,
    /// Kept so as not to allocate it again.
    pub(super) letters: Vec<Letter>,
}

impl Drop for Turns {
    fn drop(&mut self) {
        self.mail.close();
    }
}

/// What the thread keeps between turns so as not to allocate it again.
struct Scratch {
    buffer: Vec<u8>,
    news: Vec<News>,
    events: Events,
}

impl Turns {
    /// Turns until the end that is wished for, or that `until` tells.
    pub(super) fn run(mut self, mut until: Option<super::Until<'_>>) -> Result<Served, Error> {
        let mut scratch = Scratch { buffer: vec![0; BUFFER], news: Vec::new(), events: Events::with_capacity(EVENTS) };
        loop {
            self.read_mail();
            let now = Instant::now();
            if let Some(until) = until.as_mut()
                && self.wish == Wish::Run
                && until(self.is_idle(), now - self.last_job)
            {
                self.mail.wish(Wish::Drain);
                self.wish = Wish::Drain;
            }
            if self.wish != Wish::Run {
                self.part();
            }
            self.keep_time(now)?;
            self.retry_stalled(now);
            self.grab(now);
            // No event says that there is room again for what could not be asked before.
            while self.flush(now) {
                self.grab(now);
            }
            if self.is_over() {
                self.leave();
                return Ok(self.served);
            }
            let timeout = self.next_time(until.is_some()).saturating_duration_since(Instant::now());
            match self.poll.poll(&mut scratch.events, Some(timeout)) {
                Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error.into()),
                _ => {}
            }
            self.read_events(&mut scratch);
        }
    }

    /// Looks at what other threads have to say.
    pub(super) fn read_mail(&mut self) {
        let mut letters = mem::take(&mut self.letters);
        self.wish = self.mail.collect(&mut letters).max(self.wish);
        for letter in letters.drain(..) {
            match letter {
                Letter::Ended(key) => self.look(key),
                Letter::Packet(origin, bytes) => {
                    if let Some(up) = self.servers[origin.server].up_for(origin) {
                        up.link.output.extend_from_slice(&bytes);
                        up.told += bytes.len();
                    }
                }
                Letter::Connected(server, attempt, outcome) => self.connected(server, attempt, outcome),
            }
        }
        self.letters = letters;
    }

    fn read_events(&mut self, scratch: &mut Scratch) {
        for event in &scratch.events {
            let Some(server) = self.servers.get_mut(event.token().0) else { continue };
            if let Some(up) = server.up() {
                up.is_readable |= event.is_readable() || event.is_read_closed() || event.is_error();
                up.is_read_closed |= event.is_read_closed() || event.is_error();
                up.is_writable |= event.is_writable() || event.is_write_closed();
            }
        }
        let now = Instant::now();
        for number in 0..self.servers.len() {
            match &mut self.servers[number].state {
                State::Up(up) if up.is_readable => self.read(number, scratch, now),
                State::Parting(socket, _) => {
                    // Nothing is of interest but the end.
                    loop {
                        match socket.read(&mut scratch.buffer) {
                            Ok(n) if n > 0 => {}
                            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                            Err(error) if error.kind() == ErrorKind::Interrupted => {}
                            _ => {
                                self.servers[number].state = State::Gone;
                                break;
                            }
                        }
                    }
                }
                _ => {}
            }
        }
    }

    fn read(&mut self, number: usize, scratch: &mut Scratch, now: Instant) {
        let Some(up) = self.servers[number].up() else { return };
        let outcome = up.read(&mut scratch.buffer, now, &mut scratch.news);
        let line = Arc::clone(&up.line.0);
        // Whoever else listens there, or takes no worker, is a server that is down.
        if up.link.is_known && up.link.heard == now {
            let is_first = !mem::replace(&mut up.is_told, true);
            self.servers[number].outage.end();
            if is_first {
                self.has_met = true;
                self.settings.tell(&Event::Connected { server: &self.servers[number].name });
            }
        }
        for news in scratch.news.drain(..) {
            match news {
                News::Assigned(assigned) => self.start(&line, assigned, now),
                News::Error { code, text } => {
                    let error = Error::Server { code, text };
                    self.settings.tell(&Event::Refused { server: &self.servers[number].name, error: &error });
                }
            }
        }
        if let Err(error) = outcome {
            self.lose(number, error, now);
        }
    }

    /// A connection was made, or not.
    fn connected(&mut self, number: usize, attempt: u64, outcome: io::Result<Secured<Socket>>) {
        let now = Instant::now();
        let server = &self.servers[number];
        if !matches!(server.state, State::Connecting(_)) || server.attempt != attempt {
            return;
        }
        let registered = outcome.and_then(|mut socket| {
            let interests = Interest::READABLE | Interest::WRITABLE;
            self.poll.registry().register(&mut socket.socket, Token(number), interests).map(|()| socket)
        });
        let socket = match registered {
            Ok(socket) => socket,
            Err(error) => return self.lose(number, error.into(), now),
        };
        // There is no other.
        self.has_met |= self.servers[number].place == super::server::Place::Stdio;
        let introduction = Introduction {
            client_id: self.settings.client_id.as_deref(),
            functions: &self.settings.functions,
            grab: self.settings.grab,
            exceptions: self.settings.exceptions,
            seconds: self.settings.seconds,
            limits: self.settings.limits.clone(),
        };
        let server = &mut self.servers[number];
        server.epoch += 1;
        let origin = Origin { server: number, epoch: server.epoch };
        server.state = State::Up(Box::new(Up {
            socket,
            link: Link::new(&introduction, now),
            line: Cut(Arc::new(Line::new(Arc::clone(&self.mail), origin, self.settings.limits.body))),
            told: 0,
            // What came behind a handshake was read with it.
            is_readable: true,
            is_writable: true,
            is_read_closed: false,
            is_told: false,
            patience: time::between(&self.settings.repoll, &mut self.random),
        }));
    }

    /// A connection, or an attempt at one, failed.
    fn lose(&mut self, number: usize, error: Error, now: Instant) {
        let server = &mut self.servers[number];
        let error = server.up().and_then(|up| up.link.refusal()).unwrap_or(error);
        let wait = server.outage.failed(&self.settings.backoff, now);
        let is_last = server.place == super::server::Place::Stdio || self.wish != Wish::Run;
        let next = if is_last { State::Gone } else { State::Down(now + wait) };
        let before = mem::replace(&mut server.state, next);
        let attempts = server.outage.attempts;
        let retry = (!is_last).then_some(wait);
        self.settings.tell(&Event::Lost { server: &self.servers[number].name, error: &error, attempts, retry });
        self.servers[number].error = Some(error);
        if let State::Up(up) = before {
            self.orphan(&up.line.0);
        }
    }

    /// Nobody hears the results of a connection's jobs any more: those that have not started never will.
    fn orphan(&mut self, line: &Line) {
        line.cut();
        self.stalled.retain(|stalled| stalled.origin() != line.origin);
        for key in self.hands.give_up(line.origin) {
            self.look(key);
        }
    }

    /// Looks whether a job has ended, and answers. Not before the mail of that time was read: what the job told is in it.
    fn look(&mut self, key: Key) {
        if let Some((in_hand, ended)) = self.hands.ended(key) {
            self.answer_for(in_hand, ended);
        }
    }

    pub(super) fn answer_for(&mut self, in_hand: InHand, ended: Ended) {
        let now = Instant::now();
        let InHand { job, function, since, ended_before, .. } = in_hand;
        let Ended { outcome, took } = ended;
        if !matches!(outcome, Outcome::NotRun) {
            self.ahead.ran(function, took.unwrap_or_else(|| now - since), ended_before);
            self.last_job = now;
        }
        if self.hands.len() + 1 == self.ahead.threads() {
            self.servers.iter_mut().filter_map(Server::up).for_each(|up| up.link.stir());
        }
        let outcome = outcome.within(job.room());
        self.answer(&job, &outcome);
    }

    fn answer(&mut self, job: &Job, outcome: &Outcome) {
        match outcome {
            Outcome::Done(_) => self.served.done += 1,
            Outcome::Failed(_) => self.served.failed += 1,
            Outcome::NotRun => self.served.not_run += 1,
        }
        let origin = job.0.line.origin;
        match self.servers[origin.server].up_for(origin) {
            Some(up) => up.link.answer(job, outcome),
            None => self.served.orphaned += 1,
        }
    }

    /// Asks for as many jobs as may come, and makes something of every wake-up.
    fn grab(&mut self, now: Instant) {
        if self.wish == Wish::Run && self.stalled.is_empty() {
            self.ask(now);
        }
        self.servers.iter_mut().filter_map(Server::up).for_each(|up| up.link.hand_back());
    }

    /// Asks one server after the other, as long as there is room for jobs.
    fn ask(&mut self, now: Instant) {
        let asked: usize = self.servers.iter_mut().filter_map(Server::up).map(|up| up.link.owed(now)).sum();
        let limit = self.ahead.limit(self.hands.oldest(now));
        let mut room = limit.saturating_sub(self.hands.len() + asked);
        let mut refusals = 0;
        while room > 0 && refusals < self.servers.len() {
            let number = self.next % self.servers.len();
            self.next = number + 1;
            match self.servers[number].up().filter(|up| up.link.may_grab() && !up.link.is_slow(now)) {
                Some(up) => {
                    up.link.grab(now);
                    (room, refusals) = (room - 1, 0);
                }
                None => refusals += 1,
            }
        }
        if self.hands.len() < self.ahead.threads() {
            self.servers.iter_mut().filter_map(Server::up).for_each(|up| up.link.rest());
        }
    }

    /// Sends what there is to say, once a turn. Whether a server can be asked again that had too much to read before.
    fn flush(&mut self, now: Instant) -> bool {
        let mut has_room = false;
        for number in 0..self.servers.len() {
            let Some(up) = self.servers[number].up() else { continue };
            let was_full = up.link.is_full();
            match up.write(now) {
                Err(error) => self.lose(number, error, now),
                Ok(()) if up.link.is_retired() && up.link.is_quiet() && up.socket.is_flushed() => {
                    self.hang_up(number, now)
                }
                Ok(()) => has_room |= was_full && !up.link.is_full(),
            }
        }
        has_room
    }

    /// Ends a connection on which all was said.
    fn hang_up(&mut self, number: usize, now: Instant) {
        let server = &mut self.servers[number];
        let next = if self.wish == Wish::Run { State::Down(now) } else { State::Gone };
        let State::Up(mut up) = mem::replace(&mut server.state, next) else { return };
        up.socket.finish();
        if self.wish != Wish::Run && up.socket.socket.finish().is_ok() {
            self.servers[number].state = State::Parting(up.socket, now + PARTING);
        }
    }

    /// Takes no more jobs, and says so where that is safe.
    fn part(&mut self) {
        for server in &mut self.servers {
            match &mut server.state {
                State::Down(_) | State::Connecting(_) => server.state = State::Gone,
                State::Up(up) if !up.link.is_retired() => {
                    up.link.retire();
                    let busy: Vec<&[u8]> =
                        self.hands.of(up.line.0.origin).map(|in_hand| in_hand.job.function()).collect();
                    let idle = self.settings.functions.iter().map(|(name, _)| name.as_slice());
                    if up.link.in_hand > 0 && up.link.grabs == 0 {
                        up.link.forget(idle.filter(|name| !busy.contains(name)));
                    }
                }
                _ => {}
            }
        }
    }

    fn is_idle(&self) -> bool {
        let is_resting = |server: &Server| match &server.state {
            State::Up(up) => up.link.is_asleep(),
            _ => true,
        };
        self.has_met && self.hands.is_empty() && self.stalled.is_empty() && self.servers.iter().all(is_resting)
    }

    fn is_over(&self) -> bool {
        let are_gone = || self.servers.iter().all(|server| matches!(server.state, State::Gone));
        match self.wish {
            Wish::Leave => true,
            _ => self.hands.is_empty() && self.stalled.is_empty() && are_gone(),
        }
    }

    /// Leaves what is still in hand.
    fn leave(&mut self) {
        for number in 0..self.servers.len() {
            if let State::Up(up) = mem::replace(&mut self.servers[number].state, State::Gone) {
                self.orphan(&up.line.0);
            }
        }
    }
}

/// Connects on a thread of its own: names are looked up, and that may take its time.
fn connect(
    mail: &Arc<Mail>,
    (number, attempt): (usize, u64),
    address: Address,
    tls: Option<Arc<Connector>>,
    limit: Duration,
) -> io::Result<()> {
    let mail = Arc::clone(mail);
    let connect = move || {
        let outcome = Socket::connect(&address, tls.as_deref(), limit);
        mail.post(Letter::Connected(number, attempt, outcome));
    };
    thread::Builder::new().name("layshaft-connect".to_owned()).spawn(connect).map(drop)
}
