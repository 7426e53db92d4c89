//! What a job is called on the wire: `H:HOST:N`, where N is its key under a keyed permutation of 64 bits.
//!
//! The permutation is a Feistel network of four rounds over SipHash, whose keys are chosen at the start (Luby and Rackoff, "How
//! to construct pseudorandom permutations from pseudorandom functions", 1988): numbers cannot be guessed from others, there
//! is no table of handles, and those of an earlier start mean nothing.

use std::hash::{BuildHasher, RandomState};

/// Bytes of a handle at most; with the NUL that ends it in some packets 64.
const MOST: usize = 63;
/// Bytes of the largest number.
const DIGITS: usize = 20;
const ROUNDS: usize = 4;

/// Names jobs, and knows them by their names.
pub(super) struct Handles {
    prefix: Vec<u8>,
    keys: [RandomState; ROUNDS],
}

/// A handle, as bytes.
#[derive(Clone, Copy)]
pub(super) struct Handle {
    bytes: [u8; MOST],
    len: u8,
}

impl Handle {
    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

impl Handles {
    /// Handles of a host. Of a long name the beginning is used, and what would split a handle is left out.
    pub(super) fn new(host: &str) -> Handles {
        let fits = MOST - DIGITS - "H::".len();
        let host = host.bytes().filter(|byte| byte.is_ascii_graphic() && *byte != b':').take(fits);
        let mut prefix = b"H:".to_vec();
        prefix.extend(host);
        if prefix.len() == 2 {
            prefix.extend_from_slice(b"localhost");
        }
        prefix.push(b':');
        Handles { prefix, keys: std::array::from_fn(|_| RandomState::new()) }
    }

    /// The handle of a key.
    pub(super) fn name(&self, key: u64) -> Handle {
        self.handle(self.permute(key))
    }

    /// The handle with this number.
    pub(super) fn handle(&self, mut number: u64) -> Handle {
        let mut digits = [0; DIGITS];
        let mut first = DIGITS;
        loop {
            first -= 1;
            digits[first] = b'0' + (number % 10) as u8;
            number /= 10;
            if number == 0 {
                break;
            }
        }
        let (prefix, digits) = (&self.prefix[..], &digits[first..]);
        let len = prefix.len() + digits.len();
        let mut bytes = [0; MOST];
        bytes[..prefix.len()].copy_from_slice(prefix);
        bytes[prefix.len()..len].copy_from_slice(digits);
        Handle { bytes, len: len as u8 }
    }

    /// The number in a handle: of exactly these bytes.
    pub(super) fn number(&self, handle: &[u8]) -> Option<u64> {
        let digits = handle.strip_prefix(&self.prefix[..])?;
        if digits.is_empty() || (digits[0] == b'0' && digits.len() > 1) {
            return None;
        }
        digits.iter().try_fold(0_u64, |number, digit| {
            let digit = digit.wrapping_sub(b'0');
            if digit > 9 { None } else { number.checked_mul(10)?.checked_add(u64::from(digit)) }
        })
    }

    /// The key of a handle: of exactly these bytes.
    pub(super) fn key(&self, handle: &[u8]) -> Option<u64> {
        Some(self.restore(self.number(handle)?))
    }

    fn round(&self, round: usize, half: u32) -> u32 {
        self.keys[round].hash_one(half) as u32
    }

    /// The number of a key.
    pub(super) fn permute(&self, key: u64) -> u64 {
        let (mut left, mut right) = ((key >> 32) as u32, key as u32);
        for round in 0..ROUNDS {
            (left, right) = (right, left ^ self.round(round, right));
        }
        u64::from(left) << 32 | u64::from(right)
    }

    /// The key of a number.
    pub(super) fn restore(&self, number: u64) -> u64 {
        let (mut left, mut right) = ((number >> 32) as u32, number as u32);
        for round in (0..ROUNDS).rev() {
            (left, right) = (right ^ self.round(round, left), left);
        }
        u64::from(left) << 32 | u64::from(right)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gs_18_handles_name_jobs_and_cannot_be_guessed() {
        let (handles, after_restart) = (Handles::new("box"), Handles::new("box"));
        for key in [0, 1, 2, 1 << 32, u64::MAX, 0x1234_5678_9abc_def0] {
            let name = handles.name(key);
            let digits = name.as_bytes().strip_prefix(b"H:box:").unwrap();
            assert!(!digits.is_empty() && digits.iter().all(u8::is_ascii_digit));
            assert_eq!(handles.key(name.as_bytes()), Some(key));
            assert_ne!(after_restart.key(name.as_bytes()), Some(key));
        }
        // Neighbours are far apart.
        let number = |key| handles.permute(key);
        let differing: u32 = (0..64u64).map(|key| (number(key) ^ number(key + 1)).count_ones()).sum();
        assert!((24 * 64..40 * 64).contains(&differing), "{differing} of {} bits", 64 * 64);
    }

    #[test]
    fn gs_18_handles_are_short_whatever_the_host() {
        let longest = Handles::new(&"a".repeat(255)).name(7);
        assert!(longest.as_bytes().len() <= MOST);
        assert!(Handles::new("").name(7).as_bytes().starts_with(b"H:localhost:"));
        assert!(Handles::new("a:b\n\u{e9}c").name(7).as_bytes().starts_with(b"H:abc:"));
    }

    #[test]
    fn other_bytes_are_no_handle() {
        let handles = Handles::new("box");
        let name = handles.name(7).as_bytes().to_vec();
        let with = |tail: &[u8]| [&name[..], tail].concat();
        assert_eq!(handles.key(&with(b"")), Some(7));
        for wrong in [
            with(b"\0"),
            with(b" "),
            with(b"0000000000000000000"),
            b"H:box:".to_vec(),
            b"H:box:+7".to_vec(),
            b"".to_vec(),
        ] {
            assert_eq!(handles.key(&wrong), None, "{}", wrong.escape_ascii());
        }
        assert_eq!(handles.key(b"H:box:01"), None);
        assert_eq!(handles.number(b"H:box:0"), Some(0));
        assert_eq!(handles.handle(0).as_bytes(), b"H:box:0");
        assert_eq!(handles.handle(u64::MAX).as_bytes(), b"H:box:18446744073709551615");
        assert_eq!(handles.number(b"H:box:18446744073709551615"), Some(u64::MAX));
        assert_eq!(handles.number(b"H:box:18446744073709551616"), None, "it is too large");
    }
}
