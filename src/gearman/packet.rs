//! The binary protocol, without I/O: bytes to packets, packets to bytes.
//!
//! A packet is a header of 12 bytes (magic `\0REQ` or `\0RES`, a type and a length, both 32 bits, most significant byte
//! first) and a body of that length: arguments with a NUL between them, of which the last is what is left, and may hold
//! NULs itself. One port also takes text lines: the first byte of a message decides, NUL for a packet.
//!
//! [`decode`] is total, and allocates nothing: whatever the bytes, it says that more are needed, what a message is and how
//! long, or why there can be none.
//!
//! ```
//! use layshaft::gearman::packet::{self, Kind, Limits, Magic, Message};
//!
//! let mut bytes = Vec::new();
//! packet::encode(&mut bytes, Magic::Request, Kind::SubmitJob, &[b"reverse", b"", b"a\0b"]);
//! let Message::Frame { frame, length } = packet::decode(&bytes, &Limits::default())? else { unreachable!() };
//! assert_eq!(length, bytes.len());
//! let packet = frame.packet()?;
//! assert_eq!((packet.kind, packet.arg(0), packet.arg(2)), (Kind::SubmitJob, &b"reverse"[..], &b"a\0b"[..]));
//! # Ok::<(), packet::PacketError>(())
//! ```
//!
//! Protocol text: the file `PROTOCOL` of gearmand.

use arrayvec::ArrayVec;
use std::error::Error;
use std::fmt;

/// Bytes of a header.
pub const HEADER: usize = 12;
/// No type has more arguments.
const MOST_ARGS: usize = 8;

/// Who sent a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Magic {
    /// `\0REQ`: a client or worker, to the server.
    Request,
    /// `\0RES`: the server.
    Response,
}

impl Magic {
    const fn bytes(self) -> [u8; 4] {
        match self {
            Magic::Request => *b"\0REQ",
            Magic::Response => *b"\0RES",
        }
    }
}

/// Declares the types: name, number, name on the wire, least and most arguments.
macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $wire:literal, $least:literal, $most:literal;)*) => {
        /// The type of a packet.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Kind {
            $($(#[$doc])* $name = $code,)*
        }

        impl Kind {
            /// All of them.
            pub const ALL: &[Kind] = &[$(Kind::$name,)*];

            /// The type with this number.
            pub fn from_code(code: u32) -> Option<Kind> {
                match code {
                    $($code => Some(Kind::$name),)*
                    _ => None,
                }
            }

            /// The name in the protocol text.
            pub fn name(self) -> &'static str {
                match self {
                    $(Kind::$name => $wire,)*
                }
            }

            /// The least and the most arguments that are accepted.
            pub fn arity(self) -> (usize, usize) {
                match self {
                    $(Kind::$name => ($least, $most),)*
                }
            }
        }
    };
}

kinds! {
    /// Worker: function.
    CanDo = 1, "CAN_DO", 1, 1;
    /// Worker: function.
    CantDo = 2, "CANT_DO", 1, 1;
    /// Worker.
    ResetAbilities = 3, "RESET_ABILITIES", 0, 0;
    /// Worker.
    PreSleep = 4, "PRE_SLEEP", 0, 0;
    /// Server: there may be a job.
    Noop = 6, "NOOP", 0, 0;
    /// Client: function, unique key, payload.
    SubmitJob = 7, "SUBMIT_JOB", 3, 3;
    /// Server: handle.
    JobCreated = 8, "JOB_CREATED", 1, 1;
    /// Worker.
    GrabJob = 9, "GRAB_JOB", 0, 0;
    /// Server.
    NoJob = 10, "NO_JOB", 0, 0;
    /// Server: handle, function, payload.
    JobAssign = 11, "JOB_ASSIGN", 3, 3;
    /// Worker, passed on: handle, numerator, denominator. Some workers forget the denominator.
    WorkStatus = 12, "WORK_STATUS", 2, 3;
    /// Worker, passed on: handle, result. An empty result may come without its NUL.
    WorkComplete = 13, "WORK_COMPLETE", 1, 2;
    /// Worker, passed on: handle.
    WorkFail = 14, "WORK_FAIL", 1, 1;
    /// Client: handle.
    GetStatus = 15, "GET_STATUS", 1, 1;
    /// Bytes.
    EchoReq = 16, "ECHO_REQ", 1, 1;
    /// Server: the bytes.
    EchoRes = 17, "ECHO_RES", 1, 1;
    /// Client: function, unique key, payload.
    SubmitJobBg = 18, "SUBMIT_JOB_BG", 3, 3;
    /// Server: code, text.
    Error = 19, "ERROR", 1, 2;
    /// Server: handle, known, running, numerator, denominator.
    StatusRes = 20, "STATUS_RES", 5, 5;
    /// Client: function, unique key, payload.
    SubmitJobHigh = 21, "SUBMIT_JOB_HIGH", 3, 3;
    /// Worker: its name.
    SetClientId = 22, "SET_CLIENT_ID", 1, 1;
    /// Worker: function, timeout. Without one there is none.
    CanDoTimeout = 23, "CAN_DO_TIMEOUT", 1, 2;
    /// Worker.
    AllYours = 24, "ALL_YOURS", 0, 0;
    /// Worker, passed on: handle, data.
    WorkException = 25, "WORK_EXCEPTION", 1, 2;
    /// Option.
    OptionReq = 26, "OPTION_REQ", 1, 1;
    /// Server: option.
    OptionRes = 27, "OPTION_RES", 1, 1;
    /// Worker, passed on: handle, data.
    WorkData = 28, "WORK_DATA", 1, 2;
    /// Worker, passed on: handle, text.
    WorkWarning = 29, "WORK_WARNING", 1, 2;
    /// Worker.
    GrabJobUniq = 30, "GRAB_JOB_UNIQ", 0, 0;
    /// Server: handle, function, unique key, payload.
    JobAssignUniq = 31, "JOB_ASSIGN_UNIQ", 4, 4;
    /// Client: function, unique key, payload.
    SubmitJobHighBg = 32, "SUBMIT_JOB_HIGH_BG", 3, 3;
    /// Client: function, unique key, payload.
    SubmitJobLow = 33, "SUBMIT_JOB_LOW", 3, 3;
    /// Client: function, unique key, payload.
    SubmitJobLowBg = 34, "SUBMIT_JOB_LOW_BG", 3, 3;
    /// Client: function, unique key, minute, hour, day, month, weekday, payload.
    SubmitJobSched = 35, "SUBMIT_JOB_SCHED", 8, 8;
    /// Client: function, unique key, seconds since 1970, payload.
    SubmitJobEpoch = 36, "SUBMIT_JOB_EPOCH", 4, 4;
    /// Client: function, unique key, reducer, payload. Real clients send an empty argument before the payload.
    SubmitReduceJob = 37, "SUBMIT_REDUCE_JOB", 4, 5;
    /// Client: as above.
    SubmitReduceJobBackground = 38, "SUBMIT_REDUCE_JOB_BACKGROUND", 4, 5;
    /// Worker.
    GrabJobAll = 39, "GRAB_JOB_ALL", 0, 0;
    /// Server: handle, function, unique key, reducer, payload.
    JobAssignAll = 40, "JOB_ASSIGN_ALL", 5, 5;
    /// Client: unique key.
    GetStatusUnique = 41, "GET_STATUS_UNIQUE", 1, 1;
    /// Server: unique key, known, running, numerator, denominator, clients that wait.
    StatusResUnique = 42, "STATUS_RES_UNIQUE", 6, 6;
}

impl Kind {
    /// The number on the wire.
    pub fn code(self) -> u32 {
        self as u32
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How large messages may be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a packet's body. Default: 64 MiB and 64 KiB, so that payloads of 64 MiB pass.
    pub body: usize,
    /// Bytes of a text line. Default: 8 KiB.
    pub line: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { body: (64 << 20) + (64 << 10), line: 8 << 10 }
    }
}

/// What a stream of bytes begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Message<'a> {
    /// The beginning of a message of `needed` bytes, or of more if that is not known yet.
    Incomplete {
        /// Always more than there are.
        needed: usize,
    },
    /// A packet's frame.
    Frame {
        /// Its parts.
        frame: Frame<'a>,
        /// Its bytes in the stream.
        length: usize,
    },
    /// A text line, without its end.
    Line {
        /// Its text.
        line: &'a [u8],
        /// Its bytes in the stream.
        length: usize,
    },
}

/// A packet whose type has not been looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame<'a> {
    /// Who sent it.
    pub magic: Magic,
    /// Its type.
    pub code: u32,
    /// Its body.
    pub body: &'a [u8],
}

/// A packet, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet<'a> {
    /// Who sent it.
    pub magic: Magic,
    /// What it is.
    pub kind: Kind,
    args: ArrayVec<&'a [u8], MOST_ARGS>,
}

/// Why bytes are no message.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum PacketError {
    /// It begins with NUL, but neither with `\0REQ` nor with `\0RES`. What follows cannot be told apart: the stream is lost.
    BadMagic([u8; 4]),
    /// Its body is declared to be larger than is accepted. The stream is lost, unless all of that is read and dropped.
    TooLong {
        /// Its type, which may not exist.
        code: u32,
        /// Declared bytes.
        length: usize,
        /// Accepted bytes.
        limit: usize,
    },
    /// A text line is longer than is accepted: the stream is lost.
    LineTooLong {
        /// Accepted bytes.
        limit: usize,
    },
    /// No type has this number.
    UnknownType(u32),
    /// It has too few arguments.
    Arity {
        /// Its type.
        kind: Kind,
        /// How many it has.
        found: usize,
    },
}

impl fmt::Display for PacketError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PacketError::BadMagic(bytes) => {
                write!(f, "a packet begins with \"{}\", not with \"\\0REQ\" or \"\\0RES\"", bytes.escape_ascii())
            }
            PacketError::TooLong { code, length, limit } => {
                write!(f, "a packet of type {code} declares a body of {length} bytes, {limit} are accepted")
            }
            PacketError::LineTooLong { limit } => write!(f, "a line of text does not end within {limit} bytes"),
            PacketError::UnknownType(code) => write!(f, "there is no packet type {code}"),
            PacketError::Arity { kind, found } => {
                write!(f, "{kind} needs {} arguments, with a NUL between them, and has {found}", kind.arity().0)
            }
        }
    }
}

impl Error for PacketError {}

/// Looks at the beginning of a stream.
///
/// # Errors
/// [`PacketError::BadMagic`], [`PacketError::TooLong`] and [`PacketError::LineTooLong`]: there is no telling where the next
/// message begins.
pub fn decode<'a>(bytes: &'a [u8], limits: &Limits) -> Result<Message<'a>, PacketError> {
    match bytes.first() {
        None => return Ok(Message::Incomplete { needed: 1 }),
        Some(0) => {}
        Some(_) => return decode_line(bytes, limits),
    }
    let Some(magic) = bytes.first_chunk() else { return Ok(Message::Incomplete { needed: 4 }) };
    let Some(magic) = [Magic::Request, Magic::Response].into_iter().find(|known| known.bytes() == *magic) else {
        return Err(PacketError::BadMagic(*magic));
    };
    let Some((header, rest)) = bytes.split_at_checked(HEADER) else {
        return Ok(Message::Incomplete { needed: HEADER });
    };
    let word = |at: usize| u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    let (code, declared) = (word(4), word(8) as usize);
    if declared > limits.body {
        return Err(PacketError::TooLong { code, length: declared, limit: limits.body });
    }
    let length = HEADER + declared;
    match rest.get(..declared) {
        Some(body) => Ok(Message::Frame { frame: Frame { magic, code, body }, length }),
        None => Ok(Message::Incomplete { needed: length }),
    }
}

fn decode_line<'a>(bytes: &'a [u8], limits: &Limits) -> Result<Message<'a>, PacketError> {
    let seen = &bytes[..bytes.len().min(limits.line + 1)];
    match memchr::memchr(b'\n', seen) {
        Some(end) => {
            let line = bytes[..end].strip_suffix(b"\r").unwrap_or(&bytes[..end]);
            Ok(Message::Line { line, length: end + 1 })
        }
        None if seen.len() > limits.line => Err(PacketError::LineTooLong { limit: limits.line }),
        None => Ok(Message::Incomplete { needed: bytes.len() + 1 }),
    }
}

impl<'a> Frame<'a> {
    /// The packet. Bodies of types without arguments are ignored.
    ///
    /// # Errors
    /// [`PacketError::UnknownType`] and [`PacketError::Arity`]: the next message begins behind this frame.
    pub fn packet(&self) -> Result<Packet<'a>, PacketError> {
        let kind = Kind::from_code(self.code).ok_or(PacketError::UnknownType(self.code))?;
        let (least, most) = kind.arity();
        let mut args = ArrayVec::new();
        let mut rest = self.body;
        if most > 0 {
            while args.len() + 1 < most {
                let Some(end) = memchr::memchr(0, rest) else { break };
                args.push(&rest[..end]);
                rest = &rest[end + 1..];
            }
            args.push(rest);
        }
        if args.len() < least {
            return Err(PacketError::Arity { kind, found: args.len() });
        }
        Ok(Packet { magic: self.magic, kind, args })
    }
}

impl<'a> Packet<'a> {
    /// An argument, empty if it was left out.
    pub fn arg(&self, i: usize) -> &'a [u8] {
        self.args.get(i).copied().unwrap_or_default()
    }

    /// All arguments.
    pub fn args(&self) -> &[&'a [u8]] {
        &self.args
    }
}

/// Appends a packet.
///
/// # Panics
/// When the body does not fit in 4 GiB, or an argument but the last holds a NUL: the peer would read something else.
pub fn encode(out: &mut Vec<u8>, magic: Magic, kind: Kind, args: &[&[u8]]) {
    let (last, others) = args.split_last().map_or((&[][..], &[][..]), |(last, others)| (*last, others));
    let length = others.iter().map(|arg| arg.len() + 1).sum::<usize>() + last.len();
    let declared = u32::try_from(length).expect("a body of over 4 GiB");
    out.reserve(HEADER + length);
    out.extend_from_slice(&magic.bytes());
    out.extend_from_slice(&kind.code().to_be_bytes());
    out.extend_from_slice(&declared.to_be_bytes());
    for arg in others {
        assert!(memchr::memchr(0, arg).is_none(), "{kind}: an argument but the last holds a NUL");
        out.extend_from_slice(arg);
        out.push(0);
    }
    out.extend_from_slice(last);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(bytes: &[u8]) -> Frame<'_> {
        match decode(bytes, &Limits::default()) {
            Ok(Message::Frame { frame, .. }) => frame,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn numbers_are_those_of_the_protocol() {
        let codes: Vec<u32> = Kind::ALL.iter().map(|kind| kind.code()).collect();
        assert_eq!(codes, (1..=42).filter(|code| *code != 5).collect::<Vec<u32>>());
        assert!(Kind::ALL.iter().all(|kind| Kind::from_code(kind.code()) == Some(*kind)));
        assert!([0, 5, 43, 99, 1 << 31, u32::MAX].into_iter().all(|code| Kind::from_code(code).is_none()));
    }

    #[test]
    fn the_last_argument_is_what_is_left() {
        let packet = |kind: Kind, body: &[u8]| {
            let (kind, frame) = (kind, Frame { magic: Magic::Request, code: kind.code(), body });
            frame.packet().map(|p| p.args().iter().map(|arg| arg.to_vec()).collect::<Vec<_>>()).map_err(|e| (kind, e))
        };
        assert_eq!(packet(Kind::SubmitJob, b"f\0\0a\0b\0").unwrap(), [&b"f"[..], b"", b"a\0b\0"]);
        assert_eq!(packet(Kind::SubmitJob, b"f\0u\0").unwrap(), [&b"f"[..], b"u", b""]);
        assert_eq!(packet(Kind::WorkComplete, b"h").unwrap(), [b"h"]);
        assert_eq!(packet(Kind::WorkComplete, b"h\0").unwrap(), [&b"h"[..], b""]);
        assert_eq!(packet(Kind::SubmitReduceJob, b"f\0u\0r\0p").unwrap(), [b"f", b"u", b"r", b"p"]);
        assert_eq!(packet(Kind::SubmitReduceJob, b"f\0u\0r\0\0p\0q").unwrap(), [&b"f"[..], b"u", b"r", b"", b"p\0q"]);
        assert_eq!(packet(Kind::PreSleep, b"ignored").unwrap(), [[0; 0]; 0]);
        assert_eq!(packet(Kind::EchoReq, b"").unwrap(), [b""]);
        let short = packet(Kind::SubmitJob, b"f\0u").unwrap_err().1;
        assert_eq!(short, PacketError::Arity { kind: Kind::SubmitJob, found: 2 });
        assert_eq!(short.to_string(), "SUBMIT_JOB needs 3 arguments, with a NUL between them, and has 2");
    }

    #[test]
    fn packets_come_back_as_they_were() {
        for kind in Kind::ALL {
            let (least, most) = kind.arity();
            for n in least..=most {
                let args: Vec<&[u8]> = (0..n).map(|i| if i + 1 == n { &b"la\0st"[..] } else { b"arg" }).collect();
                let mut bytes = Vec::new();
                encode(&mut bytes, Magic::Response, *kind, &args);
                // With fewer arguments than there can be the NUL of the last one would make two of it.
                if n == most {
                    assert_eq!(frame(&bytes).packet().unwrap().args(), args, "{kind}");
                }
                assert!(frame(&bytes).magic == Magic::Response && frame(&bytes).code == kind.code());
            }
        }
    }

    #[test]
    fn what_is_no_message() {
        let limits = Limits { body: 10, line: 8 };
        let error = |bytes: &[u8]| decode(bytes, &limits).unwrap_err();
        assert_eq!(error(b"\0REX"), PacketError::BadMagic(*b"\0REX"));
        assert_eq!(
            error(b"\0REQ\0\0\0\x07\xff\xff\xff\xff"),
            PacketError::TooLong { code: 7, length: 0xffff_ffff, limit: 10 }
        );
        assert_eq!(error(b"123456789"), PacketError::LineTooLong { limit: 8 });
        assert_eq!(error(b"123456789\n"), PacketError::LineTooLong { limit: 8 });
        let unknown = frame(b"\0REQ\0\0\0\x63\0\0\0\x01x").packet().unwrap_err();
        assert_eq!(unknown.to_string(), "there is no packet type 99");
        assert_eq!(error(b"\0GET").to_string(), r#"a packet begins with "\x00GET", not with "\0REQ" or "\0RES""#);
    }

    #[test]
    fn what_is_not_complete() {
        let limits = Limits::default();
        let needed = |bytes: &[u8]| match decode(bytes, &limits) {
            Ok(Message::Incomplete { needed }) => needed,
            other => panic!("{other:?}"),
        };
        assert_eq!(needed(b""), 1);
        assert_eq!(needed(b"\0RX"), 4);
        assert_eq!(needed(b"\0REQ"), HEADER);
        assert_eq!(needed(b"\0REQ\0\0\0\x07\0\0\x01\0abc"), HEADER + 256);
        assert_eq!(needed(b"stat"), 5);
        let line = Message::Line { line: b"status", length: 8 };
        assert_eq!(decode(b"status\r\nversion\n", &limits).unwrap(), line);
    }

    #[test]
    #[should_panic(expected = "holds a NUL")]
    fn a_nul_in_the_middle_is_refused() {
        encode(&mut Vec::new(), Magic::Request, Kind::SubmitJob, &[b"a\0b", b"", b""]);
    }
}
