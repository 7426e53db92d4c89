//! JSON.

use super::Codec;
use super::error::{CodecError, Mistake};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::error::Category;

/// JSON, written without white space. Any value that serde knows can be read and written, in UTF-8.
///
/// Numbers are exact: a float is read back to the last bit, an integer up to 128 bits. NaN and the infinities, which JSON
/// lacks, are written as `null`. At most 127 arrays and objects can lie inside each other when read. Fields that a type does
/// not know are ignored, unless it refuses them (`#[serde(deny_unknown_fields)]`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Json;

impl Codec for Json {
    fn encode<T: Serialize + ?Sized>(&self, value: &T) -> Result<Vec<u8>, CodecError> {
        serde_json::to_vec(value).map_err(|error| {
            let likely = "JSON has text, numbers and booleans as keys, and a type's own rules may refuse a value";
            CodecError::new(Mistake::Unwritable, error.to_string(), likely)
        })
    }

    fn decode<T: DeserializeOwned>(&self, bytes: &[u8]) -> Result<T, CodecError> {
        let text = std::str::from_utf8(bytes).map_err(|error| not_utf8(bytes, error.valid_up_to()))?;
        if text.trim_ascii().is_empty() {
            let likely = "nothing was sent, or the message was lost on its way; `null` is the empty value";
            return Err(CodecError::new(Mistake::Empty, "the input is empty", likely));
        }
        let mut reader = serde_json::Deserializer::from_str(text);
        let value = T::deserialize(&mut reader).map_err(|error| invalid(bytes, &error))?;
        reader.end().map_err(|error| trailing(bytes, &error))?;
        Ok(value)
    }
}

#[cold]
fn not_utf8(bytes: &[u8], at: usize) -> CodecError {
    let likely = match bytes {
        [0x1f, 0x8b, ..] => "the input looks like gzip; unpack it first",
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => "the input looks like UTF-16; convert it first",
        _ => "the text has another encoding, such as Latin-1, or the input is binary",
    };
    CodecError::new(Mistake::NotUtf8, "the input is not UTF-8", likely).at(bytes, at)
}

#[cold]
fn trailing(bytes: &[u8], error: &serde_json::Error) -> CodecError {
    let likely = "one value is expected; several were sent, or a part of another message follows";
    CodecError::new(Mistake::Trailing, "something follows the value", likely).at(bytes, offset(bytes, error))
}

#[cold]
fn invalid(bytes: &[u8], error: &serde_json::Error) -> CodecError {
    let message = message(error);
    let at = offset(bytes, error);
    let (mistake, likely) = match error.classify() {
        Category::Eof => (Mistake::Truncated, "the end was cut off, or a bracket or quote is not closed"),
        Category::Data => (Mistake::WrongType, "the input is JSON, but not of the type that is expected here"),
        _ if message == "recursion limit exceeded" => {
            let likely = "JSON is read 127 levels deep; a reference that goes in circles can lead to more";
            return CodecError::new(Mistake::TooDeep, "too many arrays and objects inside each other", likely)
                .at(bytes, at);
        }
        _ => (Mistake::Malformed, likely_slip(&bytes[at.min(bytes.len())..])),
    };
    let at = if mistake == Mistake::Truncated { bytes.len() } else { at };
    CodecError::new(mistake, message, likely).at(bytes, at)
}

/// What people take for JSON, from the first byte that is not.
fn likely_slip(rest: &[u8]) -> &'static str {
    match rest {
        [0xef, 0xbb, 0xbf, ..] => "the input starts with a byte order mark, which JSON has not",
        [b'\'', ..] => "JSON's quotes are double ones",
        [b'/', ..] | [b'#', ..] => "JSON has no comments",
        [b'}' | b']', ..] => "a comma too many, or a value that is missing",
        [b'N' | b'I' | b'-' | b'+', ..] => "JSON has no NaN and no infinities, and no plus before a number",
        [b'T' | b'F', ..] => "JSON writes `true`, `false` and `null` in lower case",
        [b'<', ..] => "this looks like XML or HTML: an error page in place of the message?",
        _ => "the input is not JSON: text without quotes, a comma or colon that is missing, or another format",
    }
}

/// Without the place, which serde_json appends.
fn message(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let place = format!(" at line {} column {}", error.line(), error.column());
    text.strip_suffix(&place).map_or(text.clone(), str::to_owned)
}

/// The byte that serde_json names by its line and by how many bytes of the line were read, that one included. A type's
/// own message may pretend to any place.
fn offset(bytes: &[u8], error: &serde_json::Error) -> usize {
    let mut line_start = 0;
    for _ in 1..error.line() {
        match bytes[line_start..].iter().position(|&b| b == b'\n') {
            Some(at) => line_start += at + 1,
            None => return bytes.len(),
        }
    }
    line_start.saturating_add(error.column().saturating_sub(1)).min(bytes.len())
}
