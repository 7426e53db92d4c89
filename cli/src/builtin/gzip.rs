//! `gzip-size`: what a file would take when compressed.

use super::Fold;
use crate::found::Found;
use flate2::Compression;
use flate2::write::GzEncoder;
use std::io::{self, Write};

/// The level that `gzip` uses unless told otherwise.
const LEVEL: u32 = 6;

/// Counts what is written to it, and cannot fail.
struct Counter(u64);

impl Write for Counter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

pub(super) struct GzipSize(GzEncoder<Counter>);

impl Default for GzipSize {
    fn default() -> GzipSize {
        GzipSize(GzEncoder::new(Counter(0), Compression::new(LEVEL)))
    }
}

impl Fold for GzipSize {
    fn update(&mut self, chunk: &[u8]) {
        self.0.write_all(chunk).expect("a counter takes everything");
    }

    fn found(self) -> Found {
        let Counter(size) = self.0.finish().expect("a counter takes everything");
        Found::Size(size)
    }
}
