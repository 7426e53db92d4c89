//! The functions that `map` knows: each folds the chunks of a file into one result.

mod checksum;
mod gzip;
mod wc;

use crate::found::Found;
use crate::inputs::STDIN;
use clap::ValueEnum;
use std::cell::RefCell;
use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::path::Path;

/// Bytes read at once: large enough for the system calls not to count, small enough for a core's own cache.
const CHUNK: usize = 128 * 1024;

/// A built-in function.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Builtin {
    /// SHA-256, as `sha256sum` prints it
    Sha256,
    /// CRC-32 (the one of gzip and zip), eight hex digits, two spaces, name
    Crc32,
    /// Lines, words and bytes, as `wc` prints one file: right-aligned to the digits of the bytes; words are what ASCII
    /// white space separates
    Wc,
    /// Bytes of the file as a gzip file of level 6 without a name, two spaces, name; within a few percent of gzip's own
    GzipSize,
}

/// A function over the bytes of a file.
trait Fold: Default {
    fn update(&mut self, chunk: &[u8]);
    fn found(self) -> Found;
}

impl Builtin {
    /// What a worker's result says that does this function for others, if it is one.
    pub(crate) fn read(self, value: &[u8]) -> Option<Found> {
        let text = std::str::from_utf8(value).ok()?.trim_end();
        let is_hex = |digits: usize| text.len() == digits && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        match self {
            Builtin::Sha256 => is_hex(64).then(|| Found::Checksum(text.to_owned())),
            Builtin::Crc32 => is_hex(8).then(|| Found::Checksum(text.to_owned())),
            Builtin::GzipSize => text.parse().ok().map(Found::Size),
            Builtin::Wc => {
                let numbers: Vec<u64> = text.split(' ').map(str::parse).collect::<Result<_, _>>().ok()?;
                let [lines, words, bytes] = numbers[..] else { return None };
                Some(Found::Counts { lines, words, bytes })
            }
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Builtin::Sha256 => "sha256",
            Builtin::Crc32 => "crc32",
            Builtin::Wc => "wc",
            Builtin::GzipSize => "gzip-size",
        }
    }

    /// Runs the function on bytes.
    pub(crate) fn run_on(self, bytes: &[u8]) -> Found {
        match self {
            Builtin::Sha256 => fold_bytes::<checksum::Sha256>(bytes),
            Builtin::Crc32 => fold_bytes::<checksum::Crc32>(bytes),
            Builtin::Wc => fold_bytes::<wc::Wc>(bytes),
            Builtin::GzipSize => fold_bytes::<gzip::GzipSize>(bytes),
        }
    }

    /// Runs the function on one file, in constant memory: what it found, and the number of bytes read.
    pub(crate) fn run(self, path: &Path) -> io::Result<(Found, u64)> {
        match self {
            Builtin::Sha256 => fold::<checksum::Sha256>(path),
            Builtin::Crc32 => fold::<checksum::Crc32>(path),
            Builtin::Wc => fold::<wc::Wc>(path),
            Builtin::GzipSize => fold::<gzip::GzipSize>(path),
        }
    }
}

fn fold_bytes<F: Fold>(bytes: &[u8]) -> Found {
    let mut state = F::default();
    state.update(bytes);
    state.found()
}

fn fold<F: Fold>(path: &Path) -> io::Result<(Found, u64)> {
    let mut state = F::default();
    let bytes = if path.as_os_str() == STDIN {
        each_chunk(io::stdin().lock(), |chunk| state.update(chunk))?
    } else {
        each_chunk(File::open(path)?, |chunk| state.update(chunk))?
    };
    Ok((state.found(), bytes))
}

/// Reads to the end through this worker's buffer; the number of bytes.
fn each_chunk(mut from: impl Read, mut each: impl FnMut(&[u8])) -> io::Result<u64> {
    thread_local! {
        static BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; CHUNK]);
    }
    BUFFER.with_borrow_mut(|buffer| {
        let mut bytes = 0;
        loop {
            match from.read(buffer) {
                Ok(0) => return Ok(bytes),
                Ok(n) => {
                    bytes += n as u64;
                    each(&buffer[..n]);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_command_line() {
        for function in Builtin::value_variants() {
            let value = function.to_possible_value().expect("none is hidden");
            assert_eq!(value.get_name(), function.name());
        }
    }

    #[test]
    fn an_interrupted_read_goes_on() {
        struct Interrupted(u32);
        impl Read for Interrupted {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                self.0 += 1;
                match self.0 {
                    1 | 3 => Err(ErrorKind::Interrupted.into()),
                    2 | 4 => {
                        buffer[0] = b'x';
                        Ok(1)
                    }
                    _ => Ok(0),
                }
            }
        }
        let mut seen = Vec::new();
        let bytes = each_chunk(Interrupted(0), |chunk| seen.extend_from_slice(chunk)).expect("reads to the end");
        assert_eq!((bytes, seen.as_slice()), (2, b"xx".as_slice()));
    }
}
