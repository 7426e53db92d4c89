//! Whatever servers do and say, in any order: every job ends, once, and nothing is left in the books.

use super::ask::{Ask, Question};
use super::builder::{ClientBuilder, Settings};
use super::cause::Cause;
use super::core::Core;
use super::handle::RemoteHandle;
use super::job::{Caller, Job};
use super::reply::{Reply, pair};
use super::spec::Spec;
use crate::gearman::address::Connected;
use crate::gearman::packet::{Kind, Magic, encode};
use crate::gearman::secured::Secured;
use proptest::prelude::*;
use std::io;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

#[derive(Debug, Clone)]
enum Event {
    Submit { key: u8, retries: u32, limit: Option<u64>, background: bool },
    Echo,
    Connected { server: usize, well: bool },
    Wrote { server: usize, bytes: usize },
    Said { server: usize, kind: Kind, id: u8 },
    Bytes { server: usize, bytes: Vec<u8> },
    Lost { server: usize },
    Later { millis: u64 },
}

fn event() -> impl Strategy<Value = Event> {
    let server = 0..2_usize;
    let kinds = [
        Kind::JobCreated,
        Kind::WorkComplete,
        Kind::WorkFail,
        Kind::WorkException,
        Kind::WorkData,
        Kind::WorkStatus,
        Kind::Error,
        Kind::EchoRes,
        Kind::OptionRes,
        Kind::Noop,
    ];
    let limit = prop::option::of(0..500_u64);
    prop_oneof![
        4 => (0..3_u8, 0..3_u32, limit, any::<bool>())
            .prop_map(|(key, retries, limit, background)| Event::Submit { key, retries, limit, background }),
        1 => Just(Event::Echo),
        4 => (server.clone(), any::<bool>()).prop_map(|(server, well)| Event::Connected { server, well }),
        3 => (server.clone(), 0..200_usize).prop_map(|(server, bytes)| Event::Wrote { server, bytes }),
        12 => (server.clone(), prop::sample::select(kinds.to_vec()), 0..4_u8)
            .prop_map(|(server, kind, id)| Event::Said { server, kind, id }),
        1 => (server.clone(), prop::collection::vec(any::<u8>(), 0..40))
            .prop_map(|(server, bytes)| Event::Bytes { server, bytes }),
        1 => server.prop_map(|server| Event::Lost { server }),
        3 => (0..2000_u64).prop_map(|millis| Event::Later { millis }),
    ]
}

/// A client's thread without sockets, and all that callers wait for.
struct World {
    core: Core,
    now: Instant,
    handles: Vec<RemoteHandle>,
    others: Vec<Box<dyn Fn() -> bool>>,
    connecting: Vec<(usize, u64)>,
    held: usize,
    released: usize,
}

impl World {
    fn new() -> World {
        let settings: Settings = ClientBuilder::new().server("a:1,b:2").seed(0).settings().expect("addresses");
        let now = Instant::now();
        let core = Core::new(settings, now);
        World { core, now, handles: vec![], others: vec![], connecting: vec![], held: 0, released: 0 }
    }

    fn other<T: 'static>(&mut self, reply: Reply<T>) {
        self.others.push(Box::new(move || reply.is_finished()));
    }

    fn submit(&mut self, key: u8, retries: u32, limit: Option<u64>, background: bool) {
        let spec = Spec {
            kind: if background { Kind::SubmitJobBg } else { Kind::SubmitJob },
            function: b"f".to_vec(),
            unique: if key == 0 { vec![] } else { vec![key] },
            reducer: None,
            at: None,
            payload: b"payload".to_vec(),
            retries,
            attempt_timeout: limit.map(Duration::from_millis),
            timeout: None,
            resubmit: key > 0,
        };
        let io = std::thread::current().id();
        let caller = if background {
            let (completer, reply) = pair(io);
            self.other(reply);
            Caller::Background(completer)
        } else {
            let (completer, reply) = pair(io);
            self.handles.push(RemoteHandle(reply));
            Caller::Foreground(completer)
        };
        let job = Job::new(spec, caller, None);
        self.held += job.held;
        self.core.submit(job, self.now);
    }

    fn connected(&mut self, at: usize, well: bool) {
        let (server, attempt) = self.connecting.swap_remove(at);
        let result = if well {
            UnixStream::pair().map(|(ours, _)| Secured::new(Connected::Unix(ours), None))
        } else {
            Err(io::ErrorKind::ConnectionRefused.into())
        };
        self.core.connected(server, attempt, result, self.now);
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Submit { key, retries, limit, background } => self.submit(key, retries, limit, background),
            Event::Echo => {
                let (completer, reply) = pair(std::thread::current().id());
                self.other(reply);
                self.core.ask(Question { ask: Ask::Echo(vec![0], completer), server: None, losses: 0 }, self.now);
            }
            Event::Connected { server, well } => {
                if let Some(at) = self.connecting.iter().position(|(other, _)| *other == server) {
                    self.connected(at, well);
                }
            }
            Event::Wrote { server, bytes } if self.core.servers[server].is_up() => {
                let bytes = bytes.min(self.core.servers[server].link.unwritten().len());
                self.core.wrote(server, bytes, self.now);
            }
            Event::Said { server, kind, id } if self.core.servers[server].is_up() => {
                let mut bytes = Vec::new();
                let args: [&[u8]; 3] = [&[b'a' + id], b"1", b"2"];
                encode(&mut bytes, Magic::Response, kind, &args[..kind.arity().1.min(3)]);
                self.core.read(server, &bytes, self.now);
            }
            Event::Bytes { server, bytes } if self.core.servers[server].is_up() => {
                self.core.read(server, &bytes, self.now);
            }
            Event::Lost { server } => self.core.lose(server, Cause::Closed, self.now),
            Event::Later { millis } => {
                self.now += Duration::from_millis(millis);
                self.core.tick(self.now);
            }
            _ => {}
        }
        self.look();
    }

    fn look(&mut self) {
        let wanted = std::mem::take(&mut self.core.wanted);
        self.connecting.extend(wanted.connects.iter().map(|(server, attempt, _)| (*server, *attempt)));
        self.released += wanted.released;
    }

    /// Nobody is there any more, and time goes on.
    fn end(&mut self) {
        (0..2).for_each(|server| self.core.lose(server, Cause::Closed, self.now));
        self.look();
        for _ in 0..10_000 {
            while !self.connecting.is_empty() {
                self.connected(0, false);
                self.look();
            }
            let Some(due) = self.core.due() else { break };
            self.now = self.now.max(due);
            self.core.tick(self.now);
            self.look();
        }
    }
}

proptest! {
    #[test]
    fn every_job_ends_whatever_servers_do(events in prop::collection::vec(event(), 0..120)) {
        let mut world = World::new();
        events.into_iter().for_each(|event| world.happen(event));
        world.end();
        prop_assert!(world.handles.iter().all(RemoteHandle::is_finished));
        prop_assert!(world.others.iter().all(|is_finished| is_finished()));
        prop_assert!(world.core.servers.iter().all(|server| server.jobs == 0));
        prop_assert_eq!(world.core.due(), None);
        prop_assert_eq!(world.released, world.held);
    }
}

/// A packet of server `i`.
fn say(world: &mut World, i: usize, kind: Kind, args: &[&[u8]]) {
    let mut bytes = Vec::new();
    encode(&mut bytes, Magic::Response, kind, args);
    world.core.read(i, &bytes, world.now);
    world.look();
}

#[test]
fn limits_of_jobs_that_have_ended_are_forgotten() {
    let mut world = World::new();
    let mut server = None;
    for _ in 0..20_000 {
        // All with the same key, so on the same server.
        world.submit(1, 0, Some(600_000), false);
        world.look();
        let i = *server.get_or_insert_with(|| world.connecting[0].0);
        if !world.connecting.is_empty() {
            world.connected(0, true);
        }
        let unwritten = world.core.servers[i].link.unwritten().len();
        world.core.wrote(i, unwritten, world.now);
        say(&mut world, i, Kind::JobCreated, &[b"a"]);
        say(&mut world, i, Kind::WorkComplete, &[b"a", b""]);
    }
    assert!(world.handles.iter().all(RemoteHandle::is_finished));
    assert!(world.core.timers.len() < 3000, "{}", world.core.timers.len());
}

#[test]
fn a_job_of_a_connection_that_is_refused_goes_elsewhere() {
    for code in [&b"too_many_connections"[..], b"peer_not_allowed", b"tls_required"] {
        let mut world = World::new();
        world.submit(0, 0, None, false);
        world.look();
        world.connected(0, true);
        let unwritten = world.core.servers[0].link.unwritten().len();
        world.core.wrote(0, unwritten, world.now);
        say(&mut world, 0, Kind::Error, &[code, b"go away"]);
        assert!(!world.core.servers[0].is_up());
        world.connected(0, true);
        say(&mut world, 1, Kind::JobCreated, &[b"a"]);
        say(&mut world, 1, Kind::WorkComplete, &[b"a", b""]);
        assert!(world.handles[0].is_finished());
    }
}

#[test]
fn such_a_code_is_an_answer_once_others_have_come() {
    let mut world = World::new();
    world.submit(0, 0, None, false);
    world.look();
    world.connected(0, true);
    say(&mut world, 0, Kind::OptionRes, &[b"exceptions"]);
    say(&mut world, 0, Kind::Error, &[b"too_many_connections", b"of a kind"]);
    assert!(world.core.servers[0].is_up() && world.handles[0].is_finished());
}
