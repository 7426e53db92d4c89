//! A function of Gearman servers, as `map` runs it: a file's bytes are the payload.

use super::{builder, exit_code, told};
use crate::args::Tls;
use crate::builtin::Builtin;
use crate::inputs::STDIN;
use crate::program::Failed;
use crate::work::Failure;
use clap::ValueEnum;
use layshaft::gearman::{Client, ClientError, RemoteUpdate};
use std::ffi::OsStr;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Jobs on their way at once, unless told otherwise: a thread waits for each.
pub(crate) const IN_FLIGHT: u16 = 64;

/// A function of Gearman servers.
pub(crate) struct Remote {
    client: Client,
    function: Vec<u8>,
    timeout: Option<Duration>,
}

impl Remote {
    /// Looks whether anybody is there, so that a wrong address is told once and before anything runs; or the exit code and
    /// what to say.
    pub(crate) fn open(
        servers: &str,
        tls: &Tls,
        function: &OsStr,
        timeout: Option<Duration>,
    ) -> Result<Remote, (u8, String)> {
        let refused = |error: ClientError| (exit_code(&error), told(&error));
        let client = builder(servers, tls).start().map_err(refused)?;
        client.echo("").wait().map_err(refused)?;
        Ok(Remote { client, function: function.as_bytes().to_vec(), timeout })
    }

    /// The built-in function of the same name.
    pub(crate) fn builtin(&self) -> Option<Builtin> {
        Builtin::value_variants().iter().copied().find(|builtin| builtin.name().as_bytes() == self.function)
    }

    /// Runs it for one input: what came back, and how much was sent.
    pub(crate) fn run(&self, input: &Path) -> Result<(Vec<u8>, u64), Failure> {
        let payload = read(input).map_err(Failure::Unreadable)?;
        let sent = payload.len() as u64;
        let came = Arc::new(Mutex::new(Vec::new()));
        let theirs = Arc::clone(&came);
        let mut submit = self.client.job(&self.function, payload).on_update(move |update| {
            if let RemoteUpdate::Data(data) = update {
                theirs.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(data);
            }
        });
        if let Some(limit) = self.timeout {
            submit = submit.timeout(limit);
        }
        let ended = submit.submit().and_then(|handle| handle.wait());
        let mut came = std::mem::take(&mut *came.lock().unwrap_or_else(PoisonError::into_inner));
        match ended {
            Ok(result) => {
                came.extend(result);
                Ok((came, sent))
            }
            Err(error) => Err(Failure::Program(Failed { why: told(&error), printed: came })),
        }
    }
}

fn read(input: &Path) -> io::Result<Vec<u8>> {
    if input.as_os_str() != STDIN {
        return std::fs::read(input);
    }
    let mut bytes = Vec::new();
    io::stdin().read_to_end(&mut bytes)?;
    Ok(bytes)
}
