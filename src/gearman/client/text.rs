//! Text commands: which answers are tables, and where they end.

/// The answer to a text command.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum TextAnswer {
    /// What follows `OK` in one line, or the whole line of servers that leave it out.
    Line(Vec<u8>),
    /// The lines of a table, without the dot that ends it.
    Rows(Vec<Vec<u8>>),
}

impl TextAnswer {
    /// The fields of a table, which tabs separate. Of one line there are none.
    pub fn fields(&self) -> Vec<Vec<&[u8]>> {
        match self {
            TextAnswer::Line(_) => Vec::new(),
            TextAnswer::Rows(rows) => rows.iter().map(|row| row.split(|byte| *byte == b'\t').collect()).collect(),
        }
    }
}

/// A text command, and what has come of its answer.
pub(super) struct Text {
    pub(super) line: Vec<u8>,
    rows: Vec<Vec<u8>>,
}

impl Text {
    pub(super) fn new(line: &str) -> Text {
        Text { line: line.into(), rows: Vec::new() }
    }

    /// Whether a table answers it. Of others the first line is all.
    fn has_table(&self) -> bool {
        let word = self.line.split(|byte| byte.is_ascii_whitespace()).find(|word| !word.is_empty());
        let single: &[&[u8]] = &[
            b"version",
            b"verbose",
            b"getpid",
            b"maxqueue",
            b"cancel",
            b"create",
            b"drop",
            b"pause",
            b"resume",
            b"shutdown",
        ];
        !word.is_some_and(|word| single.iter().any(|single| word.eq_ignore_ascii_case(single)))
    }

    /// Takes a line: the answer, when it is the last one. An error is code and text.
    pub(super) fn line(&mut self, line: &[u8]) -> Option<Result<TextAnswer, (String, String)>> {
        let word = line.split(|byte| *byte == b' ').next().unwrap_or_default();
        let is_first = self.rows.is_empty();
        if is_first && word == b"ERR" && !line.contains(&b'\t') {
            let mut words = line[word.len()..].trim_ascii().splitn(2, |byte| *byte == b' ');
            let mut next = |read: fn(&[u8]) -> String| words.next().map(read).unwrap_or_default();
            return Some(Err((next(|code| String::from_utf8_lossy(code).into_owned()), next(readable))));
        }
        let has_table = self.has_table();
        if is_first && (!has_table || word == b"OK") && line != b"." {
            let rest = if word == b"OK" { line[word.len()..].trim_ascii_start() } else { line };
            return Some(Ok(TextAnswer::Line(rest.to_vec())));
        }
        if line == b"." {
            return Some(Ok(TextAnswer::Rows(std::mem::take(&mut self.rows))));
        }
        self.rows.push(line.to_vec());
        None
    }
}

/// Undoes the writing of spaces as `+` and of odd bytes as `%NN`.
fn readable(text: &[u8]) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((byte, after)) = rest.split_first() {
        let hex = after.get(..2).and_then(|two| u8::from_str_radix(std::str::from_utf8(two).ok()?, 16).ok());
        rest = after;
        match (byte, hex) {
            (b'+', _) => out.push(b' '),
            (b'%', Some(byte)) => {
                out.push(byte);
                rest = &after[2..];
            }
            (byte, _) => out.push(*byte),
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answers(command: &str, lines: &[&str]) -> Option<Result<TextAnswer, (String, String)>> {
        let mut text = Text::new(command);
        let mut answers: Vec<_> = lines.iter().map(|line| text.line(line.as_bytes())).collect();
        let last = answers.pop().flatten();
        assert!(answers.iter().all(Option::is_none));
        last
    }

    #[test]
    fn tables_end_with_a_dot_and_others_with_a_line() {
        let rows = |rows: &[&str]| Some(Ok(TextAnswer::Rows(rows.iter().map(|row| row.as_bytes().to_vec()).collect())));
        let line = |line: &str| Some(Ok(TextAnswer::Line(line.into())));
        assert_eq!(answers("status", &["f\t1\t0\t0", "."]), rows(&["f\t1\t0\t0"]));
        assert_eq!(answers("STATUS", &["."]), rows(&[]));
        assert_eq!(answers("status", &["OK\t1\t0\t0", "."]), rows(&["OK\t1\t0\t0"]));
        assert_eq!(answers(" version", &["OK 1.1"]), line("1.1"));
        assert_eq!(answers("getpid", &["812"]), line("812"));
        assert_eq!(answers("maxqueue f", &["OK"]), line(""));
        let error = Some(Err(("UNKNOWN_COMMAND".to_owned(), "Unknown server command: é".to_owned())));
        assert_eq!(answers("foo", &["ERR UNKNOWN_COMMAND Unknown+server+command:+%C3%A9"]), error);
        assert_eq!(readable(b"50%+%zz"), "50% %zz");
    }
}
