//! The loop, with bodies that tell what they see.

use super::*;
use crate::found::Format;
use crate::window::Order;
use layshaft::Shutdown;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, mpsc};

/// Longer than anything here takes, short enough to learn of a hang.
const PATIENCE: Duration = Duration::from_secs(60);

type Body = Box<dyn Fn(&Path) -> Result<Output, Failure> + Send + Sync>;

/// A run over bodies that give text: its engine beside it.
fn prepare<O: Write>(workers: u16, order: Order, output: O, body: Body) -> (Engine, Run<O, Vec<u8>>) {
    let (engine, function) = start(Some(workers), "echo", body).expect("starts");
    let run = Run {
        function,
        window: Window::new(order),
        printer: Printer::new(Format::Text, output, Vec::new()),
        progress: Progress::new(false),
        bell: Bell::here(),
        interrupt: Arc::default(),
        tally: Tally::new(),
    };
    (engine, run)
}

/// A body over names that gives text.
fn named(body: impl Fn(&str) -> io::Result<String> + Send + Sync + 'static) -> Body {
    Box::new(move |path| {
        let line = body(path.to_str().expect("a number")).map_err(Failure::Unreadable)?;
        Ok(Output { bytes: line.len() as u64, line: line.into_bytes() })
    })
}

/// Runs `body` over inputs named by numbers: output, messages, tally.
fn map(
    inputs: impl Iterator<Item = Input>,
    body: impl Fn(&str) -> io::Result<String> + Send + Sync + 'static,
) -> (String, String, Tally) {
    let (engine, mut run) = prepare(3, Order::Kept, Vec::new(), named(body));
    run.all(inputs.map(Poll::Ready)).expect("a vector takes everything");
    let (output, errors) = run.printer.into_parts();
    assert!(engine.shutdown(Shutdown::Drain).complete);
    (String::from_utf8(output).expect("text"), String::from_utf8(errors).expect("text"), run.tally)
}

fn numbers(n: usize) -> impl Iterator<Item = Input> {
    (0..n).map(|i| Ok(PathBuf::from(i.to_string())))
}

fn lines(numbers: impl Iterator<Item = usize>) -> String {
    numbers.map(|i| format!("{i}\n")).collect()
}

#[test]
fn more_jobs_than_the_window_come_out_in_order() {
    let n = WINDOW * 2 + 3;
    let (output, errors, tally) = map(numbers(n), |name| Ok(format!("{name}\n")));
    assert_eq!(output, lines(0..n));
    assert_eq!((errors.as_str(), tally.jobs, tally.failed), ("", n as u64, 0));
    assert_eq!(tally.bytes, output.len() as u64);
}

#[test]
fn inputs_behind_a_full_window_are_not_asked_for() {
    let (open, opened) = mpsc::channel();
    let opened = Mutex::new(opened);
    let first_has_ended = Arc::new(AtomicBool::new(false));
    let ended = Arc::clone(&first_has_ended);
    // The first job waits for the last one that fits beside it.
    let body = move |name: &str| {
        if name == "0" {
            opened.lock().expect("not poisoned").recv_timeout(PATIENCE).expect("the other job runs");
            // Ordering: Release, pairs with the Acquire below.
            ended.store(true, Ordering::Release);
        } else if name == (WINDOW - 1).to_string() {
            open.send(()).expect("the first job waits");
        }
        Ok(String::new())
    };
    let inputs = numbers(WINDOW * 2).enumerate().map(|(i, input)| {
        // Ordering: Acquire, pairs with the Release above.
        assert!(i < WINDOW || first_has_ended.load(Ordering::Acquire), "input {i} came too early");
        input
    });
    let (_, errors, tally) = map(inputs, body);
    assert_eq!((errors.as_str(), tally.jobs, tally.failed), ("", WINDOW as u64 * 2, 0));
}

#[test]
fn a_body_that_panics_is_told_and_the_others_go_on() {
    let (output, errors, tally) = map(numbers(500), |name| match name {
        "7" | "400" => panic!("no {name} here"),
        name => Ok(format!("{name}\n")),
    });
    assert_eq!(output, lines((0..500).filter(|i| ![7, 400].contains(i))));
    assert_eq!(errors, "layshaft: echo of '7' panicked: no 7 here\nlayshaft: echo of '400' panicked: no 400 here\n");
    assert_eq!((tally.jobs, tally.failed), (500, 2));
}

#[test]
fn a_place_that_cannot_be_walked_is_told_at_its_turn() {
    let lost = Err(Unreadable { path: "lost".into(), error: ErrorKind::PermissionDenied.into() });
    let (output, errors, tally) = map(numbers(2).chain([lost]).chain(numbers(1)), |name| Ok(format!("{name}\n")));
    assert_eq!(output, "0\n1\n0\n");
    assert_eq!(errors, "layshaft: cannot read 'lost': permission denied\n");
    assert_eq!((tally.jobs, tally.failed), (4, 1));
}

#[test]
fn a_result_is_shown_while_later_jobs_run() {
    /// Tells that something was written.
    struct Tells(mpsc::Sender<()>);
    impl Write for Tells {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            // Later writes find nobody waiting.
            let _ = self.0.send(());
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let (tell, told) = mpsc::channel();
    let told = Mutex::new(told);
    let body = named(move |name| {
        if name == "1" {
            let told = told.lock().expect("not poisoned").recv_timeout(PATIENCE);
            told.expect("the line of job 0 is written while job 1 runs");
        }
        Ok("line\n".to_owned())
    });
    let (engine, mut run) = prepare(2, Order::Kept, Tells(tell), body);
    run.all(numbers(2).map(Poll::Ready)).expect("written");
    assert_eq!((run.tally.jobs, run.tally.failed), (2, 0));
    assert!(engine.shutdown(Shutdown::Drain).complete);
}

/// Every job but the first, which waits for the output of all others.
#[test]
fn without_an_order_a_slow_job_holds_up_none() {
    /// Passes on what is written.
    struct Passes(mpsc::Sender<Vec<u8>>);
    impl Write for Passes {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            // The last write finds nobody waiting.
            let _ = self.0.send(bytes.to_vec());
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let n = WINDOW;
    let (write, written) = mpsc::channel::<Vec<u8>>();
    let written = Mutex::new(written);
    let body = named(move |name| {
        if name == "0" {
            let written = written.lock().expect("not poisoned");
            let mut lines = 0;
            while lines < n - 1 {
                let bytes = written.recv_timeout(PATIENCE).expect("the others are printed while this one runs");
                lines += bytes.iter().filter(|&&byte| byte == b'\n').count();
            }
        }
        Ok(format!("{name}\n"))
    });
    let (engine, mut run) = prepare(2, Order::AsTheyEnd, Passes(write), body);
    run.all(numbers(n).map(Poll::Ready)).expect("written");
    assert_eq!((run.tally.jobs, run.tally.failed), (n as u64, 0));
    assert!(engine.shutdown(Shutdown::Drain).complete);
}
