//! Rows of fields, as columns that stand under each other.

use layshaft::gearman::TextAnswer;

/// The columns of a command's table.
pub(super) struct Columns {
    pub(super) names: &'static [&'static str],
    are_words: bool,
}

impl Columns {
    /// Those of a command. Of one that is not known, none have names.
    pub(super) fn of(command: &str) -> Columns {
        let words: Vec<String> = command.split_whitespace().map(str::to_ascii_lowercase).collect();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let names: &[&str] = match words.as_slice() {
            ["status"] => &["function", "total", "running", "workers"],
            ["prioritystatus"] => &["function", "high", "normal", "low", "workers"],
            ["workers"] => &["fd", "ip", "id", "functions"],
            ["show", "jobs"] => &["job", "retries", "ignored", "queued"],
            ["show", "unique", "jobs"] => &["key"],
            _ => &[],
        };
        Columns { names, are_words: words.as_slice() == ["workers"] }
    }

    /// Each row's fields, readable.
    pub(super) fn split(&self, answer: &TextAnswer, rows: &[Vec<u8>]) -> Vec<Vec<String>> {
        if !self.are_words {
            let fields = answer.fields().into_iter();
            return fields.map(|row| row.into_iter().map(cell).collect()).collect();
        }
        // `FD IP ID : FUNCTION...`, of which there may be none.
        let split = |row: &Vec<u8>| {
            let text = cell(row);
            let only_peer = text.strip_suffix(" :").unwrap_or(&text);
            let (peer, functions) = text.split_once(" : ").unwrap_or((only_peer, ""));
            let peer = peer.splitn(3, ' ').map(|word| word.trim().to_owned());
            peer.chain([functions.trim().to_owned()]).collect()
        };
        rows.iter().map(split).collect()
    }
}

/// A field, readable. Backslashes stay: servers that escape names write them.
pub(super) fn cell(bytes: &[u8]) -> String {
    let mut text = String::new();
    for part in bytes.utf8_chunks() {
        for c in part.valid().chars() {
            if c.is_control() { text.extend(c.escape_default()) } else { text.push(c) }
        }
        part.invalid().iter().for_each(|byte| text += &format!("\\x{byte:02x}"));
    }
    text
}

/// Rows under a heading.
pub(super) struct Table {
    has_servers: bool,
    heading: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// With a column for the server, when there are several.
    pub(super) fn new(has_servers: bool, columns: &Columns) -> Table {
        let mut heading: Vec<String> = columns.names.iter().map(|name| name.to_uppercase()).collect();
        if has_servers && !heading.is_empty() {
            heading.insert(0, "SERVER".to_owned());
        }
        Table { has_servers, heading, rows: Vec::new() }
    }

    pub(super) fn row(&mut self, server: &str, mut fields: Vec<String>) {
        if self.has_servers {
            fields.insert(0, server.to_owned());
        }
        self.rows.push(fields);
    }

    /// Text to the left, numbers to the right, two spaces between.
    pub(super) fn print(&self) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0).max(self.heading.len());
        let all = || [&self.heading].into_iter().chain(&self.rows);
        let at = |row: &Vec<String>, i: usize| row.get(i).cloned().unwrap_or_default();
        let widths: Vec<usize> =
            (0..columns).map(|i| all().map(|row| at(row, i).chars().count()).max().unwrap_or(0)).collect();
        let is_number = |text: String| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let is_first = |i: usize| i == usize::from(self.has_servers);
        let right: Vec<bool> = (0..columns)
            .map(|i| !is_first(i) && !self.rows.is_empty() && self.rows.iter().all(|row| is_number(at(row, i))))
            .collect();
        let mut text = String::new();
        for row in all().filter(|row| !row.is_empty()) {
            let cells = (0..columns).map(|i| match right[i] {
                true => format!("{:>1$}", at(row, i), widths[i]),
                false => format!("{:<1$}", at(row, i), widths[i]),
            });
            text += cells.collect::<Vec<_>>().join("  ").trim_end();
            text.push('\n');
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(command: &str, rows: &[&str], has_servers: bool) -> String {
        let columns = Columns::of(command);
        let rows: Vec<Vec<u8>> = rows.iter().map(|row| row.as_bytes().to_vec()).collect();
        let mut table = Table::new(has_servers, &columns);
        let answer = TextAnswer::Rows(rows.clone());
        columns.split(&answer, &rows).into_iter().for_each(|row| table.row("a:1", row));
        table.print()
    }

    #[test]
    fn columns_stand_under_each_other() {
        let want = "FUNCTION  TOTAL  RUNNING  WORKERS\nresize       12        3        4\nx\\u{1b}       0        0        0\n";
        assert_eq!(table("status", &["resize\t12\t3\t4", "x\x1b\t0\t0\t0"], false), want);
        let want = "SERVER  FD  IP   ID  FUNCTIONS\na:1     30  ::1  -   f g\na:1     31  ::1  -\n";
        assert_eq!(table("Workers", &["30 ::1 - : f g", "31 ::1 - :"], true), want);
        assert_eq!(table("status", &[], false), "FUNCTION  TOTAL  RUNNING  WORKERS\n");
        assert_eq!(table("other", &["a\tb", "c"], false), "a  b\nc\n");
    }
}
