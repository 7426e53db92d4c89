//! Metrics, as Prometheus reads them: `GET /metrics`, and nothing else.

use super::log::shown;
use layshaft::gearman::{FunctionStatus, Server, ServerStatus, Times};
use std::fmt::{Display, Write as _};
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::thread;
use std::time::{Duration, Instant};

/// Who asks at once.
const MOST: usize = 8;
/// Bytes of a request's head.
const HEAD: usize = 8 << 10;
/// How long a request, or an answer, may take.
const DEADLINE: Duration = Duration::from_secs(10);
/// After a connection that could not be accepted.
const PAUSE: Duration = Duration::from_millis(100);

/// Answers while the server is there.
///
/// # Errors
/// When there is no thread to be had.
pub(super) fn serve(listener: TcpListener, server: &Arc<Server>) -> io::Result<()> {
    let (server, busy) = (Arc::downgrade(server), Arc::new(AtomicUsize::new(0)));
    thread::Builder::new().name("metrics".to_owned()).spawn(move || {
        for stream in listener.incoming() {
            let Ok(stream) = stream else {
                // Of a peer that is gone already; or for want of files, and nothing tells when there are some again.
                thread::park_timeout(PAUSE);
                continue;
            };
            let Some(seat) = Seat::take(&busy) else { continue };
            let server = Weak::clone(&server);
            let answer = move || {
                // Who does not listen gets no answer.
                let _ = answer(stream, &server);
                drop(seat);
            };
            // Without a thread there is no answer.
            let _ = thread::Builder::new().name("metrics".to_owned()).spawn(answer);
        }
    })?;
    Ok(())
}

/// One of those who ask at once, however that ends.
struct Seat(Arc<AtomicUsize>);

impl Seat {
    /// `None` when all are taken.
    fn take(busy: &Arc<AtomicUsize>) -> Option<Seat> {
        // Ordering: Relaxed, counter only.
        let others = busy.fetch_add(1, Ordering::Relaxed);
        let seat = Seat(Arc::clone(busy));
        (others < MOST).then_some(seat)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        // Ordering: Relaxed, counter only.
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn answer(mut stream: TcpStream, server: &Weak<Server>) -> io::Result<()> {
    stream.set_write_timeout(Some(DEADLINE))?;
    let head = head(&mut stream)?;
    let mut words = head.split(|byte| byte.is_ascii_whitespace());
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let path = target.split(|byte| *byte == b'?').next().unwrap_or_default();
    let (status, kind, body) = match (method, path, server.upgrade()) {
        (b"GET", b"/metrics", Some(server)) => {
            ("200 OK", "text/plain; version=0.0.4; charset=utf-8", exposition(&server.status()))
        }
        (b"GET", b"/metrics", None) => ("503 Service Unavailable", "text/plain", "the server has ended\n".to_owned()),
        (b"GET", ..) => ("404 Not Found", "text/plain", "there is /metrics\n".to_owned()),
        _ => ("405 Method Not Allowed", "text/plain", "there is GET /metrics\n".to_owned()),
    };
    let length = body.len();
    let head =
        format!("HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
    stream.write_all(&[head.as_bytes(), body.as_bytes()].concat())
}

/// Reads to the empty line.
fn head(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let end = Instant::now() + DEADLINE;
    let (mut head, mut part) = (Vec::new(), [0; 1024]);
    while !head.windows(4).any(|four| four == b"\r\n\r\n") {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() || head.len() > HEAD {
            return Err(io::ErrorKind::InvalidData.into());
        }
        stream.set_read_timeout(Some(left))?;
        match stream.read(&mut part)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            read => head.extend_from_slice(&part[..read]),
        }
    }
    Ok(head)
}

/// What Prometheus reads.
struct Text(String);

impl Text {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        self.line(format_args!("# HELP layshaft_{name} {help}\n# TYPE layshaft_{name} {kind}"));
    }

    fn line(&mut self, line: impl Display) {
        // Writing to a string cannot fail.
        let _ = writeln!(self.0, "{line}");
    }

    fn single(&mut self, name: &str, kind: &str, help: &str, value: impl Display) {
        self.family(name, kind, help);
        self.line(format_args!("layshaft_{name} {value}"));
    }

    fn each(
        &mut self,
        (name, kind, help): (&str, &str, &str),
        functions: &[(String, &FunctionStatus)],
        value: impl Fn(&FunctionStatus) -> u64,
    ) {
        self.family(name, kind, help);
        for (function, status) in functions {
            self.line(format_args!("layshaft_{name}{{function=\"{function}\"}} {}", value(status)));
        }
    }

    fn times(
        &mut self,
        name: &str,
        help: &str,
        functions: &[(String, &FunctionStatus)],
        times: fn(&FunctionStatus) -> &Times,
    ) {
        self.family(name, "histogram", help);
        for (function, status) in functions {
            let times = times(status);
            if times.count() == 0 {
                continue;
            }
            for (bound, count) in times.buckets() {
                let bound = bound.map_or("+Inf".to_owned(), |bound| bound.as_secs_f64().to_string());
                self.line(format_args!("layshaft_{name}_bucket{{function=\"{function}\",le=\"{bound}\"}} {count}"));
            }
            let sum = times.sum().as_secs_f64();
            self.line(format_args!("layshaft_{name}_sum{{function=\"{function}\"}} {sum}"));
            self.line(format_args!("layshaft_{name}_count{{function=\"{function}\"}} {}", times.count()));
        }
    }
}

fn exposition(status: &ServerStatus) -> String {
    // A backslash is the label's escape, too.
    let label = |name: &[u8]| shown(name).replace('\\', "\\\\");
    let functions: Vec<(String, &FunctionStatus)> =
        status.functions.iter().map(|function| (label(&function.name), function)).collect();
    let functions = functions.as_slice();
    let mut text = Text(String::new());
    text.family("queued_jobs", "gauge", "Jobs in the queue.");
    for (name, function) in functions {
        let queued = &function.queued;
        for (priority, jobs) in [("high", queued.high), ("normal", queued.normal), ("low", queued.low)] {
            text.line(format_args!("layshaft_queued_jobs{{function=\"{name}\",priority=\"{priority}\"}} {jobs}"));
        }
    }
    text.each(("held_jobs", "gauge", "Jobs that wait for their time."), functions, |f| f.held as u64);
    text.each(("running_jobs", "gauge", "Running jobs."), functions, |f| f.running as u64);
    text.each(("workers", "gauge", "Workers that can do it."), functions, |f| f.workers as u64);
    text.each(("jobs_done_total", "counter", "Jobs that have a result."), functions, |f| f.done);
    text.each(("jobs_failed_total", "counter", "Jobs that ended otherwise."), functions, |f| f.failed);
    text.each(("jobs_requeued_total", "counter", "Jobs that were queued again."), functions, |f| f.requeued);
    text.each(("jobs_timed_out_total", "counter", "Jobs that a worker had for too long."), functions, |f| f.timed_out);
    text.each(("jobs_evicted_total", "counter", "Jobs that had to make room for others."), functions, |f| f.evicted);
    text.times("job_wait_seconds", "How long jobs waited for a worker.", functions, |f| &f.waits);
    text.times("job_run_seconds", "How long workers had jobs.", functions, |f| &f.runs);
    let counters = &status.counters;
    text.single("connections", "gauge", "Open connections.", status.connections);
    text.single("job_bytes", "gauge", "Bytes that all jobs take.", status.job_bytes);
    for (name, help, value) in [
        ("connections_total", "Connections that came and stayed.", counters.connections),
        ("connections_refused_total", "Connections that were one too many.", counters.turned_away),
        ("slow_senders_total", "Connections whose peers were too slow to send.", counters.slow_senders),
        ("slow_readers_total", "Connections whose peers were too slow to read.", counters.slow_readers),
        ("connections_not_allowed_total", "Connections from where none may come.", counters.not_allowed),
        ("tls_failed_total", "Handshakes that failed, and connections that broke TLS later.", counters.tls_failed),
        ("tls_missing_total", "Connections that came without TLS where it is needed.", counters.tls_missing),
        ("submits_total", "Submits, of any outcome.", counters.submits),
        ("submits_coalesced_total", "Submits that joined another job.", counters.coalesced),
        ("submits_refused_total", "Submits that were refused.", counters.refused),
        ("wakeups_total", "Wake-ups that were sent to workers.", counters.wakes),
        ("jobs_handed_out_total", "Jobs that were given to workers, each time.", counters.handed_out),
        ("errors_total", "Errors that peers were told.", counters.errors),
    ] {
        text.single(name, "counter", help, value);
    }
    text.family("build_info", "gauge", "The version.");
    text.line(format_args!("layshaft_build_info{{version=\"{}\"}} 1", env!("CARGO_PKG_VERSION")));
    text.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seat_is_free_again_however_an_answer_ends() {
        let busy = Arc::new(AtomicUsize::new(0));
        let seats: Vec<Seat> = (0..MOST).map_while(|_| Seat::take(&busy)).collect();
        assert_eq!(seats.len(), MOST);
        assert!(Seat::take(&busy).is_none());
        for seat in seats {
            let answer = move || {
                let _seat = seat;
                std::panic::resume_unwind(Box::new("an answer that panics"));
            };
            assert!(thread::spawn(answer).join().is_err());
        }
        // Ordering: Relaxed, the threads have ended.
        assert_eq!(busy.load(Ordering::Relaxed), 0);
    }
}
