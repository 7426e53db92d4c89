//! `layshaft submit`: one job, to Gearman servers.

use crate::args::Submit;
use crate::bell::Bell;
use crate::found::Bytes;
use crate::inputs::STDIN;
use crate::remote::{self, EXIT_TIMED_OUT, nobody_does, shown, told};
use crate::{EXIT_JOB_FAILED, EXIT_USAGE, complain, name};
use layshaft::Priority;
use layshaft::gearman::{Client, ClientError, RemoteId, RemoteSubmit, RemoteUpdate};
use serde::Serialize;
use std::io::{self, ErrorKind, IsTerminal, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::{Duration, Instant};

/// Between looks at a background job that is waited for.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// What `--json` prints.
#[derive(Default, Serialize)]
struct Line {
    #[serde(skip_serializing_if = "Option::is_none")]
    job: Option<Bytes>,
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<Bytes>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Bytes>,
}

/// Runs the command; its exit code.
pub(crate) fn run(options: &Submit) -> u8 {
    let payload = match payload(options) {
        Ok(payload) => payload,
        Err(message) => {
            complain(io::stderr(), message);
            return EXIT_USAGE;
        }
    };
    let builder = remote::builder(&options.servers.list(), &options.servers.tls)
        .namespace(options.namespace.as_deref().unwrap_or_default());
    let client = match builder.start() {
        Ok(client) => client,
        Err(error) => return failed(options, &error, Line::default()),
    };
    let mut submit = client.job(options.function.as_bytes(), payload).retries(options.retries);
    if let Some(key) = &options.unique {
        submit = submit.unique(key);
    }
    if let Some(limit) = options.timeout {
        submit = submit.timeout(limit);
    }
    match options.at {
        Some(at) => background(options, &client, submit.at(at.0)),
        None => {
            let submit = submit.priority(match (options.high, options.low) {
                (true, _) => Priority::High,
                (_, true) => Priority::Low,
                _ => Priority::Normal,
            });
            if options.background { background(options, &client, submit) } else { foreground(options, &client, submit) }
        }
    }
}

/// The payload, or why there is none.
fn payload(options: &Submit) -> Result<Vec<u8>, String> {
    if let Some(data) = &options.data {
        return Ok(data.as_bytes().to_vec());
    }
    // As other clients have it; but nobody is to wonder at a terminal what it waits for.
    let file = match &options.file {
        Some(file) => file,
        None if io::stdin().is_terminal() => return Ok(Vec::new()),
        None => Path::new(STDIN),
    };
    let read = if file.as_os_str() == STDIN {
        let mut bytes = Vec::new();
        io::stdin().read_to_end(&mut bytes).map(|_| bytes)
    } else {
        std::fs::read(file)
    };
    read.map_err(|error| format!("cannot read {}: {error}", name::quoted(file.as_os_str())))
}

fn foreground(options: &Submit, client: &Client, submit: RemoteSubmit) -> u8 {
    let (submit, updates) = submit.updates();
    let handle = match submit.submit() {
        Ok(handle) => handle,
        Err(error) => return failed(options, &error, Line::default()),
    };
    let mut line = Line::default();
    for update in updates {
        if let Err(error) = tell(options, update, &mut line) {
            return unwritable(&error);
        }
    }
    match handle.wait() {
        Err(error) => {
            let code = failed(options, &error, line);
            if matches!(error, ClientError::TimedOut { .. }) {
                remark_nobody(options, client, "");
            }
            code
        }
        Ok(result) if options.json => print_json(&Line { result: Some(Bytes(result)), ..line }),
        Ok(result) => print(&result),
    }
}

/// Shows an update. With `--json` it becomes part of the line.
fn tell(options: &Submit, update: RemoteUpdate, line: &mut Line) -> io::Result<()> {
    match update {
        RemoteUpdate::Created(id) => line.job = Some(Bytes(id.name().to_vec())),
        RemoteUpdate::Data(data) if options.json => {
            line.data.get_or_insert_with(|| Bytes(Vec::new())).0.extend_from_slice(&data);
        }
        RemoteUpdate::Data(data) => {
            let mut output = io::stdout().lock();
            output.write_all(&data).and_then(|()| output.flush())?;
        }
        RemoteUpdate::Warning(text) => complain(io::stderr(), format_args!("warning: {}", shown(&text))),
        RemoteUpdate::Status { numerator, denominator } if options.progress => {
            complain(io::stderr(), format_args!("{numerator} of {denominator} done"));
        }
        RemoteUpdate::Retry(n) => complain(io::stderr(), format_args!("attempt {n} failed, submitted again")),
        _ => {}
    }
    Ok(())
}

fn background(options: &Submit, client: &Client, submit: RemoteSubmit) -> u8 {
    let started = Instant::now();
    let id = match submit.submit_background().and_then(|reply| reply.wait()) {
        Ok(id) => id,
        Err(error) => return failed(options, &error, Line::default()),
    };
    let code = match options.json {
        true => print_json(&Line { job: Some(Bytes(id.name().to_vec())), ..Line::default() }),
        false => print(format!("{id}\n").as_bytes()),
    };
    remark_nobody(options, client, &format!("queued as {id}, but "));
    if code != 0 || !options.wait {
        return code;
    }
    let end = options.timeout.and_then(|limit| started.checked_add(limit));
    match wait_until_gone(client, &id, end, options.progress) {
        Ok(true) => 0,
        Ok(false) => {
            complain(io::stderr(), format_args!("{id} has not ended in time; it goes on"));
            EXIT_TIMED_OUT
        }
        Err(error) => failed(options, &error, Line::default()),
    }
}

/// Whether it ended in time. Asks again and again: the protocol tells nobody of the end of a background job.
fn wait_until_gone(client: &Client, id: &RemoteId, end: Option<Instant>, progress: bool) -> Result<bool, ClientError> {
    let (mut last, bell) = (None, Bell::here());
    loop {
        let status = client.status(id).wait()?;
        if !status.is_known {
            return Ok(true);
        }
        let so_far = (status.numerator, status.denominator);
        if progress && so_far.1 > 0 && last.replace(so_far) != Some(so_far) {
            complain(io::stderr(), format_args!("{} of {} done", so_far.0, so_far.1));
        }
        if end.is_some_and(|end| Instant::now() >= end) {
            return Ok(false);
        }
        bell.wait(Some(LOOK_AGAIN));
    }
}

/// Says so when no worker does what is asked for. Not among JSON.
fn remark_nobody(options: &Submit, client: &Client, before: &str) {
    if options.json {
        return;
    }
    let mut function = Vec::new();
    if let Some(namespace) = &options.namespace {
        function.extend_from_slice(namespace.as_bytes());
        function.push(b'\t');
    }
    function.extend_from_slice(options.function.as_bytes());
    if let Some(text) = nobody_does(client, &function) {
        complain(io::stderr(), format_args!("{before}{text}"));
    }
}

/// Tells of an error; the exit code.
fn failed(options: &Submit, error: &ClientError, line: Line) -> u8 {
    let code = remote::exit_code(error);
    if options.json {
        let written = print_json(&Line { error: Some(told(error)), ..line });
        return if written == 0 { code } else { written };
    }
    complain(io::stderr(), told(error));
    code
}

fn print_json(line: &Line) -> u8 {
    let mut text = serde_json::to_vec(line).expect("strings, with names for keys");
    text.push(b'\n');
    print(&text)
}

fn print(bytes: &[u8]) -> u8 {
    let mut output = io::stdout().lock();
    output.write_all(bytes).and_then(|()| output.flush()).map_or_else(|error| unwritable(&error), |()| 0)
}

/// Nobody reads on: the reader has what it wanted. Anything else is an error.
fn unwritable(error: &io::Error) -> u8 {
    if error.kind() == ErrorKind::BrokenPipe {
        return 0;
    }
    complain(io::stderr(), format_args!("cannot write to standard output: {error}"));
    EXIT_JOB_FAILED
}
