//! The Gearman client, its servers, and what happens when they go away: an end or another attempt, never a hang.
#![cfg(feature = "gearman")]

#[path = "common/fake.rs"]
mod fake;

use fake::{Fake, PATIENCE, Peer, response};
use layshaft::gearman::packet::Kind;
use layshaft::gearman::{Client, ClientError, RemoteHandle, Routing};
use std::sync::mpsc;
use std::time::Duration;

/// The end of a job, which must come.
#[track_caller]
fn end(handle: RemoteHandle) -> Result<Vec<u8>, ClientError> {
    handle.wait_timeout(PATIENCE).expect("an end, and no hang")
}

/// Where nobody listens: a port of the system's own.
const NOBODY: &str = "127.0.0.1:1";

/// Where a server goes away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd)]
enum Point {
    /// Before it has read anything.
    Accepted,
    /// It has the job, and the client does not know it.
    Submitted,
    /// The client knows the job's name.
    Created,
    /// In the middle of the result.
    Halfway,
}

const POINTS: [Point; 4] = [Point::Accepted, Point::Submitted, Point::Created, Point::Halfway];

/// Serves one connection up to there, and breaks it.
fn serve_until(point: Point, kind: Kind, mut peer: Peer) {
    if point >= Point::Submitted {
        peer.submit(kind);
    }
    if point >= Point::Created {
        peer.send(Kind::JobCreated, &[b"H:fake:1"]);
    }
    if point >= Point::Halfway {
        let result = response(Kind::WorkComplete, &[b"H:fake:1", b"half of it"]);
        peer.write(&result[..result.len() / 2]);
    }
    peer.cut();
}

#[test]
fn gw_09_a_job_that_may_run_twice_survives_its_server() {
    for point in POINTS {
        let server = Fake::start(move |listener| {
            serve_until(point, Kind::SubmitJob, Peer::accept(listener));
            Peer::accept(listener).serve(|asked| assert_eq!(asked.args[2], b"ab"));
        });
        let client = Client::connect(&server.address).unwrap();
        let handle = client.job("f", "ab").unique("key").submit().unwrap();
        assert_eq!(end(handle).unwrap(), b"ba", "{point:?}");
        drop(client);
        server.join();
    }
}

#[test]
fn gw_09_another_server_takes_the_job() {
    for point in POINTS {
        let dying = Fake::start(move |listener| {
            serve_until(point, Kind::SubmitJob, Peer::accept(listener));
        });
        let other = Fake::once(|peer| _ = peer.serve(|_| {}));
        let builder = Client::builder().server(&dying.address).server(&other.address);
        let client = builder.seed(0).routing(Routing::RoundRobin).start().unwrap();
        let handle = client.job("f", "ab").resubmit(true).submit().unwrap();
        assert_eq!(end(handle).unwrap(), b"ba", "{point:?}");
        drop(client);
        dying.join();
        other.join();
    }
}

#[test]
fn gw_09_a_job_that_must_not_run_twice_ends() {
    for point in [Point::Submitted, Point::Created, Point::Halfway] {
        let server = Fake::start(move |listener| {
            serve_until(point, Kind::SubmitJob, Peer::accept(listener));
            assert_eq!(Peer::accept(listener).next(), None, "the job comes again");
        });
        let client = Client::connect(&server.address).unwrap();
        let error = end(client.job("f", "ab").submit().unwrap()).unwrap_err();
        assert!(error.is_connection(), "{point:?}: {error:?}");
        assert!(error.to_string().contains("the job may have run; "), "{error}");
        drop(client);
        drop(std::net::TcpStream::connect(&server.address).unwrap());
        server.join();
    }
}

#[test]
fn gw_09_a_background_job_is_sent_until_it_is_accepted() {
    for point in [Point::Accepted, Point::Submitted] {
        let server = Fake::start(move |listener| {
            serve_until(point, Kind::SubmitJobBg, Peer::accept(listener));
            let mut peer = Peer::accept(listener);
            peer.submit(Kind::SubmitJobBg);
            peer.send(Kind::JobCreated, &[b"H:fake:2"]);
            // What follows is no more the client's concern.
            peer.cut();
        });
        let client = Client::connect(&server.address).unwrap();
        let reply = client.job("f", "ab").unique("key").submit_background().unwrap();
        let id = reply.wait_timeout(PATIENCE).expect("no hang").unwrap();
        assert_eq!(id.name(), b"H:fake:2");
        drop(client);
        server.join();
    }
}

#[test]
fn gw_09_a_job_that_kills_servers_ends() {
    let server = Fake::start(|listener| {
        (0..6).for_each(|_| serve_until(Point::Created, Kind::SubmitJob, Peer::accept(listener)));
    });
    let client = Client::connect(&server.address).unwrap();
    let error = end(client.job("f", "").unique("key").submit().unwrap()).unwrap_err();
    assert!(error.is_connection(), "{error:?}");
    drop(client);
    server.join();
}

#[test]
fn nobody_there_is_told_with_the_times_tried() {
    let address = NOBODY;
    let builder = Client::builder().server(address).patience(Duration::from_millis(120));
    let client = builder.start().unwrap();
    let error = end(client.job("f", "").submit().unwrap()).unwrap_err().to_string();
    assert!(error.starts_with(&format!("no server at {address} (refused, tried ")), "{error}");
    assert!(error.ends_with(" s)"), "{error}");
    let error = client.echo("").wait().unwrap_err().to_string();
    assert!(error.starts_with(&format!("no server at {address} (refused")), "{error}");

    let client = Client::builder().server("unix:/nowhere/a.sock").patience(Duration::ZERO).start().unwrap();
    let error = end(client.job("f", "").submit().unwrap()).unwrap_err().to_string();
    assert_eq!(error, "no server at unix:/nowhere/a.sock (not found)");
    assert!(matches!(Client::connect("a:b"), Err(ClientError::Address(_))));
    assert!(matches!(Client::connect(""), Err(ClientError::Address(_))));
}

#[cfg(unix)]
mod files {
    use super::{PATIENCE, end};
    use layshaft::gearman::{Client, packet::Kind};
    use std::io::{Read, Write};
    use std::os::unix::net::UnixListener;

    /// The server begins to listen after the client has begun to look for it.
    #[test]
    fn a_server_that_comes_late_is_waited_for() {
        let folder = std::env::temp_dir().join(format!("layshaft-client-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("a.sock");
        let address = path.display().to_string();
        let builder = Client::builder().server(&address).patience(PATIENCE).exceptions(false);
        let client = builder.start().unwrap();
        let handle = client.job("f", "ab").submit().unwrap();
        // Its end says that the server was looked for.
        client.echo("").wait().unwrap_err();
        let listener = UnixListener::bind(&path).unwrap();
        let (mut stream, _) = listener.accept().unwrap();
        stream.read_exact(&mut [0; 12 + 5]).unwrap();
        let created = super::response(Kind::JobCreated, &[b"H:a:1"]);
        stream.write_all(&[created, super::response(Kind::WorkComplete, &[b"H:a:1", b"ba"])].concat()).unwrap();
        assert_eq!(end(handle).unwrap(), b"ba");
        std::fs::remove_dir_all(folder).unwrap();
    }
}

#[test]
fn silence_ends_too() {
    let (done, may_end) = mpsc::channel::<()>();
    let server = Fake::start(move |listener| {
        let _silent = listener.accept();
        may_end.recv().unwrap();
    });
    let limit = Duration::from_millis(50);
    let client = Client::builder().server(&server.address).command_timeout(limit).start().unwrap();
    let error = end(client.job("f", "").submit().unwrap()).unwrap_err();
    assert!(matches!(error, ClientError::Silent { after, .. } if after == limit), "{error:?}");
    let want = format!("no answer from {} within 0.1 s: it hangs, or is no Gearman server", server.address);
    assert_eq!(error.to_string(), want);
    done.send(()).unwrap();
    server.join();
}

/// Its job runs, so it owes no answer; but asked whether it is there, it does.
#[test]
fn a_server_that_falls_silent_while_a_job_runs_is_noticed() {
    let server = Fake::once(|peer| {
        peer.submit(Kind::SubmitJob);
        peer.send(Kind::JobCreated, &[b"H:fake:1"]);
        let echo = peer.next().unwrap();
        assert_eq!(echo.kind, Kind::EchoReq);
        peer.send(Kind::EchoRes, &[&echo.args[0]]);
        assert_eq!(peer.next().unwrap(), echo);
        // This time there is no answer.
        peer.wait_for_end();
    });
    let limit = Duration::from_millis(50);
    let client = Client::builder().server(&server.address).command_timeout(limit).start().unwrap();
    let error = end(client.job("f", "").submit().unwrap()).unwrap_err();
    assert!(matches!(error, ClientError::Silent { .. }), "{error:?}");
    server.join();
}

#[test]
fn answers_that_make_no_sense_end_the_connection() {
    let bad_length = b"\0RES\0\0\0\x08\xff\xff\xff\xff";
    let unknown = b"\0RES\0\0\0\x63\0\0\0\0";
    let twice = [response(Kind::JobCreated, &[b"H:a:1"]), response(Kind::JobCreated, &[b"H:a:2"])].concat();
    for bytes in [&b"\0RSE"[..], bad_length, unknown, &twice] {
        let bytes = bytes.to_vec();
        let server = Fake::once(move |peer| {
            peer.submit(Kind::SubmitJob);
            peer.write(&bytes);
            peer.wait_for_end();
        });
        let client = Client::builder().server(&server.address).start().unwrap();
        let error = end(client.job("f", "").submit().unwrap()).unwrap_err();
        assert!(matches!(error, ClientError::Packet { .. } | ClientError::Unexpected { .. }), "{error:?}");
        drop(client);
        server.join();
    }
}

#[test]
fn cl_18_one_dead_of_two_costs_no_job() {
    let server = Fake::once(|peer| assert_eq!(peer.serve(|_| {}), 100));
    let client = Client::builder().server(NOBODY).server(&server.address).start().unwrap();
    let submit = |i: u8| match i % 2 {
        0 => client.job("f", vec![i, 0]).submit().unwrap(),
        _ => client.job("f", vec![i, 0]).unique("-").submit().unwrap(),
    };
    let handles: Vec<_> = (0..100).map(submit).collect();
    for (i, handle) in (0..).zip(handles) {
        assert_eq!(end(handle).unwrap(), [0, i]);
    }
    drop(client);
    server.join();
}

/// The jobs of two clients, one after the other, by server.
fn where_jobs_go(weights: [u32; 3], routing: Routing, act: impl Fn(&Client)) -> Vec<(usize, Vec<u8>)> {
    let (tell, told) = mpsc::channel();
    let fake =
        |i| {
            let tell = tell.clone();
            // Clients connect with their first job: who has none says that it is over.
            Fake::start(move |listener| {
                while Peer::accept(listener).serve(|asked| tell.send((i, asked.args[1].clone())).unwrap()) > 0 {}
            })
        };
    let servers: Vec<Fake> = (0..3).map(fake).collect();
    drop(tell);
    for _ in 0..2 {
        let builder = servers
            .iter()
            .zip(weights)
            .fold(Client::builder(), |builder, (server, weight)| builder.weighted_server(&server.address, weight));
        act(&builder.seed(0).routing(routing).start().unwrap());
    }
    for server in servers {
        drop(std::net::TcpStream::connect(&server.address).unwrap());
        server.join();
    }
    told.iter().collect()
}

#[test]
fn gw_04_equal_keys_of_two_clients_meet_on_one_of_three_servers() {
    let jobs = where_jobs_go([1; 3], Routing::UniqueHash, |client| {
        for key in 0..30 {
            client.job("f", "").unique(format!("key {key}")).submit().unwrap().wait().unwrap();
        }
    });
    assert_eq!(jobs.len(), 60);
    let homes: std::collections::BTreeSet<_> = jobs.iter().collect();
    assert_eq!(homes.len(), 30, "each key has one server: {homes:?}");
    let used: std::collections::BTreeSet<_> = jobs.iter().map(|(server, _)| server).collect();
    assert_eq!(used.len(), 3);
    // Where the Perl client sends them: (crc32("123456789") >> 16) & 0x7fff is 19444.
    let jobs = where_jobs_go([1; 3], Routing::UniqueHash, |client| {
        client.job("f", "123456789").unique("-").submit().unwrap().wait().unwrap();
    });
    assert_eq!(jobs, vec![(19444 % 3, b"-".to_vec()); 2]);
}

#[test]
fn cl_20_weights_decide_how_many_jobs_a_server_gets() {
    let jobs = where_jobs_go([3, 1, 1], Routing::RoundRobin, |client| {
        let submit = |_| client.job("f", "").unique("key").submit().unwrap();
        let handles: Vec<_> = (0..50).map(submit).collect();
        handles.into_iter().for_each(|handle| _ = end(handle).unwrap());
    });
    let of = |server| jobs.iter().filter(|(i, _)| *i == server).count();
    assert_eq!([of(0), of(1), of(2)], [60, 20, 20]);
}
