//! From an input to its files, in order, one at a time.

use super::{Input, Unreadable};
use std::cmp::Ordering;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use walkdir::{DirEntry, WalkDir};

/// The file `input`, or the files below it, sorted by the bytes of the whole path.
///
/// An input that is no folder comes out as it is: whether it can be read is for the job to find out, at its turn.
/// Memory follows the widest folders on one path, not the number of files.
pub(super) fn files(input: PathBuf) -> Box<dyn Iterator<Item = Input> + Send> {
    if fs::metadata(&input).is_ok_and(|found| found.is_dir()) {
        Box::new(below(&input))
    } else {
        Box::new(std::iter::once(Ok(input)))
    }
}

fn below(folder: &Path) -> impl Iterator<Item = Input> + Send + use<> {
    WalkDir::new(folder).sort_by(by_path).into_iter().filter_map(|entry| match entry {
        Ok(entry) => entry.file_type().is_file().then(|| Ok(entry.into_path())),
        Err(error) => Some(Err(unreadable(error))),
    })
}

/// Walking a folder in this order gives whole paths in byte order: all that is in a folder begins with its name and a
/// slash, so `a-b/x` comes before `a/x`, and `a.b` between the two.
fn by_path(a: &DirEntry, b: &DirEntry) -> Ordering {
    path_bytes(a).cmp(path_bytes(b))
}

fn path_bytes(entry: &DirEntry) -> impl Iterator<Item = u8> {
    let slash = entry.file_type().is_dir().then_some(b'/');
    entry.file_name().as_encoded_bytes().iter().copied().chain(slash)
}

fn unreadable(error: walkdir::Error) -> Unreadable {
    let path = error.path().unwrap_or(Path::new("")).to_owned();
    let text = error.to_string();
    // Only a loop of links has no cause from the system, and links are not followed.
    let error = error.into_io_error().unwrap_or_else(|| io::Error::other(text));
    Unreadable { path, error }
}
