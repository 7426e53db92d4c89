//! The text protocol, without I/O: lines to commands, and names that cannot break a table.
//!
//! A line is words with spaces between them; the command in any case. A name is written as it is, but for control bytes,
//! backslashes and, where words are split, spaces: `\x09`, `\\`, `\x20`. Answers are one line that begins with `OK` or `ERR`,
//! or rows of fields with tabs between them, ended by a line with a single dot.

use std::borrow::Cow;
use std::error::Error;
use std::fmt::{self, Write as _};

/// A command.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Command {
    /// Per function: queued and running jobs together, running ones, workers that can do it.
    Status,
    /// Per function: queued jobs of each priority, workers that can do it.
    PriorityStatus,
    /// Per connection: number, address, name, functions.
    Workers,
    /// Per connection: address, and the jobs it waits for.
    Clients,
    /// Per job: function, key, worker, waiting clients.
    Jobs,
    /// Per job: handle, hand-outs, whether it is cancelled, whether it is queued.
    ShowJobs,
    /// The keys of jobs.
    ShowUniqueJobs,
    /// Queued jobs of a function at most.
    MaxQueue {
        /// The function.
        function: Vec<u8>,
        /// How many.
        most: MaxQueue,
    },
    /// Ends a queued job.
    CancelJob(Vec<u8>),
    /// Lists a function from now on.
    CreateFunction(Vec<u8>),
    /// Forgets a function that nobody can do, with its jobs.
    DropFunction(Vec<u8>),
    /// Keeps a function's jobs from starting.
    Pause(Vec<u8>),
    /// Lets them start again.
    Resume(Vec<u8>),
    /// Why a function, or a job, does not run.
    Explain(Vec<u8>),
    /// How much there is of what takes memory.
    Gladiator {
        /// With what there is none or one of.
        all: bool,
    },
    /// The server's process id.
    GetPid,
    /// The level of its log.
    Verbose,
    /// Its version.
    Version,
    /// Ends the server.
    Shutdown {
        /// Running jobs end first.
        graceful: bool,
    },
}

/// How many jobs may be queued; `None` is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MaxQueue {
    /// Of all priorities together.
    All(Option<usize>),
    /// High, normal, low.
    Each([Option<usize>; 3]),
}

/// Why a line is no command.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum TextError {
    /// There is none of this name.
    UnknownCommand(String),
    /// Something is missing.
    Incomplete(&'static str),
    /// An argument makes no sense, or is one too many.
    BadArgument(String),
}

impl TextError {
    /// The stable word that an `ERR` line begins with.
    pub fn code(&self) -> &'static str {
        match self {
            TextError::UnknownCommand(_) => "UNKNOWN_COMMAND",
            TextError::Incomplete(_) => "INCOMPLETE_ARGS",
            TextError::BadArgument(_) => "UNKNOWN_ARGS",
        }
    }
}

impl fmt::Display for TextError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TextError::UnknownCommand(_) => f.write_str("Unknown server command"),
            TextError::Incomplete(_) => f.write_str("An incomplete set of arguments was sent to this command"),
            TextError::BadArgument(_) => f.write_str("Unknown arguments to server command"),
        }?;
        match self {
            TextError::UnknownCommand(word) if word.is_empty() => Ok(()),
            TextError::UnknownCommand(what) | TextError::BadArgument(what) => write!(f, ": {what}"),
            TextError::Incomplete(usage) => write!(f, ": {usage}"),
        }
    }
}

impl Error for TextError {}

/// Reads a line.
///
/// # Errors
/// [`TextError`]. No line makes it panic.
pub fn parse(line: &[u8]) -> Result<Command, TextError> {
    let mut words = line.split(|byte| matches!(byte, b' ' | b'\t')).filter(|word| !word.is_empty());
    let first = words.next().unwrap_or_default().to_ascii_lowercase();
    let rest: Vec<&[u8]> = words.collect();
    let name = |at: usize, usage| rest.get(at).map(|word| unescape(word)).ok_or(TextError::Incomplete(usage));
    let keyword = || rest.first().map(|word| word.to_ascii_lowercase()).unwrap_or_default();
    let command = match first.as_slice() {
        b"status" => Command::Status,
        b"prioritystatus" => Command::PriorityStatus,
        b"workers" => Command::Workers,
        b"clients" => Command::Clients,
        b"jobs" => Command::Jobs,
        b"gladiator" => Command::Gladiator { all: keyword() == b"all" },
        b"getpid" => Command::GetPid,
        b"verbose" => Command::Verbose,
        b"version" => Command::Version,
        b"maxqueue" => max_queue(&rest)?,
        b"pause" => Command::Pause(name(0, "pause FUNCTION")?),
        b"resume" => Command::Resume(name(0, "resume FUNCTION")?),
        b"explain" => Command::Explain(name(0, "explain FUNCTION or HANDLE")?),
        b"shutdown" => match keyword().as_slice() {
            b"" => Command::Shutdown { graceful: false },
            b"graceful" => Command::Shutdown { graceful: true },
            _ => return Err(TextError::BadArgument(shown(rest[0]))),
        },
        b"cancel" if keyword() == b"job" => Command::CancelJob(name(1, "cancel job HANDLE")?),
        b"create" if keyword() == b"function" => Command::CreateFunction(name(1, "create function FUNCTION")?),
        b"drop" if keyword() == b"function" => Command::DropFunction(name(1, "drop function FUNCTION")?),
        b"show" if keyword() == b"jobs" => Command::ShowJobs,
        b"show" if keyword() == b"unique" && rest.get(1).is_some_and(|word| word.eq_ignore_ascii_case(b"jobs")) => {
            Command::ShowUniqueJobs
        }
        other => return Err(TextError::UnknownCommand(shown(other))),
    };
    // Left out, one would be obeyed that was meant otherwise.
    match rest.get(arguments(&command)) {
        Some(surplus) => Err(TextError::BadArgument(shown(surplus))),
        None => Ok(command),
    }
}

/// Words that belong to a command, behind its first.
fn arguments(command: &Command) -> usize {
    match command {
        Command::Gladiator { all: true } | Command::Shutdown { graceful: true } | Command::ShowJobs => 1,
        Command::Pause(_) | Command::Resume(_) | Command::Explain(_) => 1,
        Command::CancelJob(_) | Command::CreateFunction(_) | Command::DropFunction(_) | Command::ShowUniqueJobs => 2,
        // It has looked at them all.
        Command::MaxQueue { .. } => usize::MAX,
        _ => 0,
    }
}

/// `maxqueue FUNCTION [MOST | HIGH NORMAL LOW]`; negative, 0 and absent are no limit.
fn max_queue(rest: &[&[u8]]) -> Result<Command, TextError> {
    let usage = TextError::Incomplete("maxqueue FUNCTION [MOST | HIGH NORMAL LOW]");
    let function = unescape(rest.first().ok_or(usage)?);
    let number = |word: &[u8]| {
        let text = std::str::from_utf8(word).ok();
        let number =
            text.and_then(|text| text.parse::<i64>().ok()).ok_or_else(|| TextError::BadArgument(shown(word)))?;
        Ok(usize::try_from(number).ok().filter(|most| *most > 0))
    };
    let most = match &rest[1..] {
        [] => MaxQueue::All(None),
        [most] => MaxQueue::All(number(most)?),
        [high, normal, low] => MaxQueue::Each([number(high)?, number(normal)?, number(low)?]),
        other => return Err(TextError::BadArgument(format!("{} numbers, and not 1 or 3", other.len()))),
    };
    Ok(Command::MaxQueue { function, most })
}

/// A line that tells of an error.
pub fn error_line(error: &TextError) -> String {
    refusal(error.code(), &error.to_string())
}

/// The same for any code and text. Spaces of the text are written as `+`, other odd bytes as `%NN`.
pub fn refusal(code: &str, text: &str) -> String {
    let mut line = format!("ERR {code} ");
    for byte in text.bytes() {
        match byte {
            b' ' => line.push('+'),
            b'!'..=b'~' if !matches!(byte, b'+' | b'%') => line.push(byte as char),
            _ => _ = write!(line, "%{byte:02X}"),
        }
    }
    line.push_str("\r\n");
    line
}

/// What a name looks like in a table.
pub fn escape(name: &[u8]) -> Cow<'_, [u8]> {
    let is_odd = |byte: &u8| byte.is_ascii_control() || *byte == b'\\';
    if !name.iter().any(is_odd) {
        return Cow::Borrowed(name);
    }
    let mut out = Vec::with_capacity(name.len() + 8);
    for byte in name {
        match byte {
            b'\\' => out.extend_from_slice(b"\\\\"),
            byte if is_odd(byte) => out.extend_from_slice(format!("\\x{byte:02x}").as_bytes()),
            byte => out.push(*byte),
        }
    }
    Cow::Owned(out)
}

/// The same where words are split by spaces.
pub fn escape_word(name: &[u8]) -> Cow<'_, [u8]> {
    let escaped = escape(name);
    if !name.contains(&b' ') {
        return escaped;
    }
    let shown = |byte: &u8| if *byte == b' ' { b"\\x20".to_vec() } else { vec![*byte] };
    Cow::Owned(escaped.iter().flat_map(shown).collect())
}

/// The name that looks like this. What is no escape stands for itself.
pub fn unescape(word: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(word.len());
    let mut rest = word;
    while let Some((byte, after)) = rest.split_first() {
        let hex = |at: usize| after.get(at).and_then(|digit| (*digit as char).to_digit(16));
        rest = match (byte, after.first()) {
            (b'\\', Some(b'\\')) => {
                out.push(b'\\');
                &after[1..]
            }
            (b'\\', Some(b'x')) if hex(1).is_some() && hex(2).is_some() => {
                out.push((hex(1).unwrap_or(0) * 16 + hex(2).unwrap_or(0)) as u8);
                &after[3..]
            }
            _ => {
                out.push(*byte);
                after
            }
        };
    }
    out
}

/// The beginning of something odd, for a message.
fn shown(word: &[u8]) -> String {
    let cut = &word[..word.len().min(64)];
    format!("{}{}", cut.escape_ascii(), if cut.len() < word.len() { "..." } else { "" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_in_any_case() {
        assert_eq!(parse(b"STATUS"), Ok(Command::Status));
        assert_eq!(parse(b"  show   Unique JOBS "), Ok(Command::ShowUniqueJobs));
        assert_eq!(parse(b"show jobs"), Ok(Command::ShowJobs));
        assert_eq!(parse(b"shutdown Graceful"), Ok(Command::Shutdown { graceful: true }));
        assert_eq!(parse(b"cancel job H:a:1"), Ok(Command::CancelJob(b"H:a:1".to_vec())));
        assert_eq!(parse(b"create function a\\x20b"), Ok(Command::CreateFunction(b"a b".to_vec())));
        let limits = |line: &[u8]| match parse(line) {
            Ok(Command::MaxQueue { function, most }) if function == b"f" => most,
            other => panic!("{other:?}"),
        };
        assert_eq!(limits(b"maxqueue f"), MaxQueue::All(None));
        assert_eq!(limits(b"maxqueue f 3"), MaxQueue::All(Some(3)));
        assert_eq!(limits(b"maxqueue f -1"), MaxQueue::All(None));
        assert_eq!(limits(b"maxqueue f 1 0 3"), MaxQueue::Each([Some(1), None, Some(3)]));
    }

    #[test]
    fn gs_61_gs_58_what_is_no_command() {
        let line = |bytes: &[u8]| error_line(&parse(bytes).unwrap_err());
        assert_eq!(line(b"foo bar"), "ERR UNKNOWN_COMMAND Unknown+server+command:+foo\r\n");
        assert_eq!(line(b""), "ERR UNKNOWN_COMMAND Unknown+server+command\r\n");
        assert_eq!(line(b"\x1b[2J\xff"), "ERR UNKNOWN_COMMAND Unknown+server+command:+\\x1b[2j\\xff\r\n");
        assert_eq!(
            line(b"maxqueue"),
            "ERR INCOMPLETE_ARGS An+incomplete+set+of+arguments+was+sent+to+this+command:+\
             maxqueue+FUNCTION+[MOST+|+HIGH+NORMAL+LOW]\r\n"
        );
        assert_eq!(line(b"shutdown now"), "ERR UNKNOWN_ARGS Unknown+arguments+to+server+command:+now\r\n");
        assert_eq!(line(b"maxqueue f x"), "ERR UNKNOWN_ARGS Unknown+arguments+to+server+command:+x\r\n");
    }

    #[test]
    fn a_word_too_many_is_no_part_of_a_command() {
        for line in [
            "status -a",
            "prioritystatus x",
            "workers x",
            "clients x",
            "jobs x",
            "gladiator x",
            "gladiator all x",
            "getpid x",
            "verbose x",
            "version x",
            "pause f x",
            "resume f x",
            "explain f x",
            "shutdown graceful x",
            "cancel job H:a:1 x",
            "create function a b",
            "drop function a b",
            "show jobs x",
            "show unique jobs x",
            "maxqueue f 1 2",
        ] {
            let error = parse(line.as_bytes()).unwrap_err();
            assert_eq!(error.code(), "UNKNOWN_ARGS", "{line}");
        }
        assert_eq!(parse(b"status --json"), Err(TextError::BadArgument("--json".to_owned())));
        assert_eq!(parse(b"gladiator ALL"), Ok(Command::Gladiator { all: true }));
    }

    #[test]
    fn names_cannot_break_a_table() {
        for name in [&b"plain"[..], b"two words", b"a\tb\n.\n", b"back\\slash\\x41", b"\xc3\xa9\xff", b"\x7f"] {
            let shown = escape(name);
            assert!(!shown.iter().any(u8::is_ascii_control), "{shown:?}");
            assert_eq!(unescape(&shown), name);
            assert!(!escape_word(name).contains(&b' '));
            assert_eq!(unescape(&escape_word(name)), name);
        }
        assert_eq!(unescape(b"\\x4"), b"\\x4");
    }
}
