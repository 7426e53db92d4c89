//! `wc`: lines, words, bytes.

use super::Fold;
use crate::found::Found;

/// Bytes counted before the narrow counters below could overflow.
const BLOCK: usize = 255;

pub(super) struct Wc {
    lines: u64,
    words: u64,
    bytes: u64,
    /// The last byte so far: the next one begins a word if this one is white space.
    last: u8,
}

impl Default for Wc {
    fn default() -> Wc {
        Wc { lines: 0, words: 0, bytes: 0, last: b' ' }
    }
}

/// White space as C's `isspace` has it without a locale.
#[inline(always)]
fn is_space(byte: u8) -> bool {
    byte == b' ' || matches!(byte, b'\t'..=b'\r')
}

#[inline(always)]
fn begins_word(before: u8, byte: u8) -> bool {
    is_space(before) & !is_space(byte)
}

impl Fold for Wc {
    fn update(&mut self, chunk: &[u8]) {
        let Some((&first, &last)) = chunk.first().zip(chunk.last()) else {
            return;
        };
        self.bytes += chunk.len() as u64;
        self.lines += u64::from(first == b'\n');
        self.words += u64::from(begins_word(self.last, first));
        self.last = last;
        // Pairs of neighbours in short blocks with one-byte counters: the compiler makes vector code of it.
        let (before, bytes) = (&chunk[..chunk.len() - 1], &chunk[1..]);
        for (before, bytes) in before.chunks(BLOCK).zip(bytes.chunks(BLOCK)) {
            let (mut lines, mut words) = (0u8, 0u8);
            for (&before, &byte) in before.iter().zip(bytes) {
                lines += u8::from(byte == b'\n');
                words += u8::from(begins_word(before, byte));
            }
            self.lines += u64::from(lines);
            self.words += u64::from(words);
        }
    }

    fn found(self) -> Found {
        Found::Counts { lines: self.lines, words: self.words, bytes: self.bytes }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(chunks: &[&[u8]]) -> (u64, u64, u64) {
        let mut state = Wc::default();
        chunks.iter().for_each(|chunk| state.update(chunk));
        (state.lines, state.words, state.bytes)
    }

    /// One byte at a time, with wide counters.
    fn plain(text: &[u8]) -> (u64, u64, u64) {
        let words = text.split(|&b| is_space(b)).filter(|word| !word.is_empty()).count();
        let lines = text.iter().filter(|&&b| b == b'\n').count();
        (lines as u64, words as u64, text.len() as u64)
    }

    #[test]
    fn counts_agree_with_the_plain_way_however_the_text_is_cut() {
        let text: Vec<u8> = (0..5000u32).map(|i| b"a\n \tb\x0bc\xff\0\r"[(i * i / 7) as usize % 10]).collect();
        for size in [1, 2, 3, 254, 255, 256, 257, 1000, text.len()] {
            let chunks: Vec<&[u8]> = text.chunks(size).collect();
            assert_eq!(counts(&chunks), plain(&text), "chunks of {size}");
        }
    }

    #[test]
    fn full_blocks_do_not_overflow() {
        assert_eq!(counts(&[&[b'\n'; 3000]]), (3000, 0, 3000));
        assert_eq!(counts(&[b"a ".repeat(3000).as_slice()]), (0, 3000, 6000));
    }
}
