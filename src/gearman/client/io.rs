//! The client's thread: sockets in, sockets out, and `core` between them.

use super::builder::Settings;
use super::cause::Cause;
use super::core::Core;
use super::error::ClientError;
use super::mail::{Command, Line, Mailbox};
use super::stream::Stream;
use super::{Client, Inner};
use crate::gearman::address::Address;
use crate::gearman::secured::Secured;
use crate::sync::Mutex;
use mio::{Events, Poll, Token};
use std::io::{ErrorKind, Read, Write};
use std::sync::Arc;
use std::sync::mpsc;
use std::thread;
use std::time::Instant;

/// Read at once, of any connection.
const BUFFER: usize = 256 * 1024;
/// Reads of one connection before others have their turn.
const READS: usize = 16;
/// The token of the mailbox; servers have theirs from 0.
const MAIL: Token = Token(usize::MAX);

/// Starts the thread.
pub(super) fn start(settings: Settings) -> Result<Client, ClientError> {
    let failed = |error| ClientError::Start(Arc::new(error));
    let poll = Poll::new().map_err(failed)?;
    let waker = mio::Waker::new(poll.registry(), MAIL).map_err(failed)?;
    let mailbox = Arc::new(Mailbox::new(settings.buffer, waker));
    let addresses = settings.servers.iter().map(|(address, _)| address.clone()).collect();
    let namespace = settings.namespace.clone();
    let (started, has_started) = mpsc::channel();
    let theirs = Arc::clone(&mailbox);
    let run = move || {
        theirs.serve();
        let now = Instant::now();
        let streams = settings.servers.iter().map(|_| None).collect();
        let core = Core::new(settings, now);
        let mut turns = Turns { poll, core, streams, mailbox: theirs, buffer: vec![0; BUFFER], again: Vec::new() };
        // Whoever starts it waits for this; who has gone does not mind.
        let _ = started.send(());
        turns.run();
    };
    let thread = thread::Builder::new().name("gearman client".to_owned()).spawn(run).map_err(failed)?;
    let io = thread.thread().id();
    // Ends with an error only if the thread has panicked; then every submit says that the client is closed.
    let _ = has_started.recv();
    let inner = Inner { line: Line { mailbox, io }, addresses, namespace, thread: Mutex::new(Some(thread)) };
    Ok(Client { inner: Arc::new(inner) })
}

struct Turns {
    poll: Poll,
    core: Core,
    streams: Vec<Option<Secured<Stream>>>,
    mailbox: Arc<Mailbox>,
    buffer: Vec<u8>,
    /// Connections that may have more to read, which no event will tell.
    again: Vec<usize>,
}

/// However the thread ends, callers hear of it.
impl Drop for Turns {
    fn drop(&mut self) {
        self.mailbox.end();
    }
}

impl Turns {
    fn run(&mut self) {
        let mut events = Events::with_capacity(64);
        let mut commands = Vec::new();
        loop {
            let goes_on = self.mailbox.take(&mut commands, self.again.is_empty());
            let now = Instant::now();
            let had_none = commands.is_empty();
            commands.drain(..).for_each(|command| self.obey(command, now));
            self.core.tick(now);
            self.act(now);
            if !goes_on {
                return;
            }
            let limit = match had_none && self.again.is_empty() {
                true => self.core.due().map(|due| due.saturating_duration_since(Instant::now())),
                false => Some(std::time::Duration::ZERO),
            };
            match self.poll.poll(&mut events, limit) {
                Err(error) if error.kind() != ErrorKind::Interrupted => return,
                _ => {}
            }
            let now = Instant::now();
            for i in std::mem::take(&mut self.again) {
                self.read(i, now);
            }
            for event in events.iter().filter(|event| event.token() != MAIL) {
                let i = event.token().0;
                if event.is_writable() {
                    self.core.wanted.writes.push(i);
                }
                if event.is_readable() || event.is_read_closed() || event.is_error() {
                    self.read(i, now);
                }
            }
            self.act(now);
        }
    }

    fn obey(&mut self, command: Command, now: Instant) {
        match command {
            Command::Submit(job) => self.core.submit(job, now),
            Command::Ask(question) => self.core.ask(question, now),
            Command::Connected { server, attempt, result } => {
                let Some(connected) = self.core.connected(server, attempt, result, now) else { return };
                let register = |socket| Stream::register(socket, &self.poll, Token(server));
                match connected.try_map(register) {
                    Ok(stream) => {
                        self.streams[server] = Some(stream);
                        // What came behind the handshake was read with it.
                        self.again.push(server);
                    }
                    Err(error) => self.core.lose(server, Cause::Connect(Arc::new(error)), now),
                }
            }
        }
    }

    /// Does with the sockets what is wanted, which may lead to more.
    fn act(&mut self, now: Instant) {
        loop {
            // In this order: what was lost and is wanted again is a new connection.
            self.close();
            for (i, attempt, address) in std::mem::take(&mut self.core.wanted.connects) {
                self.connect(i, attempt, &address, now);
            }
            let mut writes = std::mem::take(&mut self.core.wanted.writes);
            writes.sort_unstable();
            writes.dedup();
            writes.into_iter().for_each(|i| self.write(i, now));
            let wanted = &self.core.wanted;
            if wanted.closes.is_empty() && wanted.connects.is_empty() && wanted.writes.is_empty() {
                break;
            }
        }
        self.mailbox.release(std::mem::take(&mut self.core.wanted.released));
    }

    /// Ends what is to be closed.
    fn close(&mut self) {
        for i in std::mem::take(&mut self.core.wanted.closes) {
            if let Some(mut stream) = self.streams[i].take() {
                stream.finish();
            }
        }
    }

    /// On a thread of its own for as long as it takes: looking a name up blocks, and others are served meanwhile.
    fn connect(&mut self, server: usize, attempt: u64, address: &Arc<Address>, now: Instant) {
        let (mailbox, address) = (Arc::clone(&self.mailbox), Arc::clone(address));
        let timeout = self.core.settings.connect_timeout;
        let tls = self.core.settings.tls.of(&address);
        let connect = move || {
            let result = Secured::connect(&address, tls.as_deref(), timeout);
            mailbox.tell(Command::Connected { server, attempt, result });
        };
        if let Err(error) = thread::Builder::new().name("gearman connect".to_owned()).spawn(connect) {
            self.core.lose(server, Cause::Connect(Arc::new(error)), now);
        }
    }

    fn write(&mut self, i: usize, now: Instant) {
        while let Some(stream) = &mut self.streams[i] {
            let bytes = self.core.servers[i].link.unwritten();
            let written = match bytes {
                [] if stream.is_flushed() => return,
                [] => stream.flush().map(|()| 0),
                bytes => stream.write(bytes),
            };
            match written {
                Ok(0) => {}
                Ok(written) => self.core.wrote(i, written, now),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => {
                    // The peer may have said why, before it left.
                    self.read(i, now);
                    return;
                }
            }
        }
    }

    fn read(&mut self, i: usize, now: Instant) {
        let mut buffer = std::mem::take(&mut self.buffer);
        let mut reads = 0;
        while let Some(stream) = &mut self.streams[i] {
            if reads == READS {
                self.again.push(i);
                break;
            }
            reads += 1;
            match stream.read(&mut buffer) {
                Ok(0) => self.core.lose(i, Cause::Closed, now),
                Ok(n) => self.core.read(i, &buffer[..n], now),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // Some servers refuse a certificate when the handshake is over for this side.
                Err(error) if stream.has_failed() && !self.core.servers[i].link.is_known => {
                    self.core.lose(i, Cause::Insecure(Arc::new(error)), now);
                }
                Err(error) => self.core.lose(i, Cause::Io(Arc::new(error)), now),
            }
            // Lost: what is read next would be of another connection.
            self.close();
        }
        self.buffer = buffer;
    }
}
