//! An engine inside a program: `cargo run --example embed`.

use layshaft::{Engine, JobError, Shutdown, WaitError};
use std::error::Error;

fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let engine = Engine::builder().workers(2).start()?;

    // A function is a name with a body. Its argument and result are any types that can be sent to a thread.
    let words = engine.function("words", |text: String| text.split_whitespace().count())?;

    // A job is one call: wait for its result, await it, or do not ask for it at all.
    let job = words.submit("a job is one call".to_owned())?;
    println!("job {} counted {} words", job.id(), job.wait()?);
    println!("and {} at once", words.call("submit and wait".to_owned())?);

    // Many jobs in one call; the results come in the order of the arguments.
    let lines = ["one", "two words", "three more words"];
    let batch = words.submit_batch(lines.map(str::to_owned))?;
    let counts = batch.wait().into_iter().collect::<Result<Vec<_>, _>>()?;
    println!("a batch counted {counts:?}");

    // A body may submit jobs and wait for them: the worker runs them itself, or another one comes to help.
    let inner = words.clone();
    let total = engine.function("total", move |text: String| -> usize {
        let jobs: Vec<_> = text.lines().map(|line| inner.submit(line.to_owned()).expect("words is open")).collect();
        jobs.into_iter().map(|job| job.wait().expect("words does not fail")).sum()
    })?;
    println!("nested jobs counted {}", total.call("two lines\nof text".to_owned())?);

    // A panic stays in its job, and is reported to whoever waits.
    let fails = engine.function("fails", |why: String| -> () { std::panic::resume_unwind(Box::new(why)) })?;
    if let Err(WaitError::Job(JobError::Panicked(panic))) = fails.submit("bad luck".to_owned())?.wait() {
        println!("a job panicked: {}", panic.message());
    }

    // Cancelled in time, a job never runs; dropping a handle only detaches it.
    let job = words.submit("too late".to_owned())?;
    let will_not_run = job.cancel();
    println!("cancelled before it ran: {will_not_run}, its end: {:?}", job.wait().map_err(|error| error.to_string()));

    // The queued jobs run, then the workers stop. Dropping the engine would do the same.
    words.send("nobody waits for this one".to_owned())?;
    let drained = engine.shutdown(Shutdown::Drain);
    println!("complete: {}, jobs: {}", drained.complete, engine.stats().total().jobs);
    Ok(())
}
