//! File names as they are printed: to standard output byte for byte, with GNU's escapes; in messages readable.

use std::borrow::Cow;
use std::ffi::OsStr;
use std::fmt::Write;

/// A result line: value, separator, name. A name that would break the line is escaped, and the line then begins with a
/// backslash, as the GNU checksum tools print it.
pub(crate) fn line(value: &[u8], separator: &[u8], name: &OsStr) -> Vec<u8> {
    let name = name.as_encoded_bytes();
    let mut line = Vec::with_capacity(value.len() + separator.len() + name.len() + 2);
    let is_plain = !name.iter().any(|b| matches!(b, b'\\' | b'\n' | b'\r'));
    if !is_plain {
        line.push(b'\\');
    }
    line.extend_from_slice(value);
    line.extend_from_slice(separator);
    if is_plain {
        line.extend_from_slice(name);
    } else {
        escape(&mut line, name);
    }
    line.push(b'\n');
    line
}

fn escape(line: &mut Vec<u8>, name: &[u8]) {
    for &byte in name {
        match byte {
            b'\\' => line.extend_from_slice(b"\\\\"),
            b'\n' => line.extend_from_slice(b"\\n"),
            b'\r' => line.extend_from_slice(b"\\r"),
            other => line.push(other),
        }
    }
}

/// A name as `wc` prints it without a locale: as it is, or quoted for a shell when it would break the line.
pub(crate) fn for_wc(line: &mut Vec<u8>, name: &OsStr) {
    let name = name.as_encoded_bytes();
    if !name.contains(&b'\n') {
        return line.extend_from_slice(name);
    }
    line.push(b'\'');
    // Inside `$'...'`, which knows escapes, instead of `'...'`.
    let mut escaping = false;
    for &byte in name {
        let escape = escape_for_shell(byte);
        if escape.is_some() && !escaping {
            line.extend_from_slice(b"'$'");
        } else if escape.is_none() && escaping && byte != b'\'' {
            line.extend_from_slice(b"''");
        }
        escaping = escape.is_some();
        match escape {
            Some(escape) => line.extend_from_slice(escape.as_bytes()),
            // Ends either kind of quotes.
            None if byte == b'\'' => line.extend_from_slice(br"'\''"),
            None => line.push(byte),
        }
    }
    line.push(b'\'');
}

/// How `$'...'` spells a byte that is not printed as it is.
fn escape_for_shell(byte: u8) -> Option<Cow<'static, str>> {
    Some(Cow::Borrowed(match byte {
        0x07 => r"\a",
        0x08 => r"\b",
        b'\t' => r"\t",
        b'\n' => r"\n",
        0x0b => r"\v",
        0x0c => r"\f",
        b'\r' => r"\r",
        b' '..=b'~' => return None,
        other => return Some(Cow::Owned(format!("\\{other:03o}"))),
    }))
}

/// A name for a message, in quotes.
pub(crate) fn quoted(name: &OsStr) -> String {
    format!("'{}'", spelled(name))
}

/// Control characters and bytes that are not UTF-8 spelled out, so that a name cannot forge a line or speak to the
/// terminal.
pub(crate) fn spelled(name: &OsStr) -> String {
    let mut text = String::new();
    for part in name.as_encoded_bytes().utf8_chunks() {
        for c in part.valid().chars() {
            if c.is_control() || c == '\\' || c == '\'' {
                text.extend(c.escape_default());
            } else {
                text.push(c);
            }
        }
        for byte in part.invalid() {
            // Writing to a `String` cannot fail.
            let _ = write!(text, "\\x{byte:02x}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_names_stand_as_they_are() {
        assert_eq!(line(b"v", b"  ", OsStr::new("a b\tc")), b"v  a b\tc\n");
    }

    #[test]
    fn names_that_break_lines_are_escaped() {
        assert_eq!(line(b"v", b"  ", OsStr::new("a\nb\\c\rd")), b"\\v  a\\nb\\\\c\\rd\n");
    }

    #[test]
    fn messages_spell_control_characters_out() {
        assert_eq!(quoted(OsStr::new("né\u{1b}[0m\n")), r"'né\u{1b}[0m\n'");
        assert_eq!(quoted(OsStr::new("it's")), r"'it\'s'");
    }

    #[cfg(unix)]
    #[test]
    fn messages_spell_other_bytes_out() {
        use std::os::unix::ffi::OsStrExt;
        assert_eq!(quoted(OsStr::from_bytes(b"a\xffb")), r"'a\xffb'");
    }
}
