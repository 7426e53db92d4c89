//! With this library's own server and client.

use super::common::{Gate, engine, watchdog};
use super::fake::{Beside, SOON};
use super::{Answer, echo};
use layshaft::Engine;
use layshaft::gearman::worker::{Backoff, Event, WorkerBuilder};
use layshaft::gearman::{Client, ClientError, Job, RemoteUpdate, Server, WorkError, Worker};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::Duration;

fn server(engine: &Engine) -> Server {
    Server::builder(engine).listen("127.0.0.1:0").start().expect("a server")
}

fn address(server: &Server) -> String {
    server.addresses()[0].to_string()
}

fn client(server: &Server) -> Client {
    Client::builder().server(&address(server)).exceptions(true).start().expect("a client")
}

fn worker_of(engine: &Engine, server: &Server) -> WorkerBuilder {
    Worker::builder(engine).server(address(server)).backoff(Backoff::always(SOON))
}

#[test]
fn clients_hear_everything() {
    let _dog = watchdog("updates");
    let (engine, front) = (engine(2), engine(1));
    let server = server(&front);
    let body = |job: &Job, payload: Vec<u8>| {
        job.progress(3, 10);
        job.data(b"da\0ta");
        job.warning(b"careful");
        match payload.as_slice() {
            b"fail" => Err(WorkError::Fail),
            b"panic" => panic!("as asked"),
            _ => Ok([job.unique(), b"/", &payload].concat()),
        }
    };
    let worker = Beside::run(worker_of(&engine, &server).function("f", body));
    let client = client(&server);
    let heard = Arc::new(Mutex::new(Vec::new()));
    let hears = Arc::clone(&heard);
    let job = client.job("f", "x").unique("key").on_update(move |update| hears.lock().unwrap().push(update.clone()));
    assert_eq!(job.submit().unwrap().wait().unwrap(), b"key/x");
    let heard = heard.lock().unwrap();
    assert!(
        matches!(
            heard.as_slice(),
            [RemoteUpdate::Created(_), RemoteUpdate::Status { .. }, RemoteUpdate::Data(data), RemoteUpdate::Warning(text)]
                if data == b"da\0ta" && text == b"careful"
        ),
        "{heard:?}"
    );
    assert!(matches!(client.call("f", "fail"), Err(ClientError::Failed)));
    assert!(matches!(client.call("f", "panic"), Err(ClientError::Exception(why)) if why == b"as asked"));
    let large = vec![0; 20 << 20];
    let result = client.job("f", large.clone()).unique("key").submit().unwrap().wait().unwrap();
    assert!(result.strip_prefix(b"key/") == Some(&large), "{} bytes", result.len());
    worker.stop();
}

/// A job goes to whoever is idle, not behind one that runs.
#[test]
fn no_job_waits_behind_another_while_a_worker_is_idle() {
    let _dog = watchdog("idle workers");
    let (engines, front, gate) = ([engine(2), engine(2)], engine(1), Gate::new());
    let server = server(&front);
    let pass = gate.clone();
    let body = move |_: &Job, payload: Vec<u8>| -> Answer {
        if payload == b"wait" {
            pass.pass();
        }
        Ok(payload)
    };
    let workers = engines.each_ref().map(|engine| Beside::run(worker_of(engine, &server).function("f", body.clone())));
    let client = client(&server);
    // They learn that it is quick, and take jobs ahead.
    let quick: Vec<_> = (0..200).map(|_| client.job("f", "quick").submit().unwrap()).collect();
    quick.into_iter().for_each(|job| assert_eq!(job.wait().unwrap(), b"quick"));
    // As many as there are threads, one after the other: each one of them starts.
    for running in 1..=4 {
        drop(client.job("f", "wait").submit_background().unwrap().wait().unwrap());
        gate.wait_entered(running);
    }
    gate.open();
    assert_eq!(client.call("f", "quick").unwrap(), b"quick");
    workers.map(Beside::stop).iter().for_each(|served| assert_eq!(served.failed, 0));
}

/// A worker that stops is asleep, and did something since it slept last: it would be the first to be woken.
#[test]
fn no_job_waits_for_a_worker_that_stops() {
    let _dog = watchdog("a stop");
    let (engines, front, gate) = ([engine(2), engine(2)], engine(1), Gate::new());
    let server = server(&front);
    let pass = gate.clone();
    let body = move |_: &Job, payload: Vec<u8>| -> Answer {
        if payload == b"wait" {
            pass.pass();
        }
        Ok(payload)
    };
    let are_asleep = |workers: usize| {
        while server.clients().iter().filter(|client| client.is_sleeping).count() < workers {
            std::thread::yield_now();
        }
    };
    let builder = worker_of(&engines[0], &server).function("f", body.clone());
    let stopping = Beside::run(builder.repoll(Duration::MAX..Duration::MAX));
    let client = client(&server);
    let long = client.job("f", "wait").submit().unwrap();
    gate.wait_entered(1);
    are_asleep(1);
    let builder = worker_of(&engines[1], &server).function("f", body);
    let other = Beside::run(builder.repoll(Duration::MAX..Duration::MAX));
    are_asleep(2);
    stopping.stopper.stop();
    for _ in 0..3 {
        assert_eq!(client.call("f", "quick").unwrap(), b"quick");
    }
    gate.open();
    assert_eq!(long.wait().unwrap(), b"wait");
    stopping.end().expect("a good end");
    assert_eq!(other.stop().done, 3);
}

#[test]
fn nothing_is_lost_when_workers_come_and_go() {
    let _dog = watchdog("changing workers");
    let (engines, front) = ([engine(2), engine(2)], engine(1));
    let server = server(&front);
    let client = client(&server);
    let jobs: Vec<_> = (0..3000).map(|i| (i, client.job("echo", i.to_string()).submit().unwrap())).collect();
    let stay = Beside::run(worker_of(&engines[0], &server).function("echo", echo));
    let mut done = 0;
    for _ in 0..5 {
        // Stops with jobs in hand, as a rule, and answers them.
        let worker = Beside::run(worker_of(&engines[1], &server).function("echo", echo));
        worker.stopper.stop();
        let served = worker.end().expect("a good end");
        assert_eq!((served.failed, served.not_run, served.orphaned), (0, 0, 0));
        done += served.done;
        // This one leaves its jobs to the others.
        let worker = Beside::run(worker_of(&engines[1], &server).function("echo", echo));
        done += worker.stop().done;
    }
    for (i, job) in jobs {
        assert_eq!(job.wait().unwrap(), i.to_string().as_bytes());
    }
    assert!(done + stay.stop().done >= 3000);
}

#[test]
fn a_job_whose_time_is_up_fails_and_its_late_result_is_dropped() {
    let _dog = watchdog("a timeout");
    let (engine, front, gate) = (engine(2), engine(1), Gate::new());
    let server = server(&front);
    let pass = gate.clone();
    let body = move |_: &Job, payload: Vec<u8>| -> Answer {
        if payload == b"wait" {
            pass.pass();
        }
        Ok(payload)
    };
    let (told, events) = channel();
    let builder = worker_of(&engine, &server).function("f", body).function_timeout("f", SOON);
    // Another one, that has no limit, shows that the worker goes on.
    let builder = builder.function("echo", echo);
    let worker = Beside::run(builder.on_event(move |event| {
        if let Event::Refused { error, .. } = event {
            told.send(error.to_string()).unwrap();
        }
    }));
    let client = client(&server);
    assert!(matches!(client.call("f", "wait"), Err(ClientError::Failed)));
    gate.open();
    assert_eq!(client.job("echo", "x").timeout(Duration::MAX).submit().unwrap().wait().unwrap(), b"x");
    // With the late one in its hands, maybe.
    worker.stopper.stop();
    assert_eq!(worker.end().expect("a good end").done, 2);
    drop(worker);
    assert_eq!(events.iter().collect::<Vec<String>>(), [] as [String; 0]);
}

#[test]
fn a_server_that_ends_is_looked_for_again() {
    let _dog = watchdog("a new server");
    let engine = engine(1);
    let folder = std::env::temp_dir().join(format!("layshaft-worker-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    let path = folder.join("socket");
    let place = format!("unix:{}", path.display());
    let builder = Worker::builder(&engine).server(&place).backoff(Backoff::always(SOON)).function("echo", echo);
    let worker = Beside::run(builder);
    for round in 0..3 {
        let front = super::common::engine(1);
        let server = Server::builder(&front).listen_unix(&path).start().expect("a server");
        let client = Client::builder().server(&place).start().expect("a client");
        assert_eq!(client.call("echo", round.to_string()).unwrap(), round.to_string().as_bytes());
        drop(client);
        server.end();
        server.wait();
    }
    assert_eq!(worker.stop().done, 3);
    std::fs::remove_dir_all(folder).expect("it is there");
}
