//! What the commands share that talk to Gearman servers: the client, and what its errors mean for the exit code.

pub(crate) mod function;
pub(crate) mod time;

use crate::args::Tls;
use crate::name::spelled;
use crate::{EXIT_JOB_FAILED, EXIT_USAGE};
use layshaft::gearman::{Client, ClientBuilder, ClientError, TextAnswer};
use std::error::Error;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

/// Exit code: no server can be reached, or the connection was lost.
pub(crate) const EXIT_CANNOT_CONNECT: u8 = 3;
/// Exit code: it took too long.
pub(crate) const EXIT_TIMED_OUT: u8 = 4;
/// Exit code: the server refused.
pub(crate) const EXIT_REFUSED: u8 = 5;

/// How long a look may take that only makes a message better.
const LOOK: Duration = Duration::from_secs(1);

/// A client of these servers, to be started.
pub(crate) fn builder(servers: &str, tls: &Tls) -> ClientBuilder {
    let builder = Client::builder().server(servers);
    tls.options().iter().fold(builder, ClientBuilder::tls)
}

/// What an error means for the exit code.
pub(crate) fn exit_code(error: &ClientError) -> u8 {
    match error {
        ClientError::Address(_) | ClientError::Tls(_) | ClientError::InvalidJob(_) => EXIT_USAGE,
        ClientError::TimedOut { .. } | ClientError::Silent { .. } => EXIT_TIMED_OUT,
        ClientError::Server { .. } => EXIT_REFUSED,
        error if error.is_connection() => EXIT_CANNOT_CONNECT,
        _ => EXIT_JOB_FAILED,
    }
}

/// An error with its causes, in one line.
pub(crate) fn told(error: &ClientError) -> String {
    match error.source() {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}

/// Bytes of a peer, for a message or a table.
pub(crate) fn shown(bytes: &[u8]) -> String {
    spelled(OsStr::from_bytes(bytes))
}

/// Says that nobody does this function, and what there is, when that is so and a server says it at once.
pub(crate) fn nobody_does(client: &Client, function: &[u8]) -> Option<String> {
    let mut others = Vec::new();
    for server in 0..client.servers().len() {
        let Ok(Ok(answer @ TextAnswer::Rows(_))) = client.admin(server, "status").wait_timeout(LOOK) else {
            return None;
        };
        for row in answer.fields() {
            let (Some(name), Some(workers)) = (row.first(), row.get(3)) else { continue };
            match (*name == function, *workers == b"0") {
                (true, false) => return None,
                (false, false) => others.push(shown(name)),
                _ => {}
            }
        }
    }
    let name = shown(function);
    Some(match others.is_empty() {
        true => format!("no worker has registered \"{name}\", nor anything else"),
        false => format!("no worker has registered \"{name}\". Registered: {}", others.join(", ")),
    })
}
