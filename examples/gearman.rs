//! A Gearman server, a worker and a client, in one program: `cargo run --example gearman --features gearman`.
//!
//! Each could be a program of its own, on a machine of its own, and of any Gearman library.

use layshaft::gearman::{Answer, Client, Job, RemoteUpdate, Server, WorkError, Worker};
use layshaft::{Engine, Priority, Shutdown};
use std::error::Error;

fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let engine = Engine::builder().workers(2).start()?;

    // The server's own functions are those of its engine: clients get their results without a worker between them.
    let words = engine.function("words", |text: String| text.split_whitespace().count())?;
    let decode = |payload: &[u8]| String::from_utf8(payload.to_vec()).map_err(|error| error.to_string());
    let server = Server::builder(&engine)
        .listen("127.0.0.1:0")
        .serve(&words, decode, |count| Answer::Result(count.to_string().into_bytes()))
        .start()?;
    let address = server.addresses()[0].to_string();

    // A worker runs the jobs of its functions on an engine, so on as many cores as that has threads.
    let crew = Engine::builder().workers(2).start()?;
    let worker = Worker::builder(&crew)
        .server(&address)
        .function("shout", |job: &Job, payload: Vec<u8>| {
            job.progress(1, 2);
            let text = String::from_utf8(payload).map_err(|error| WorkError::exception(error.to_string()))?;
            Ok(text.to_uppercase().into_bytes())
        })
        .build()?;
    let stopper = worker.stopper();
    let working = std::thread::spawn(move || worker.run());

    let client = Client::connect(&address)?;
    println!("the server counts: {}", String::from_utf8(client.call("words", "a job is one call")?)?);
    println!("the worker shouts: {}", String::from_utf8(client.call("shout", "over the wire")?)?);

    // Any number of jobs may be on their way; those with a key that is queued or running are one job.
    let (job, updates) = client.job("shout", "watched").priority(Priority::High).unique("w").updates();
    let job = job.submit()?;
    for update in updates {
        if let RemoteUpdate::Status { numerator, denominator } = update {
            println!("{numerator} of {denominator} done");
        }
    }
    println!("and then: {}", String::from_utf8(job.wait()?)?);
    println!("not text: {}", client.call("shout", [0xff]).expect_err("0xff is no UTF-8"));

    // The worker ends what it has in hand; so does the server.
    stopper.stop();
    let served = working.join().expect("it does not panic")?;
    println!("jobs done by the worker: {}", served.done);
    server.drain(std::time::Duration::from_secs(10));
    server.wait();
    engine.shutdown(Shutdown::Drain);
    Ok(())
}
