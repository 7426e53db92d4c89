//! `sha256` and `crc32`.

use super::Fold;
use crate::found::{Found, hex};
use sha2::Digest;

#[derive(Default)]
pub(super) struct Sha256(sha2::Sha256);

impl Fold for Sha256 {
    fn update(&mut self, chunk: &[u8]) {
        self.0.update(chunk);
    }

    fn found(self) -> Found {
        Found::Checksum(hex(&self.0.finalize()))
    }
}

#[derive(Default)]
pub(super) struct Crc32(crc32fast::Hasher);

impl Fold for Crc32 {
    fn update(&mut self, chunk: &[u8]) {
        self.0.update(chunk);
    }

    fn found(self) -> Found {
        Found::Checksum(hex(&self.0.finalize().to_be_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum<F: Fold>(chunks: &[&[u8]]) -> String {
        let mut state = F::default();
        chunks.iter().for_each(|chunk| state.update(chunk));
        let Found::Checksum(sum) = state.found() else { panic!("not a checksum") };
        sum
    }

    #[test]
    fn known_values() {
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(sum::<Sha256>(&[b"a", b"bc"]), abc);
        assert_eq!(sum::<Crc32>(&[b"1234", b"56789"]), "cbf43926");
        assert_eq!(sum::<Crc32>(&[]), "00000000");
    }
}
