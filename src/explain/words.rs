//! Reasons in words: one line each, and what to do next.

use super::{BusyThread, Explanation, Outcome, Reason};
use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant};

/// Functions that are named where all threads are busy; the others are counted.
const NAMED: usize = 4;

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, reason) in self.reasons.iter().enumerate() {
            f.write_str(if i > 0 { "\n" } else { "" })?;
            reason.fmt(f)?;
        }
        Ok(())
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::Ended(outcome) => outcome.fmt(f),
            Reason::OtherFunction => {
                f.write_str("the job is not this function's; ask the function it was submitted to")
            }
            Reason::Running { threads, attempt } => {
                write!(f, "the job is running{}", Attempt(*attempt))?;
                match threads.as_slice() {
                    [] => Ok(()),
                    [thread] => write!(f, ": thread {thread} runs this function"),
                    threads => write!(f, ": threads {} run this function", threads.join(", ")),
                }
            }
            Reason::Pulled { attempt } => write!(
                f,
                "a consumer set has pulled the job{} and has not finished it; see what became of its completer",
                Attempt(*attempt)
            ),
            Reason::Paused { until: None } => f.write_str("the function is paused; `resume` lets its jobs start"),
            Reason::Paused { until: Some(until) } => {
                write!(f, "the function is paused for {}; `resume` lets its jobs start now", Left(*until))
            }
            Reason::NotBefore { at } => write!(
                f,
                "the job was submitted to start in {} at the earliest; to have it earlier, cancel it and submit it anew",
                Left(*at)
            ),
            Reason::NextAttempt { at: None, attempts } => {
                write!(f, "the job was lost in attempt {attempts} and is on its way back to the queue")
            }
            Reason::NextAttempt { at: Some(at), attempts } => {
                write!(f, "the job was lost in attempt {attempts}; the next may start in {}", Left(*at))
            }
            Reason::CapReached { cap: 0, .. } => {
                f.write_str("the function's concurrency is limited to 0, so no job starts; raise it with `set_limits`")
            }
            Reason::CapReached { running, cap } => write!(
                f,
                "{} of the function, {cap} may at once; wait for one to end, or raise the concurrency with `set_limits`",
                Count(*running, "job runs", "jobs run")
            ),
            Reason::NoConsumer => {
                f.write_str("no consumer set has the function; add it to one with `ConsumerSet::add`")
            }
            Reason::NotPulled { .. } => self.not_pulled(f),
            Reason::NoWorker { threads, blocked, workers } => no_worker(f, threads, *blocked, *workers),
            Reason::Ahead { same, higher } => match (same, higher) {
                (same, 0) => {
                    write!(f, "{} before it", Count(*same, "job of its priority is", "jobs of its priority are"))
                }
                (0, higher) => {
                    write!(
                        f,
                        "{} before it",
                        Count(*higher, "job of higher priority is", "jobs of higher priority are")
                    )
                }
                (same, higher) => write!(f, "{same} of its priority and {higher} of higher priority are before it"),
            },
            Reason::AheadAtMost { jobs } => {
                write!(f, "at most {} before it", Count(*jobs, "job of the function is", "jobs of the function are"))
            }
            Reason::Nested => f.write_str(
                "it was submitted inside a job and lies with that one's worker, which runs the newest first; \
                 make the function `ordered` to have it queue up",
            ),
            Reason::AboutToStart => f.write_str("nothing keeps it from starting: it is about to"),
            Reason::NothingQueued { running: 0 } => f.write_str("nothing is queued, and nothing runs; submit a job"),
            Reason::NothingQueued { running } => {
                write!(f, "nothing is queued, and {}", Count(*running, "job is running", "jobs are running"))
            }
            Reason::FunctionRemoved => f.write_str(
                "the function was removed: what it accepted before is still run; register it again to submit more",
            ),
            Reason::Draining => f.write_str(
                "the engine is ending: what it accepted before is still run; start another one to submit more",
            ),
            Reason::EngineEnded => f.write_str("the engine has ended and runs nothing any more; start another one"),
        }
    }
}

impl Reason {
    fn not_pulled(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Reason::NotPulled { sets, parked, woken, pulled } = self else { return Ok(()) };
        write!(f, "no consumer set pulls: {} the function", Count(*sets, "has", "have"))?;
        if *woken > 0 {
            write!(f, ", {} and did not look yet", Count(*woken, "was woken", "were woken"))?;
        }
        if *parked > 0 {
            write!(f, ", {}", Count(*parked, "is parked behind it", "are parked behind it"))?;
        }
        if *pulled > 0 {
            write!(f, ", {} not finished", Count(*pulled, "pulled job is", "pulled jobs are"))?;
        }
        f.write_str("; call `try_next` or `next` on one of them, or add a set")
    }
}

fn no_worker(f: &mut fmt::Formatter<'_>, threads: &[BusyThread], blocked: usize, workers: usize) -> fmt::Result {
    let mut by_function = BTreeMap::<&str, usize>::new();
    threads.iter().for_each(|busy| *by_function.entry(&busy.function).or_default() += 1);
    let mut by_function: Vec<_> = by_function.into_iter().collect();
    by_function.sort_by_key(|(_, threads)| usize::MAX - threads);
    write!(f, "no worker is free: {}", Count(threads.len(), "thread runs", "threads run"))?;
    for (i, (function, threads)) in by_function.iter().take(NAMED).enumerate() {
        write!(f, "{} {function:?} ({threads})", if i > 0 { "," } else { "" })?;
    }
    if by_function.len() > NAMED {
        write!(f, " and {} other functions", by_function.len() - NAMED)?;
    }
    if blocked > 0 {
        write!(f, ", {} for other jobs inside", Count(blocked, "of them waits", "of them wait"))?;
    }
    // Blocked threads leave their places to spares, while there are some.
    let more = if threads.len() < workers + blocked { "spare workers" } else { "workers" };
    write!(f, "; wait for one to end, or start the engine with more {more}")
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Outcome::Value => f.write_str("the job has ended with its result; take it from the handle"),
            Outcome::Panicked(message) => write!(f, "the job has panicked: {message}"),
            Outcome::Failed(why) => write!(f, "the job has failed: {why}"),
            Outcome::Cancelled => f.write_str("the job was cancelled before it ran; submit it again to have it run"),
            Outcome::TimedOut => f.write_str("the job's time ran out; submit it again with more"),
            Outcome::Evicted => {
                f.write_str("the queue dropped the job to make room; submit it again, or raise the capacity")
            }
            Outcome::Lost => f.write_str(
                "whoever had taken the job went away without finishing it; submit it again, or have lost jobs run \
                 again with `set_retry`",
            ),
        }
    }
}

/// A number of things that do something.
struct Count(usize, &'static str, &'static str);

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Count(n, one, many) = *self;
        write!(f, "{n} {}", if n == 1 { one } else { many })
    }
}

struct Attempt(Option<u32>);

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |attempt| write!(f, " (attempt {attempt})"))
    }
}

/// The time that is left until then.
struct Left(Instant);

impl fmt::Display for Left {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_rounded(f, self.0.saturating_duration_since(Instant::now()))
    }
}

fn write_rounded(f: &mut impl fmt::Write, left: Duration) -> fmt::Result {
    let seconds = left.as_secs();
    match seconds {
        0 => write!(f, "{} ms", left.as_millis()),
        1..60 => write!(f, "{:.1} s", left.as_secs_f64()),
        60..3_600 => write!(f, "{} min {} s", seconds / 60, seconds % 60),
        _ => write!(f, "{} h {} min", seconds / 3_600, seconds / 60 % 60),
    }
}

#[cfg(all(test, not(any(layshaft_loom, layshaft_shuttle))))]
mod tests {
    use super::*;

    #[test]
    fn times_are_rounded_for_people() {
        for (millis, text) in [(0, "0 ms"), (1_500, "1.5 s"), (61_000, "1 min 1 s"), (3_665_000, "1 h 1 min")] {
            let mut left = String::new();
            write_rounded(&mut left, Duration::from_millis(millis)).unwrap();
            assert_eq!(left, text);
        }
    }

    #[test]
    fn many_functions_are_counted() {
        let busy = |n: usize| BusyThread { thread: format!("t-{n}"), function: format!("f{}", n % 6) };
        let reason = Reason::NoWorker { threads: (0..7).map(busy).collect(), blocked: 2, workers: 6 };
        assert_eq!(
            reason.to_string(),
            "no worker is free: 7 threads run \"f0\" (2), \"f1\" (1), \"f2\" (1), \"f3\" (1) and 2 other functions, \
             2 of them wait for other jobs inside; wait for one to end, or start the engine with more spare workers"
        );
    }
}
