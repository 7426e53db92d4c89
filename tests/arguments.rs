//! Which argument and result types work, and are they dropped exactly once whatever becomes of the job?

mod common;

use common::{Held, Live, PATIENCE, Tally, Token, engine, outcome, value, watchdog};
use layshaft::{JobError, Shutdown};
use std::sync::atomic::{AtomicUsize, Ordering};

/// A type to send through a function and back: it carries a number, and fails loudly when it was damaged on the way.
trait Shape: Send + 'static {
    fn make(number: u64, live: &Live) -> Self;
    /// The number, after a check of everything else.
    fn number(&self) -> u64;
}

fn assert_aligned<T>(value: &T) {
    // The optimiser may not assume what is being checked.
    let address = std::hint::black_box(std::ptr::from_ref(value)).addr();
    assert_eq!(address % align_of::<T>(), 0, "{} lies at {address:#x}", std::any::type_name::<T>());
}

/// Zero-sized; it carries no number.
struct Zero;

impl Shape for Zero {
    fn make(_: u64, _: &Live) -> Zero {
        Zero
    }
    fn number(&self) -> u64 {
        0
    }
}

/// Bytes between the fields that nobody may read.
struct Padded {
    small: u8,
    number: u64,
    half: u16,
    _token: Token,
}

impl Shape for Padded {
    fn make(number: u64, live: &Live) -> Padded {
        Padded { small: number as u8, number, half: !number as u16, _token: live.token() }
    }
    fn number(&self) -> u64 {
        assert_eq!((self.small, self.half), (self.number as u8, !self.number as u16));
        self.number
    }
}

/// A heap block of its own.
struct Boxed {
    number: Box<u64>,
    text: String,
    _token: Token,
}

impl Shape for Boxed {
    fn make(number: u64, live: &Live) -> Boxed {
        Boxed { number: Box::new(number), text: number.to_string(), _token: live.token() }
    }
    fn number(&self) -> u64 {
        assert_eq!(self.text, self.number.to_string());
        *self.number
    }
}

/// Plain data of `8 * N` bytes, without a drop.
struct Words<const N: usize>([u64; N]);

impl<const N: usize> Shape for Words<N> {
    fn make(number: u64, _: &Live) -> Words<N> {
        Words(std::array::from_fn(|i| number + i as u64))
    }
    fn number(&self) -> u64 {
        for (i, word) in self.0.iter().enumerate() {
            assert_eq!(*word, self.0[0] + i as u64, "word {i}");
        }
        self.0[0]
    }
}

/// 200 bytes, with a drop.
struct Wide {
    words: Words<23>,
    _token: Token,
}

impl Shape for Wide {
    fn make(number: u64, live: &Live) -> Wide {
        Wide { words: Words::make(number, live), _token: live.token() }
    }
    fn number(&self) -> u64 {
        self.words.number()
    }
}

macro_rules! over_aligned {
    ($name:ident, $align:literal) => {
        #[repr(align($align))]
        struct $name {
            number: u64,
            check: u8,
            _token: Token,
        }

        impl Shape for $name {
            fn make(number: u64, live: &Live) -> $name {
                $name { number, check: !number as u8, _token: live.token() }
            }
            fn number(&self) -> u64 {
                assert_aligned(self);
                assert_eq!(self.check, !self.number as u8);
                self.number
            }
        }
    };
}

over_aligned!(Align64, 64);
over_aligned!(Align128, 128);
over_aligned!(Align4096, 4096);

const JOBS: u64 = 150;

/// A zero-sized shape carries no number: what arrives is 0.
fn expected<S: Shape>(number: u64) -> u64 {
    if size_of::<S>() == 0 { 0 } else { number }
}

/// Sent through a body and back.
fn echoed<S: Shape>(live: &Live) {
    let engine = engine(2);
    let echo = engine.function("echo", |value: S| S::make(value.number(), &Live::default())).unwrap();
    let same = engine.function("same", |value: S| value).unwrap();
    for i in 0..JOBS {
        assert_eq!(value(echo.submit(S::make(i, live)).unwrap()).number(), expected::<S>(i));
    }
    let handles: Vec<_> = (0..JOBS).map(|i| same.submit(S::make(i, live)).unwrap()).collect();
    for (i, handle) in handles.into_iter().enumerate() {
        assert_eq!(value(handle).number(), expected::<S>(i as u64));
    }
    let batch = same.submit_batch((0..JOBS).map(|i| S::make(i, live))).unwrap();
    for (i, result) in batch.wait().into_iter().enumerate() {
        assert_eq!(result.unwrap().number(), expected::<S>(i as u64));
    }
}

/// From inside a job: the argument passes through a worker's own deque.
fn nested<S: Shape>(live: &Live) {
    let engine = engine(1);
    let same = engine.function("same", |value: S| value).unwrap();
    let (inner, tokens) = (same.clone(), live.clone());
    let outer = engine.function("outer", move |()| {
        let handles: Vec<_> = (0..JOBS).map(|i| inner.submit(S::make(i, &tokens)).unwrap()).collect();
        handles.into_iter().map(|handle| handle.wait().unwrap().number()).collect::<Vec<_>>()
    });
    let numbers = value(outer.unwrap().submit(()).unwrap());
    assert_eq!(numbers, (0..JOBS).map(expected::<S>).collect::<Vec<_>>());
}

/// Nobody takes the result: sent, detached before the run, and detached after it.
fn unread<S: Shape>(live: &Live) {
    let held = Held::new(1);
    let done = Tally::new();
    let count = done.clone();
    let same = held.engine.function("same", move |value: S| {
        count.add(value.number());
        value
    });
    let same = same.unwrap();
    for i in 0..JOBS {
        same.send(S::make(i, live)).unwrap();
        drop(same.submit(S::make(i, live)).unwrap());
    }
    same.send_batch((0..JOBS).map(|i| S::make(i, live))).unwrap();
    let late: Vec<_> = (0..JOBS).map(|i| same.submit(S::make(i, live)).unwrap()).collect();
    let engine = held.release();
    done.wait_for(4 * JOBS);
    assert_eq!(done.sum(), 4 * (0..JOBS).map(expected::<S>).sum::<u64>());
    drop(late);
    drop(engine);
}

/// Cancelled before the run.
fn cancelled<S: Shape>(live: &Live) {
    let held = Held::new(1);
    let same = held.engine.function("same", |value: S| -> S { unreachable!("job {} was cancelled", value.number()) });
    let same = same.unwrap();
    let handles: Vec<_> = (0..JOBS).map(|i| same.submit(S::make(i, live)).unwrap()).collect();
    for handle in &handles {
        assert!(handle.cancel());
    }
    for handle in handles {
        assert!(matches!(outcome(handle), Err(JobError::Cancelled)));
    }
    held.release().shutdown(Shutdown::Drain);
}

/// Still queued when the engine discards its jobs.
fn discarded<S: Shape>(live: &Live) {
    let held = Held::new(1);
    let same = held.engine.function("same", |value: S| value).unwrap();
    let remote = held.engine.consumer::<S, S>("remote").unwrap();
    let mut handles = Vec::new();
    for i in 0..JOBS {
        same.send(S::make(i, live)).unwrap();
        handles.push(same.submit(S::make(i, live)).unwrap());
        remote.send(S::make(i, live)).unwrap();
        handles.push(remote.submit(S::make(i, live)).unwrap());
    }
    let engine = held.engine.clone();
    let stopper = std::thread::spawn(move || engine.shutdown(Shutdown::Discard));
    for handle in handles {
        assert!(matches!(outcome(handle), Err(JobError::Cancelled)));
    }
    held.release();
    assert_eq!(stopper.join().unwrap().discarded as u64, 4 * JOBS);
}

/// Refused by a closed function, and handed back whole.
fn refused<S: Shape>(live: &Live) {
    let engine = engine(1);
    let same = engine.function("same", |value: S| value).unwrap();
    engine.shutdown(Shutdown::Drain);
    for i in 0..JOBS {
        assert_eq!(same.send(S::make(i, live)).unwrap_err().into_arg().number(), expected::<S>(i));
        let error = same.submit(S::make(i, live)).err().unwrap();
        assert_eq!(error.into_arg().number(), expected::<S>(i));
    }
    let error = same.send_batch((0..JOBS).map(|i| S::make(i, live))).unwrap_err();
    let numbers: Vec<_> = error.into_parts().1.iter().map(S::number).collect();
    assert_eq!(numbers, (0..JOBS).map(expected::<S>).collect::<Vec<_>>());
}

/// Pulled by a consumer set: completed, put back, and dropped by it.
fn consumed<S: Shape>(live: &Live) {
    let engine = engine(1);
    let remote = engine.consumer::<S, S>("remote").unwrap();
    let set = engine.consumer_set();
    set.add(&remote);
    let handles: Vec<_> = (0..JOBS).map(|i| remote.submit(S::make(i, live)).unwrap()).collect();
    for i in 0..JOBS {
        let pulled = set.next().unwrap();
        assert_eq!(pulled.arg().number(), expected::<S>(i));
        pulled.put_back();
        let (value, completer) = set.try_next().unwrap().take();
        match i % 3 {
            0 => completer.complete(value),
            1 => drop((value, completer)),
            _ => completer.fail("refused"),
        }
    }
    for (i, handle) in handles.into_iter().enumerate() {
        match (i % 3, outcome(handle)) {
            (0, Ok(value)) => assert_eq!(value.number(), expected::<S>(i as u64)),
            (1, Err(JobError::Lost)) | (2, Err(JobError::Failed(_))) => {}
            (_, other) => panic!("job {i} ended with {:?}", other.map(|value| value.number())),
        }
    }
}

fn every_scenario<S: Shape>() {
    let _watchdog = watchdog("the end of every job");
    let scenarios: [Scenario; 7] = [
        ("echoed", echoed::<S>),
        ("nested", nested::<S>),
        ("unread", unread::<S>),
        ("cancelled", cancelled::<S>),
        ("discarded", discarded::<S>),
        ("refused", refused::<S>),
        ("consumed", consumed::<S>),
    ];
    for (name, run) in scenarios {
        println!("{name}");
        let live = Live::default();
        run(&live);
        live.assert_balanced();
    }
}

#[test]
fn zero_sized() {
    every_scenario::<Zero>();
}

#[test]
fn padded() {
    every_scenario::<Padded>();
}

#[test]
fn boxed() {
    every_scenario::<Boxed>();
}

#[test]
fn one_word() {
    every_scenario::<Words<1>>();
}

/// Around the sizes at which an implementation may change its ways.
#[test]
fn odd_sizes() {
    every_scenario::<Words<3>>();
    every_scenario::<Words<4>>();
    every_scenario::<Words<5>>();
    every_scenario::<Words<6>>();
    every_scenario::<Words<7>>();
}

#[test]
fn wide_200_bytes() {
    assert_eq!(size_of::<Wide>(), 200);
    every_scenario::<Wide>();
}

#[test]
fn kilobytes() {
    every_scenario::<Words<1000>>();
}

#[test]
fn aligned_to_64() {
    every_scenario::<Align64>();
}

#[test]
fn aligned_to_128() {
    every_scenario::<Align128>();
}

#[test]
fn aligned_to_4096() {
    every_scenario::<Align4096>();
}

/// A zero-sized type can still count its drops, but only in statics, so one test runs all.
struct ZeroDrop;

static ZEROS_MADE: AtomicUsize = AtomicUsize::new(0);
static ZEROS_DROPPED: AtomicUsize = AtomicUsize::new(0);

impl Shape for ZeroDrop {
    fn make(_: u64, _: &Live) -> ZeroDrop {
        ZEROS_MADE.fetch_add(1, Ordering::SeqCst);
        ZeroDrop
    }
    fn number(&self) -> u64 {
        0
    }
}

impl Drop for ZeroDrop {
    fn drop(&mut self) {
        ZEROS_DROPPED.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn zero_sized_with_drop() {
    every_scenario::<ZeroDrop>();
    let (made, dropped) = (ZEROS_MADE.load(Ordering::SeqCst), ZEROS_DROPPED.load(Ordering::SeqCst));
    assert!(made > 0);
    assert_eq!(made, dropped);
}

/// Types that are `Send` but not `Sync` may be sent, and the shared ends stay `Send` and `Sync`.
#[test]
fn not_sync_types_are_enough() {
    fn assert_shared<T: Send + Sync>() {}
    fn assert_send<T: Send>() {}
    type Cells = std::cell::Cell<u64>;
    assert_shared::<layshaft::Engine>();
    assert_shared::<layshaft::Function<Cells, Cells>>();
    assert_shared::<layshaft::ConsumerSet<Cells, Cells>>();
    assert_shared::<JobError>();
    assert_shared::<layshaft::JobHandle<u64>>();
    assert_send::<layshaft::JobHandle<Cells>>();
    assert_send::<layshaft::Batch<Cells>>();
    assert_send::<layshaft::Pulled<Cells, Cells>>();
    assert_send::<layshaft::Completer<Cells>>();
    let _watchdog = watchdog("the end of the job");
    let engine = engine(1);
    let add = engine.function("add", |cell: Cells| std::cell::Cell::new(cell.get() + 1)).unwrap();
    assert_eq!(value(add.submit(Cells::new(4)).unwrap()).get(), 5);
}

/// What `?` needs in a program whose errors are boxed, `Send` and `Sync`.
#[test]
fn errors_fit_into_boxed_errors() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let _watchdog = watchdog("the end of the job");
    let engine = engine(1);
    let half = engine.function("half", |n: u64| n / 2)?;
    assert_eq!(half.submit(8)?.wait()?, 4);
    assert_eq!(half.call(6)?, 3);
    assert_eq!(half.send_batch([1, 2])?, 2);
    assert_eq!(half.submit_batch([4])?.len(), 1);
    match half.submit(2)?.wait_timeout(PATIENCE) {
        Ok(result) => assert_eq!(result?, 1),
        Err(_) => panic!("the job did not end"),
    }
    Ok(())
}

/// What happens to the jobs, by name.
type Scenario = (&'static str, fn(&Live));
