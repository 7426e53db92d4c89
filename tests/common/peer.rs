//! A raw peer of a Gearman server: sends packets and lines, and says what comes back.

// Each test crate uses its own part of this module.
#![allow(dead_code)]

use layshaft::Engine;
use layshaft::gearman::packet::{self, Kind, Limits, Magic, Message};
use layshaft::gearman::{Server, ServerBuilder};
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// Nothing takes that long.
const PATIENCE: Duration = Duration::from_secs(30);

/// A server on a port of its own.
pub(crate) fn server() -> Server {
    server_with(|builder| builder)
}

pub(crate) fn server_with(set: impl FnOnce(ServerBuilder) -> ServerBuilder) -> Server {
    let engine = Engine::builder().workers(2).start().unwrap();
    set(Server::builder(&engine).listen("127.0.0.1:0").host("test")).start().unwrap()
}

pub(crate) struct Peer {
    stream: Stream,
    buffer: Vec<u8>,
}

enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
    /// TLS over a socket, say.
    Other(Box<dyn Both>),
}

/// What can be read and written.
pub(crate) trait Both: Read + Write + Send {}

impl<T: Read + Write + Send> Both for T {}

/// A packet that came.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Got {
    pub(crate) kind: Kind,
    pub(crate) args: Vec<Vec<u8>>,
}

impl std::fmt::Debug for Got {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.kind)?;
        self.args.iter().try_for_each(|arg| write!(f, " \"{}\"", arg[..arg.len().min(100)].escape_ascii()))
    }
}

impl Got {
    /// An argument as text.
    pub(crate) fn text(&self, i: usize) -> &str {
        std::str::from_utf8(&self.args[i]).unwrap()
    }
}

impl Peer {
    pub(crate) fn new(server: &Server) -> Peer {
        Peer::at(server.addresses()[0])
    }

    pub(crate) fn at(address: SocketAddr) -> Peer {
        Peer::over(TcpStream::connect(address).unwrap())
    }

    pub(crate) fn over(stream: TcpStream) -> Peer {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Peer { stream: Stream::Tcp(stream), buffer: Vec::new() }
    }

    pub(crate) fn over_unix(stream: UnixStream) -> Peer {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Peer { stream: Stream::Unix(stream), buffer: Vec::new() }
    }

    pub(crate) fn over_other(stream: impl Both + 'static) -> Peer {
        Peer { stream: Stream::Other(Box::new(stream)), buffer: Vec::new() }
    }

    /// The same connection once more, for another thread to write.
    pub(crate) fn duplicate(&self) -> Peer {
        let stream = match &self.stream {
            Stream::Tcp(stream) => Stream::Tcp(stream.try_clone().unwrap()),
            Stream::Unix(stream) => Stream::Unix(stream.try_clone().unwrap()),
            Stream::Other(_) => panic!("there is only one of it"),
        };
        Peer { stream, buffer: Vec::new() }
    }

    /// A worker for these functions.
    pub(crate) fn worker(server: &Server, functions: &[&str]) -> Peer {
        let mut peer = Peer::new(server);
        for function in functions {
            peer.send(Kind::CanDo, &[function.as_bytes()]);
        }
        peer
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) {
        match &mut self.stream {
            Stream::Tcp(stream) => stream.write_all(bytes),
            Stream::Unix(stream) => stream.write_all(bytes),
            Stream::Other(stream) => stream.write_all(bytes),
        }
        .unwrap();
    }

    pub(crate) fn send(&mut self, kind: Kind, args: &[&[u8]]) {
        let mut bytes = Vec::new();
        packet::encode(&mut bytes, Magic::Request, kind, args);
        self.write(&bytes);
    }

    /// Sends a body as it is.
    pub(crate) fn send_raw(&mut self, code: u32, body: &[u8]) {
        let mut bytes = b"\0REQ".to_vec();
        bytes.extend_from_slice(&code.to_be_bytes());
        bytes.extend_from_slice(&(body.len() as u32).to_be_bytes());
        bytes.extend_from_slice(body);
        self.write(&bytes);
    }

    fn more(&mut self) -> usize {
        let mut part = [0; 1 << 16];
        let read = match &mut self.stream {
            Stream::Tcp(stream) => stream.read(&mut part),
            Stream::Unix(stream) => stream.read(&mut part),
            Stream::Other(stream) => stream.read(&mut part),
        };
        let read = match read {
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => 0,
            read => read.expect("nothing came in time"),
        };
        self.buffer.extend_from_slice(&part[..read]);
        read
    }

    /// The next packet, or `None` at the end.
    pub(crate) fn next(&mut self) -> Option<Got> {
        let limits = Limits { body: 1 << 30, ..Limits::default() };
        loop {
            match packet::decode(&self.buffer, &limits).unwrap() {
                Message::Incomplete { .. } => {
                    if self.more() == 0 {
                        assert!(self.buffer.is_empty(), "cut off: {}", self.buffer.escape_ascii());
                        return None;
                    }
                }
                Message::Line { line, .. } => panic!("a line: {}", line.escape_ascii()),
                Message::Frame { frame, length } => {
                    assert_eq!(frame.magic, Magic::Response);
                    let packet = frame.packet().unwrap();
                    let got = Got { kind: packet.kind, args: packet.args().iter().map(|arg| arg.to_vec()).collect() };
                    drop(packet);
                    self.buffer.drain(..length);
                    return Some(got);
                }
            }
        }
    }

    #[track_caller]
    pub(crate) fn expect(&mut self, kind: Kind) -> Got {
        let got = self.next();
        assert_eq!(got.as_ref().map(|got| got.kind), Some(kind), "{got:?}");
        got.unwrap()
    }

    #[track_caller]
    pub(crate) fn expect_packet(&mut self, kind: Kind, args: &[&[u8]]) {
        let got = self.expect(kind);
        let args: Vec<Vec<u8>> = args.iter().map(|arg| arg.to_vec()).collect();
        assert_eq!(got, Got { kind, args });
    }

    /// An ERROR with this code: its text.
    #[track_caller]
    pub(crate) fn expect_error(&mut self, code: &str) -> String {
        let got = self.expect(Kind::Error);
        assert_eq!(got.text(0), code, "{got:?}");
        got.text(1).to_owned()
    }

    /// Everything that was sent has been dealt with, and nothing else has come.
    #[track_caller]
    pub(crate) fn expect_nothing(&mut self) {
        self.send(Kind::EchoReq, &[b"nothing?"]);
        self.expect_packet(Kind::EchoRes, &[b"nothing?"]);
    }

    /// What this and earlier packets asked for is done.
    pub(crate) fn sync(&mut self) -> Vec<Got> {
        self.send(Kind::EchoReq, &[b"sync"]);
        let mut before = Vec::new();
        loop {
            let got = self.next().expect("the connection is open");
            if got.kind == Kind::EchoRes {
                return before;
            }
            before.push(got);
        }
    }

    /// What this and earlier packets asked for is done. What has come stays to be read.
    pub(crate) fn settle(&mut self) {
        let mut before = Vec::new();
        for got in self.sync() {
            let args: Vec<&[u8]> = got.args.iter().map(Vec::as_slice).collect();
            packet::encode(&mut before, Magic::Response, got.kind, &args);
        }
        self.buffer.splice(0..0, before);
    }

    #[track_caller]
    pub(crate) fn expect_end(&mut self) {
        let got = self.next();
        assert_eq!(got, None);
    }

    /// Sends nothing more.
    pub(crate) fn half_close(&mut self) {
        match &self.stream {
            Stream::Tcp(stream) => stream.shutdown(Shutdown::Write),
            Stream::Unix(stream) => stream.shutdown(Shutdown::Write),
            Stream::Other(_) => panic!("it has its own way"),
        }
        .unwrap();
    }

    /// Goes without a word, so that the server knows that it does not listen, either.
    pub(crate) fn reset(self) {
        let Stream::Tcp(stream) = &self.stream else { panic!("only TCP has that") };
        let linger = libc::linger { l_onoff: 1, l_linger: 0 };
        let size = size_of::<libc::linger>() as libc::socklen_t;
        let value = (&raw const linger).cast();
        // SAFETY: the descriptor is open, and `value` points to as many bytes as are said.
        let done = unsafe { libc::setsockopt(stream.as_raw_fd(), libc::SOL_SOCKET, libc::SO_LINGER, value, size) };
        assert_eq!(done, 0);
    }

    pub(crate) fn local_address(&self) -> String {
        match &self.stream {
            Stream::Tcp(stream) => stream.local_addr().unwrap().to_string(),
            Stream::Unix(_) | Stream::Other(_) => "unix".to_owned(),
        }
    }

    // As a client.

    /// Submits: the handle.
    #[track_caller]
    pub(crate) fn submit(&mut self, kind: Kind, function: &str, unique: &[u8], payload: &[u8]) -> Vec<u8> {
        self.send(kind, &[function.as_bytes(), unique, payload]);
        self.expect(Kind::JobCreated).args.remove(0)
    }

    // As a worker.

    /// Grabs a job: handle and payload.
    #[track_caller]
    pub(crate) fn grab(&mut self) -> (Vec<u8>, Vec<u8>) {
        self.send(Kind::GrabJob, &[]);
        let mut got = self.expect(Kind::JobAssign);
        (got.args.remove(0), got.args.remove(1))
    }

    #[track_caller]
    pub(crate) fn grab_nothing(&mut self) {
        self.send(Kind::GrabJob, &[]);
        self.expect(Kind::NoJob);
    }

    pub(crate) fn complete(&mut self, handle: &[u8], result: &[u8]) {
        self.send(Kind::WorkComplete, &[handle, result]);
    }

    // As an administrator.

    /// A text command whose answer is one line.
    pub(crate) fn ask(&mut self, line: &str) -> String {
        self.write(format!("{line}\n").as_bytes());
        self.line()
    }

    /// A text command whose answer ends with a dot: its rows.
    pub(crate) fn rows(&mut self, line: &str) -> Vec<String> {
        self.write(format!("{line}\n").as_bytes());
        self.table()
    }

    /// The rows of a table that was asked for.
    pub(crate) fn table(&mut self) -> Vec<String> {
        let mut rows = Vec::new();
        loop {
            match self.line().as_str() {
                "." => return rows,
                row => rows.push(row.to_owned()),
            }
        }
    }

    /// A line, without its end.
    pub(crate) fn line(&mut self) -> String {
        self.raw_line().trim_end_matches(['\r', '\n']).to_owned()
    }

    /// A line, with its end.
    pub(crate) fn raw_line(&mut self) -> String {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                return String::from_utf8_lossy(&line).into_owned();
            }
            assert!(self.more() > 0, "the end, after {}", self.buffer.escape_ascii());
        }
    }

    /// A function's line in `status`: total, running, workers.
    pub(crate) fn status(&mut self, function: &str) -> Option<[usize; 3]> {
        let rows = self.rows("status");
        let row = rows.iter().find_map(|row| row.strip_prefix(function)?.strip_prefix('\t'))?;
        let numbers: Vec<usize> = row.split('\t').map(|field| field.parse().unwrap()).collect();
        Some(numbers.try_into().unwrap())
    }

    /// Asks until a function's line is this: other connections are dealt with in their own time.
    #[track_caller]
    pub(crate) fn wait_for_status(&mut self, function: &str, expected: [usize; 3]) {
        let start = std::time::Instant::now();
        loop {
            let found = self.status(function);
            if found == Some(expected) {
                return;
            }
            assert!(start.elapsed() < PATIENCE, "{function}: {found:?} and not {expected:?}");
            std::thread::yield_now();
        }
    }
}
