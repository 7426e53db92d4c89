//! What can be wrong with bytes, and how a call with bytes fails.

use crate::error::{SubmitError, WaitError};
use std::error::Error;
use std::fmt;

/// Bytes of the input that an excerpt shows before the position, and from it on.
const AROUND: usize = 24;

/// What kind of thing is wrong with bytes or a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Mistake {
    /// There is nothing but white space.
    Empty,
    /// The bytes are not UTF-8 where the format is text.
    NotUtf8,
    /// The format's rules are broken.
    Malformed,
    /// The input ends before the value does.
    Truncated,
    /// Something follows the value.
    Trailing,
    /// Too many values lie inside each other.
    TooDeep,
    /// A well-formed value, but not one of the wanted type.
    WrongType,
    /// A value that cannot be written.
    Unwritable,
}

/// A place in an input. All that is counted in text: in bytes that are not, only `byte` means something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Position {
    /// Bytes before it.
    pub byte: usize,
    /// The line, from 1.
    pub line: usize,
    /// The character in its line, from 1.
    pub column: usize,
}

impl Position {
    fn of(bytes: &[u8], byte: usize) -> Position {
        let byte = byte.min(bytes.len());
        let before = &bytes[..byte];
        let line_start = before.iter().rposition(|&b| b == b'\n').map_or(0, |at| at + 1);
        Position {
            byte,
            line: 1 + before.iter().filter(|&&b| b == b'\n').count(),
            column: 1 + before[line_start..].iter().filter(|&&b| !is_inside_character(b)).count(),
        }
    }
}

/// Whether a byte continues a UTF-8 character.
fn is_inside_character(byte: u8) -> bool {
    byte & 0b1100_0000 == 0b1000_0000
}

/// Why bytes were not decoded, or a value not encoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CodecError(Box<Told>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Told {
    mistake: Mistake,
    message: String,
    likely: &'static str,
    place: Option<(Position, String)>,
}

impl CodecError {
    /// What is wrong, said for people, and what has probably led to it.
    pub fn new(mistake: Mistake, message: impl Into<String>, likely: &'static str) -> CodecError {
        CodecError(Box::new(Told { mistake, message: message.into(), likely, place: None }))
    }

    /// Adds where in the input it was noticed, with an excerpt.
    #[must_use]
    pub fn at(mut self, input: &[u8], byte: usize) -> CodecError {
        let position = Position::of(input, byte);
        self.0.place = Some((position, excerpt(input, position.byte)));
        self
    }

    /// What kind of thing is wrong.
    pub fn mistake(&self) -> Mistake {
        self.0.mistake
    }

    /// What is wrong, without the place.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// What has probably led to it.
    pub fn likely_cause(&self) -> &str {
        self.0.likely
    }

    /// Where it was noticed, when that is known: at the first byte that does not fit, or the last one of a value that
    /// does not.
    pub fn position(&self) -> Option<Position> {
        self.0.place.as_ref().map(|place| place.0)
    }

    /// The input around the position, up to 48 bytes, control characters escaped.
    pub fn excerpt(&self) -> Option<&str> {
        self.0.place.as_ref().map(|place| place.1.as_str())
    }
}

/// The bytes around a place as text, with an ellipsis where something is left out.
fn excerpt(input: &[u8], byte: usize) -> String {
    let mut start = byte.saturating_sub(AROUND);
    let mut end = (byte + AROUND).min(input.len());
    // Characters are not cut: at most three bytes, for what is not UTF-8 could go on like this.
    let starts = |at: &usize| input.get(*at).is_none_or(|&b| !is_inside_character(b));
    start = (start..(start + 4).min(end)).find(|at| *at == 0 || starts(at)).unwrap_or(start);
    end = (end.saturating_sub(3).max(start)..=end).rev().find(starts).unwrap_or(end);
    let mut text = String::new();
    text.push_str(if start > 0 { "…" } else { "" });
    for character in String::from_utf8_lossy(&input[start..end]).chars() {
        if character.is_control() {
            text.extend(character.escape_default());
        } else {
            text.push(character);
        }
    }
    text.push_str(if end < input.len() { "…" } else { "" });
    text
}

impl fmt::Display for CodecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)?;
        if let Some((position, excerpt)) = &self.0.place {
            write!(f, " at line {} column {}, near `{excerpt}`", position.line, position.column)?;
        }
        write!(f, "; {}", self.0.likely)
    }
}

impl Error for CodecError {}

/// Which step of a call with bytes failed.
#[non_exhaustive]
pub enum Failure<R> {
    /// The bytes are not an argument of the function.
    Argument(CodecError),
    /// The job was not accepted.
    Submit(SubmitError<()>),
    /// The job was accepted and gave no result.
    Wait(WaitError<R>),
    /// The job ran, but its result cannot be written.
    Result(CodecError),
}

/// Why a call with bytes gave no bytes.
pub struct BytesError<R> {
    function: String,
    failure: Failure<R>,
}

impl<R> BytesError<R> {
    pub(super) fn new(function: &str, failure: Failure<R>) -> Self {
        BytesError { function: function.to_owned(), failure }
    }

    /// The name of the function that was called.
    pub fn function(&self) -> &str {
        &self.function
    }

    /// Which step failed.
    pub fn failure(&self) -> &Failure<R> {
        &self.failure
    }

    /// Which step failed, with what that hands back.
    pub fn into_failure(self) -> Failure<R> {
        self.failure
    }
}

impl<R> fmt::Debug for Failure<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Argument(e) => f.debug_tuple("Argument").field(e).finish(),
            Failure::Submit(e) => f.debug_tuple("Submit").field(e).finish(),
            Failure::Wait(e) => f.debug_tuple("Wait").field(e).finish(),
            Failure::Result(e) => f.debug_tuple("Result").field(e).finish(),
        }
    }
}

impl<R> fmt::Debug for BytesError<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BytesError").field("function", &self.function).field("failure", &self.failure).finish()
    }
}

impl<R> fmt::Display for BytesError<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = &self.function;
        match &self.failure {
            Failure::Argument(e) => write!(f, "function {name:?}: its argument cannot be read: {e}"),
            Failure::Submit(e) => write!(f, "function {name:?}: {e}"),
            Failure::Wait(WaitError::Job(e)) => write!(f, "function {name:?}: {e}"),
            Failure::Wait(e) => write!(f, "function {name:?}: {e}"),
            Failure::Result(e) => write!(f, "function {name:?}: its result cannot be written: {e}"),
        }
    }
}

impl<R> Error for BytesError<R> {}
