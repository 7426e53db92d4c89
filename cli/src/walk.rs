//! From inputs to files, in order, one at a time.

use std::cmp::Ordering;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use walkdir::{DirEntry, WalkDir};

/// The input that stands for standard input.
pub(crate) const STDIN: &str = "-";

/// A place that could not be looked at.
#[derive(Debug)]
pub(crate) struct Unreadable {
    pub(crate) path: PathBuf,
    pub(crate) error: io::Error,
}

/// The files named by, or below, `inputs`: those in the order given, the files of a folder sorted by the bytes of the
/// whole path.
///
/// An input that is no folder comes out as it is: whether it can be read is for the job to find out, at its turn.
/// Memory follows the widest folders on one path, not the number of files.
pub(crate) fn files(inputs: &[OsString]) -> impl Iterator<Item = Result<PathBuf, Unreadable>> {
    inputs.iter().map(Path::new).flat_map(|input| {
        let is_folder = input.as_os_str() != STDIN && fs::metadata(input).is_ok_and(|found| found.is_dir());
        let file = (!is_folder).then(|| Ok(input.to_owned()));
        let below = is_folder.then(|| below(input));
        file.into_iter().chain(below.into_iter().flatten())
    })
}

fn below(folder: &Path) -> impl Iterator<Item = Result<PathBuf, Unreadable>> {
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
