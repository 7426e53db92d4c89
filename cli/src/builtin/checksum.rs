//! `sha256` and `crc32`.

use super::Fold;
use crate::name;
use sha2::Digest;
use std::ffi::OsStr;

#[derive(Default)]
pub(super) struct Sha256(sha2::Sha256);

impl Fold for Sha256 {
    fn update(&mut self, chunk: &[u8]) {
        self.0.update(chunk);
    }

    fn line(self, name: &OsStr) -> Vec<u8> {
        let mut text = [0; 64];
        hex(&self.0.finalize(), &mut text);
        name::line(&text, b"  ", name)
    }
}

#[derive(Default)]
pub(super) struct Crc32(crc32fast::Hasher);

impl Fold for Crc32 {
    fn update(&mut self, chunk: &[u8]) {
        self.0.update(chunk);
    }

    fn line(self, name: &OsStr) -> Vec<u8> {
        let mut text = [0; 8];
        hex(&self.0.finalize().to_be_bytes(), &mut text);
        name::line(&text, b"  ", name)
    }
}

fn hex(bytes: &[u8], text: &mut [u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for (byte, pair) in bytes.iter().zip(text.chunks_exact_mut(2)) {
        pair[0] = DIGITS[usize::from(byte >> 4)];
        pair[1] = DIGITS[usize::from(byte & 15)];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line<F: Fold>(chunks: &[&[u8]]) -> String {
        let mut state = F::default();
        chunks.iter().for_each(|chunk| state.update(chunk));
        String::from_utf8(state.line(OsStr::new("f"))).expect("text")
    }

    #[test]
    fn known_values() {
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad  f\n";
        assert_eq!(line::<Sha256>(&[b"a", b"bc"]), abc);
        assert_eq!(line::<Crc32>(&[b"1234", b"56789"]), "cbf43926  f\n");
        assert_eq!(line::<Crc32>(&[]), "00000000  f\n");
    }
}
