//! The tree's Rust files.

use std::path::{Path, PathBuf};

/// A file and its text.
pub(crate) struct Source {
    /// From the root, with forward slashes.
    pub(crate) path: String,
    pub(crate) text: String,
}

impl Source {
    pub(crate) fn new(path: &str, text: &str) -> Source {
        Source { path: path.to_owned(), text: text.to_owned() }
    }
}

pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every Rust file below a folder, sorted; none when the folder is missing.
pub(crate) fn rust_files(folder: &str) -> Vec<Source> {
    let mut found = Vec::new();
    visit(&root().join(folder), &mut found);
    found.sort();
    let source = |path: PathBuf| {
        let name = path.strip_prefix(root()).expect("below the root").to_string_lossy().into_owned();
        Source { path: name, text: std::fs::read_to_string(&path).expect("a readable file") }
    };
    found.into_iter().map(source).collect()
}

fn visit(folder: &Path, found: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for path in entries.map(|entry| entry.expect("a readable entry").path()) {
        if path.is_dir() && path.file_name().is_some_and(|name| name != "target") {
            visit(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
}

/// The files below `folder` and not below `except`.
pub(crate) fn under<'a>(files: &'a [Source], folder: &'a str, except: &'a str) -> impl Iterator<Item = &'a Source> {
    files.iter().filter(move |s| s.path.starts_with(folder) && !s.path.starts_with(except))
}

/// Lines that are not comments, with their numbers.
pub(crate) fn code(source: &Source) -> impl Iterator<Item = (usize, &str)> {
    let numbered = source.text.lines().enumerate().map(|(i, line)| (i + 1, line));
    numbered.filter(|(_, line)| !line.trim_start().starts_with("//"))
}
