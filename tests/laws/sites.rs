//! The places in a source file that order memory, each with a name that stays when lines move.

/// An atomic operation stronger than `Relaxed`, or a fence.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Site {
    /// `FILE:FUNCTION:OPERATION`, with `#2` and so on when a function has several alike.
    pub(crate) key: String,
    pub(crate) line: u32,
    pub(crate) column: u32,
}

const METHODS: &[&str] = &[
    "load",
    "store",
    "swap",
    "compare_exchange",
    "compare_exchange_weak",
    "fetch_add",
    "fetch_sub",
    "fetch_or",
    "fetch_and",
];
const FENCES: &[&str] = &["fence_light", "fence_heavy", "fence_full"];
const STRONG: &[&str] = &["Acquire", "Release", "AcqRel", "SeqCst"];

/// The sites of a file, in order. Its tests, which come last, have none.
pub(crate) fn ordering_sites(path: &str, text: &str) -> Vec<Site> {
    let code = without_comments(text);
    let end = ["#[cfg(test)]", "#[cfg(all(test"].iter().filter_map(|mark| code.find(mark)).min();
    let code = &code[..end.unwrap_or(code.len())];
    let mut sites: Vec<Site> = Vec::new();
    let (mut function, mut before) = ("", "");
    for (at, word) in words(code) {
        if before == "fn" {
            function = word;
        }
        let found = if before == "fn" { None } else { operation(code, at, word) };
        before = word;
        let Some(operation) = found else { continue };
        let key = format!("{path}:{function}:{operation}");
        let alike = sites.iter().filter(|site| site.key.split('#').next() == Some(&key)).count();
        let key = if alike == 0 { key } else { format!("{key}#{}", alike + 1) };
        let line_start = code[..at].rfind('\n').map_or(0, |newline| newline + 1);
        let line = code[..at].matches('\n').count() + 1;
        sites.push(Site { key, line: line as u32, column: (at - line_start + 1) as u32 });
    }
    sites
}

/// What the word is called as an operation that orders something, if it is one.
fn operation(code: &str, at: usize, word: &str) -> Option<String> {
    let arguments = arguments(&code[at + word.len()..])?;
    if FENCES.contains(&word) {
        return Some(word.to_owned());
    }
    if word == "load_after_rmw" {
        return Some(format!("{}.{word}", words(without_index(arguments)).last()?.1));
    }
    let receiver = code[..at].trim_end().strip_suffix('.')?;
    let is_strong = STRONG.iter().any(|order| arguments.contains(&format!("Ordering::{order}")));
    let name = words(without_index(receiver)).last().map_or("", |(_, name)| name);
    (METHODS.contains(&word) && is_strong).then(|| format!("{name}.{word}"))
}

/// Without `[...]`, `(...)` and `?` at the end.
fn without_index(receiver: &str) -> &str {
    let receiver = receiver.trim_end().trim_end_matches('?');
    if !receiver.ends_with([']', ')']) {
        return receiver;
    }
    let mut depth = 0;
    let start = receiver.rfind(|c| {
        depth += i32::from(matches!(c, ']' | ')')) - i32::from(matches!(c, '[' | '('));
        depth == 0
    });
    without_index(&receiver[..start.unwrap_or(0)])
}

/// What is between the parentheses that `rest` begins with.
fn arguments(rest: &str) -> Option<&str> {
    let inner = rest.strip_prefix('(')?;
    let mut depth = 1;
    let end = inner.find(|c| {
        depth += i32::from(c == '(') - i32::from(c == ')');
        depth == 0
    });
    Some(&inner[..end?])
}

fn words(code: &str) -> impl Iterator<Item = (usize, &str)> {
    let pieces = code.split(|c: char| !(c.is_alphanumeric() || c == '_')).filter(|word| !word.is_empty());
    pieces.map(move |word| (word.as_ptr().addr() - code.as_ptr().addr(), word))
}

/// The same text with blanks for comments.
fn without_comments(text: &str) -> String {
    let line = |line: &str| {
        let code = line.find("//").map_or(line, |at| &line[..at]);
        format!("{code}{}", " ".repeat(line.len() - code.len()))
    };
    text.lines().map(line).collect::<Vec<_>>().join("\n")
}
