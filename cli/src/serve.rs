//! The command `serve`: a Gearman server.

use crate::args::serve::{Compat, Serve};
use crate::{EXIT_USAGE, complain};
use layshaft::Engine;
use layshaft::gearman::{Compat as With, Server, ServerBuilder};
use signal_hook::consts::{SIGINT, SIGTERM, SIGUSR1};
use signal_hook::iterator::Signals;
use std::io;
use std::net::ToSocketAddrs;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

const ADDRESS: &str = "127.0.0.1";
const PORT: u16 = 4730;

pub(crate) fn run(options: &Serve) -> u8 {
    match serve(options) {
        Ok(()) => 0,
        Err(message) => {
            complain(io::stderr(), message);
            EXIT_USAGE
        }
    }
}

fn serve(options: &Serve) -> Result<(), String> {
    let engine = Engine::new().map_err(|error| format!("cannot start the engine: {error}"))?;
    let mut builder = Server::builder(&engine);
    if let Some(compat) = options.compat {
        builder = builder.compat(match compat {
            Compat::Gearmand => With::Gearmand,
            Compat::Perl => With::Perl,
        });
    }
    builder = builder.job_retries(options.job_retries).threads(options.threads.max(1).into());
    builder = builder.allow_shutdown(options.allow_shutdown);
    if options.max_queue > 0 {
        builder = builder.max_queue(options.max_queue, layshaft::Overflow::Reject);
    }
    for address in addresses(options) {
        builder = listen(builder, &address, options.insecure)?;
    }
    let signals =
        Signals::new([SIGTERM, SIGINT, SIGUSR1]).map_err(|error| format!("cannot wait for signals: {error}"))?;
    let server = Arc::new(builder.start().map_err(|error| error.to_string())?);
    for address in server.addresses() {
        complain(io::stderr(), format_args!("listening on {address}"));
    }
    if let Some(path) = &options.pidfile {
        write_pid(path)?;
    }
    end_on(signals, Arc::clone(&server), options.drain);
    server.wait();
    if let Some(path) = &options.pidfile {
        // It may be gone.
        let _ = std::fs::remove_file(path);
    }
    Ok(())
}

/// Where to listen, as asked by one way or the other.
fn addresses(options: &Serve) -> Vec<String> {
    let port = options.port.unwrap_or(PORT);
    let mut addresses = options.listen.clone();
    addresses.extend(options.host.as_ref().map(|host| with_port(host, port)));
    if addresses.is_empty() {
        addresses.push(format!("{ADDRESS}:{port}"));
    }
    addresses
}

fn with_port(host: &str, port: u16) -> String {
    if host.contains(':') && !host.starts_with('[') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

fn listen(builder: ServerBuilder, address: &str, insecure: bool) -> Result<ServerBuilder, String> {
    if address.contains('/') {
        return Ok(builder.listen_unix(address.strip_prefix("unix:").unwrap_or(address)));
    }
    let resolved = address.to_socket_addrs().map_err(|error| format!("cannot listen on {address}: {error}"))?;
    let outside = resolved.into_iter().find(|address| !address.ip().is_loopback());
    if let Some(outside) = outside.filter(|_| !insecure) {
        return Err(format!(
            "{outside} can be reached from other machines, and the protocol knows no passwords: anyone there could submit \
             and take jobs. Listen on 127.0.0.1, or say --insecure if the network is trusted"
        ));
    }
    Ok(builder.listen(address))
}

fn write_pid(path: &Path) -> Result<(), String> {
    std::fs::write(path, format!("{}\n", std::process::id()))
        .map_err(|error| format!("cannot write {}: {error}", path.display()))
}

/// The first signal drains, the second ends; so does the end of the time for draining.
fn end_on(mut signals: Signals, server: Arc<Server>, limit: Duration) {
    thread::spawn(move || {
        let mut caught = signals.forever();
        if caught.next().is_some() {
            complain(io::stderr(), format_args!("ending when jobs in hand have ended, or in {} s", limit.as_secs()));
            server.drain(limit);
        }
        if caught.next().is_some() {
            server.end();
        }
    });
}
