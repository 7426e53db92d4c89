//! What a function found for one input, as text and as JSON.

use crate::name;
use serde::{Serialize, Serializer};
use std::ffi::OsStr;

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    Text,
    Json,
}

/// What a function found for one input.
#[derive(Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub(crate) enum Found {
    /// Hexadecimal digits.
    Checksum(String),
    Size(u64),
    Counts {
        lines: u64,
        words: u64,
        bytes: u64,
    },
    /// By a command.
    Printed(Bytes),
}

/// Bytes that are text, as a rule: in JSON a string, or an object with all bytes in hexadecimal when they are not UTF-8.
#[derive(PartialEq, Debug)]
pub(crate) struct Bytes<T: AsRef<[u8]> = Vec<u8>>(pub(crate) T);

impl<T: AsRef<[u8]>> Serialize for Bytes<T> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Hex {
            hex: String,
        }
        match str::from_utf8(self.0.as_ref()) {
            Ok(text) => to.serialize_str(text),
            Err(_) => Hex { hex: hex(self.0.as_ref()) }.serialize(to),
        }
    }
}

/// An input and what became of it.
#[derive(Serialize)]
struct Line<'a> {
    input: Bytes<&'a [u8]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<&'a Found>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
    /// What a command had printed before it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    output: Option<Bytes<&'a [u8]>>,
}

impl Found {
    /// It alone, without a name.
    pub(crate) fn value(self) -> Vec<u8> {
        match self {
            Found::Checksum(sum) => sum.into_bytes(),
            Found::Size(size) => size.to_string().into_bytes(),
            Found::Counts { lines, words, bytes } => format!("{lines} {words} {bytes}").into_bytes(),
            Found::Printed(Bytes(bytes)) => bytes,
        }
    }

    /// What is printed for it.
    pub(crate) fn format(self, format: Format, input: &OsStr) -> Vec<u8> {
        match (format, self) {
            (Format::Json, found) => Line::of(input).with_result(&found).print(),
            (Format::Text, Found::Checksum(sum)) => name::line(sum.as_bytes(), b"  ", input),
            (Format::Text, Found::Size(size)) => name::line(size.to_string().as_bytes(), b"  ", input),
            (Format::Text, Found::Counts { lines, words, bytes }) => counts(lines, words, bytes, input),
            (Format::Text, Found::Printed(Bytes(bytes))) => bytes,
        }
    }
}

/// The line that stands for an input without a result.
pub(crate) fn error(input: &OsStr, error: &str, output: &[u8]) -> Vec<u8> {
    let output = (!output.is_empty()).then_some(Bytes(output));
    Line { error: Some(error), output, ..Line::of(input) }.print()
}

impl<'a> Line<'a> {
    fn of(input: &'a OsStr) -> Line<'a> {
        Line { input: Bytes(input.as_encoded_bytes()), result: None, error: None, output: None }
    }

    fn with_result(self, found: &'a Found) -> Line<'a> {
        Line { result: Some(found), ..self }
    }

    fn print(&self) -> Vec<u8> {
        let mut line = serde_json::to_vec(self).expect("strings and numbers, with names for keys");
        line.push(b'\n');
        line
    }
}

/// Right-aligned to the bytes: no count has more digits.
fn counts(lines: u64, words: u64, bytes: u64, name: &OsStr) -> Vec<u8> {
    let width = bytes.max(1).ilog10() as usize + 1;
    let mut line = format!("{lines:width$} {words:width$} {bytes:width$} ").into_bytes();
    name::for_wc(&mut line, name);
    line.push(b'\n');
    line
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits.map(|digit| char::from(DIGITS[usize::from(digit)])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::ffi::OsStrExt;

    fn json(found: Found, input: &[u8]) -> String {
        String::from_utf8(found.format(Format::Json, OsStr::from_bytes(input))).expect("JSON is text")
    }

    #[test]
    fn counts_are_aligned_to_the_bytes() {
        let text = |lines, words, bytes| Found::Counts { lines, words, bytes }.format(Format::Text, OsStr::new("f"));
        assert_eq!(text(0, 0, 0), b"0 0 0 f\n");
        assert_eq!(text(2, 3, 14), b" 2  3 14 f\n");
    }

    #[test]
    fn json_has_the_kind_of_each_result() {
        assert_eq!(json(Found::Checksum("00ff".into()), b"f"), "{\"input\":\"f\",\"result\":\"00ff\"}\n");
        assert_eq!(json(Found::Size(7), b"a\nb"), "{\"input\":\"a\\nb\",\"result\":7}\n");
        let counts = Found::Counts { lines: 1, words: 2, bytes: 3 };
        assert_eq!(json(counts, b"f"), "{\"input\":\"f\",\"result\":{\"lines\":1,\"words\":2,\"bytes\":3}}\n");
    }

    #[test]
    fn json_loses_no_bytes() {
        let want = "{\"input\":{\"hex\":\"61ff\"},\"result\":{\"hex\":\"00fe0a\"}}\n";
        assert_eq!(json(Found::Printed(Bytes(b"\0\xfe\n".to_vec())), b"a\xff"), want);
    }

    #[test]
    fn errors_keep_what_was_printed() {
        let text = |output| String::from_utf8(error(OsStr::new("f"), "no", output)).expect("JSON is text");
        assert_eq!(text(b""), "{\"input\":\"f\",\"error\":\"no\"}\n");
        assert_eq!(text(b"a"), "{\"input\":\"f\",\"error\":\"no\",\"output\":\"a\"}\n");
    }
}
