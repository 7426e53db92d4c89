//! Servers made of a script: what they answer, and when, a test says.
#![allow(dead_code, reason = "each test file uses a part")]

use layshaft::gearman::packet::{self, Kind, Limits, Magic, Message, encode};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// Longer than anything here takes, short enough to learn of a hang.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A server; its script runs on a thread of its own.
pub(crate) struct Fake {
    pub(crate) address: String,
    thread: JoinHandle<()>,
}

impl Fake {
    pub(crate) fn start(script: impl FnOnce(&TcpListener) + Send + 'static) -> Fake {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("bound").to_string();
        Fake { address, thread: thread::spawn(move || script(&listener)) }
    }

    /// One connection is all there is.
    pub(crate) fn once(script: impl FnOnce(&mut Peer) + Send + 'static) -> Fake {
        Fake::start(|listener| script(&mut Peer::accept(listener)))
    }

    /// The script must come to its end.
    pub(crate) fn join(self) {
        if let Err(panic) = self.thread.join() {
            std::panic::resume_unwind(panic);
        }
    }
}

/// What a client has sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) kind: Kind,
    pub(crate) args: Vec<Vec<u8>>,
}

/// The server's end of a connection.
pub(crate) struct Peer {
    pub(crate) stream: TcpStream,
    bytes: Vec<u8>,
}

impl Peer {
    pub(crate) fn accept(listener: &TcpListener) -> Peer {
        let (stream, _) = listener.accept().expect("a client");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
        Peer { stream, bytes: Vec::new() }
    }

    /// The next packet but for the wish for exceptions, which is granted; `None` at the end.
    pub(crate) fn next(&mut self) -> Option<Asked> {
        loop {
            if let Some(asked) = self.wish()? {
                return Some(asked);
            }
        }
    }

    /// The next packet, unless it is the wish for exceptions, which is granted.
    fn wish(&mut self) -> Option<Option<Asked>> {
        let asked = self.any()?;
        if asked.kind != Kind::OptionReq {
            return Some(Some(asked));
        }
        assert_eq!(asked.args, [b"exceptions"]);
        self.send(Kind::OptionRes, &[b"exceptions"]);
        Some(None)
    }

    fn any(&mut self) -> Option<Asked> {
        loop {
            if let Ok(Message::Frame { frame, length }) = packet::decode(&self.bytes, &Limits::default()) {
                let packet = frame.packet().expect("a packet");
                assert_eq!(packet.magic, Magic::Request);
                let args = packet.args().iter().map(|arg| arg.to_vec()).collect();
                let asked = Asked { kind: packet.kind, args };
                drop(packet);
                self.bytes.drain(..length);
                return Some(asked);
            }
            if !self.more() {
                return None;
            }
        }
    }

    /// A line of text. Before the first one comes the wish for exceptions.
    pub(crate) fn line(&mut self) -> String {
        while self.bytes.first().is_none_or(|byte| *byte == 0) {
            match self.bytes.is_empty() {
                true => assert!(self.more(), "a line"),
                false => _ = self.wish().expect("a packet"),
            }
        }
        loop {
            if let Some(end) = self.bytes.iter().position(|byte| *byte == b'\n') {
                let line = self.bytes.drain(..=end).take(end).collect();
                return String::from_utf8(line).expect("text");
            }
            assert!(self.more(), "a line");
        }
    }

    fn more(&mut self) -> bool {
        let mut buffer = [0; 65536];
        let read = self.stream.read(&mut buffer).unwrap_or(0);
        self.bytes.extend_from_slice(&buffer[..read]);
        read > 0
    }

    /// The next packet is a submit of this kind: its arguments.
    pub(crate) fn submit(&mut self, kind: Kind) -> Vec<Vec<u8>> {
        let asked = self.next().expect("a submit");
        assert_eq!(asked.kind, kind);
        asked.args
    }

    pub(crate) fn send(&mut self, kind: Kind, args: &[&[u8]]) {
        self.write(&response(kind, args));
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("the client reads");
    }

    /// Answers each submit with a job, and ends it at once with its payload backwards. How many there were.
    pub(crate) fn serve(&mut self, mut seen: impl FnMut(&Asked)) -> usize {
        let mut jobs = 0;
        while let Some(asked) = self.next() {
            seen(&asked);
            jobs += 1;
            let name = format!("H:fake:{jobs}");
            let mut result = asked.args.last().cloned().unwrap_or_default();
            result.reverse();
            let mut bytes = response(Kind::JobCreated, &[name.as_bytes()]);
            bytes.extend(response(Kind::WorkComplete, &[name.as_bytes(), &result]));
            if self.stream.write_all(&bytes).is_err() {
                // The client has gone, and left a job.
                break;
            }
        }
        jobs
    }

    /// Waits until the client has closed the connection.
    pub(crate) fn wait_for_end(&mut self) {
        while self.next().is_some() {}
    }

    /// Breaks the connection: what was not read makes the system reset it.
    pub(crate) fn cut(self) {
        let _ = self.stream.shutdown(Shutdown::Both);
    }
}

pub(crate) fn response(kind: Kind, args: &[&[u8]]) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode(&mut bytes, Magic::Response, kind, args);
    bytes
}
