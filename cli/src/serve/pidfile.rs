//! The file with the process id: locked while the server runs, and removed at the end.

use rustix::fs::{FlockOperation, flock};
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// A file that this process has locked.
pub(super) struct PidFile {
    path: PathBuf,
    file: File,
}

impl PidFile {
    /// Locks the file, which says nothing yet.
    ///
    /// # Errors
    /// When another process has it, or it cannot be written.
    pub(super) fn lock(path: &Path) -> Result<PidFile, String> {
        let cannot = |error: io::Error| format!("cannot write {}: {error}", path.display());
        loop {
            let flags = i32::try_from(rustix::fs::OFlags::NOFOLLOW.bits()).unwrap_or(0);
            let mut options = File::options();
            let options = options.read(true).write(true).create(true).truncate(false).mode(0o644).custom_flags(flags);
            let file = options.open(path).map_err(cannot)?;
            if let Err(error) = flock(&file, FlockOperation::NonBlockingLockExclusive) {
                if error != rustix::io::Errno::WOULDBLOCK {
                    return Err(cannot(error.into()));
                }
                let pid = fs::read_to_string(path).unwrap_or_default();
                let pid = pid.trim().parse::<u32>().map_or(String::new(), |pid| format!(", pid {pid},"));
                return Err(format!("{} is locked: another server{pid} runs with it", path.display()));
            }
            // Whoever had it before may have removed it meanwhile.
            if is_same(&file, path) {
                return Ok(PidFile { path: path.to_owned(), file });
            }
        }
    }

    /// Writes this process's id.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(super) fn write(&mut self) -> Result<(), String> {
        let cannot = |error: io::Error| format!("cannot write {}: {error}", self.path.display());
        self.file.set_len(0).map_err(cannot)?;
        writeln!(self.file, "{}", std::process::id()).map_err(cannot)
    }
}

fn is_same(file: &File, path: &Path) -> bool {
    let there = fs::symlink_metadata(path).ok().map(|there| (there.dev(), there.ino()));
    file.metadata().ok().map(|here| (here.dev(), here.ino())) == there
}

impl Drop for PidFile {
    fn drop(&mut self) {
        // While it is locked: nobody else's.
        if is_same(&self.file, &self.path) {
            let _ = fs::remove_file(&self.path);
        }
    }
}
