//! A Gearman server that does what a test says, and a worker that runs beside it.
#![allow(dead_code, reason = "each test crate uses a part")]

use layshaft::Engine;
use layshaft::gearman::packet::{Kind, Limits, Magic, Message, decode, encode};
use layshaft::gearman::worker::{Backoff, Served, Stopper, WorkerBuilder};
use layshaft::gearman::{Error, Worker};
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use crate::common::PATIENCE;

/// Short enough for a test to wait for.
pub(crate) const SOON: Duration = Duration::from_millis(10);

/// A server that has not been connected to.
pub(crate) struct Fake {
    listener: TcpListener,
}

impl Fake {
    pub(crate) fn new() -> Fake {
        Fake { listener: TcpListener::bind("127.0.0.1:0").expect("a free port") }
    }

    pub(crate) fn address(&self) -> String {
        self.listener.local_addr().expect("it is bound").to_string()
    }

    /// Waits for a worker.
    pub(crate) fn accept(&self) -> Peer {
        let listener = self.listener.try_clone().expect("another descriptor");
        let (send, receive) = channel();
        std::thread::spawn(move || send.send(listener.accept()));
        let accepted = receive.recv_timeout(PATIENCE).expect("a worker connects").expect("it can be accepted");
        let stream = accepted.0;
        stream.set_read_timeout(Some(PATIENCE)).expect("a limit");
        stream.set_nodelay(true).expect("an option");
        Peer::on(stream)
    }

    /// Waits for a worker, which offers one function and asks for a job.
    pub(crate) fn accept_asking(&self) -> Peer {
        let mut peer = self.accept();
        peer.expect(Kind::CanDo);
        peer.expect(Kind::GrabJobUniq);
        peer
    }
}

/// A connection of a worker.
pub(crate) struct Peer<S = TcpStream> {
    pub(crate) stream: S,
    bytes: Vec<u8>,
    /// Grabs that were heard and not answered.
    grabs: usize,
}

impl<S: Read + Write> Peer<S> {
    pub(crate) fn on(stream: S) -> Peer<S> {
        Peer { stream, bytes: Vec::new(), grabs: 0 }
    }

    /// The next packet; `None` at the end.
    pub(crate) fn next(&mut self) -> Option<(Kind, Vec<Vec<u8>>)> {
        loop {
            if let Message::Frame { frame, length } = decode(&self.bytes, &Limits::default()).expect("packets") {
                let packet = frame.packet().expect("a packet");
                assert_eq!(packet.magic, Magic::Request);
                let found: (Kind, Vec<Vec<u8>>) = (packet.kind, packet.args().iter().map(|arg| arg.to_vec()).collect());
                drop(packet);
                self.grabs += usize::from(matches!(found.0, Kind::GrabJob | Kind::GrabJobUniq | Kind::GrabJobAll));
                self.bytes.drain(..length);
                return Some(found);
            }
            let mut buffer = [0; 65536];
            match self.stream.read(&mut buffer) {
                Ok(0) => return None,
                Ok(n) => self.bytes.extend_from_slice(&buffer[..n]),
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return None,
                Err(error) => panic!("nothing came: {error}"),
            }
        }
    }

    /// Grabs that were heard and not answered.
    pub(crate) fn grabs(&self) -> usize {
        self.grabs
    }

    /// The arguments of the next packet, whose kind is known.
    #[track_caller]
    pub(crate) fn expect(&mut self, kind: Kind) -> Vec<Vec<u8>> {
        let (found, args) = self.next().unwrap_or_else(|| panic!("closed instead of {kind}"));
        let shown: Vec<_> = args.iter().map(|arg| arg.escape_ascii().to_string()).collect();
        assert_eq!(found, kind, "{shown:?}");
        args
    }

    /// Nothing but a close comes.
    #[track_caller]
    pub(crate) fn expect_end(&mut self) {
        assert_eq!(self.next().map(|(kind, _)| kind), None);
    }

    pub(crate) fn say(&mut self, kind: Kind, args: &[&[u8]]) {
        let mut bytes = Vec::new();
        encode(&mut bytes, Magic::Response, kind, args);
        self.stream.write_all(&bytes).expect("the worker reads");
        if matches!(kind, Kind::NoJob | Kind::JobAssign | Kind::JobAssignUniq | Kind::JobAssignAll) {
            self.grabs = self.grabs.saturating_sub(1);
        }
    }

    /// Hands out a job.
    pub(crate) fn assign(&mut self, id: &str, function: &str, payload: &[u8]) {
        self.say(Kind::JobAssignUniq, &[id.as_bytes(), function.as_bytes(), b"key", payload]);
    }

    /// Has no job: the worker goes to sleep.
    pub(crate) fn send_to_sleep(&mut self) {
        self.say(Kind::NoJob, &[]);
        self.expect(Kind::PreSleep);
    }

    /// Has no job, however many are asked for.
    pub(crate) fn deny_all(&mut self) {
        self.so_far();
        while self.grabs > 0 {
            self.say(Kind::NoJob, &[]);
        }
        self.so_far();
    }

    /// Everything that the worker said until now. It answers in order, and asks for jobs at the end of its turn: so the second
    /// answer is behind all that came of what was sent before.
    pub(crate) fn so_far(&mut self) -> Vec<Kind> {
        let mut kinds = Vec::new();
        for _ in 0..2 {
            self.say(Kind::EchoReq, &[b"?"]);
            loop {
                match self.next().expect("an answer").0 {
                    Kind::EchoRes => break,
                    kind => kinds.push(kind),
                }
            }
        }
        kinds
    }
}

/// A worker on a thread of its own.
pub(crate) struct Beside {
    pub(crate) stopper: Stopper,
    ended: Receiver<Result<Served, Error>>,
}

impl Beside {
    pub(crate) fn run(builder: WorkerBuilder) -> Beside {
        Beside::run_by(builder, Worker::run)
    }

    pub(crate) fn run_by(
        builder: WorkerBuilder,
        run: impl FnOnce(Worker) -> Result<Served, Error> + Send + 'static,
    ) -> Beside {
        let worker = builder.build().expect("a worker");
        let (stopper, (send, ended)) = (worker.stopper(), channel());
        std::thread::spawn(move || send.send(run(worker)));
        Beside { stopper, ended }
    }

    /// Its end, which must come.
    #[track_caller]
    pub(crate) fn end(&self) -> Result<Served, Error> {
        self.ended.recv_timeout(PATIENCE).expect("the worker ends")
    }

    /// Stops it, with nothing in its hands.
    #[track_caller]
    pub(crate) fn stop(self) -> Served {
        self.stopper.stop_now();
        self.end().expect("a good end")
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        self.stopper.stop_now();
    }
}

/// A worker for `fake` that tries again soon, and takes nothing ahead.
pub(crate) fn worker_of(engine: &Engine, fake: &Fake) -> WorkerBuilder {
    Worker::builder(engine).server(fake.address()).backoff(Backoff::always(SOON)).ahead(0, SOON)
}
