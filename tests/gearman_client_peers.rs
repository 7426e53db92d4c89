//! The Gearman client with the servers and workers that are there already: C and Perl.
#![cfg(all(feature = "gearman", feature = "peers"))]

#[path = "common/daemon.rs"]
mod daemon;

use daemon::Daemon;
use layshaft::Priority;
use layshaft::gearman::{Client, ClientError, RemoteHandle, RemoteUpdate, Routing};
use std::time::{Duration, SystemTime};

const PATIENCE: Duration = Duration::from_secs(60);

/// All that a worker can do.
const WORKER: &str = r#"
    my $worker = Gearman::Worker->new(job_servers => [@ARGV]);
    $worker->register_function(reverse => sub { scalar reverse $_[0]->arg });
    $worker->register_function("ours\treverse" => sub { "ours: " . scalar reverse $_[0]->arg });
    $worker->register_function(fail => sub { undef });
    $worker->register_function(bad => sub { die "no way\n" });
    $worker->register_function(steps => sub {
        my $job = shift;
        $worker->send_work_data($job, "one");
        $worker->send_work_warning($job, "careful");
        $job->set_status(3, 10);
        return "end";
    });
    $worker->register_function(hang => sub { $_[0]->set_status(1, 2); sleep 1000 while 1; });
    $worker->work while 1;
"#;

#[track_caller]
fn end(handle: RemoteHandle) -> Result<Vec<u8>, ClientError> {
    handle.wait_timeout(PATIENCE).expect("an end, and no hang")
}

/// Both servers, one after the other.
fn with_each(act: impl Fn(&Daemon, &str)) {
    act(&Daemon::c(), "C");
    act(&Daemon::perl(), "Perl");
}

fn client(server: &Daemon) -> Client {
    Client::connect(&server.address()).unwrap()
}

#[test]
fn a_perl_workers_results_come_through_both_servers() {
    with_each(|server, which| {
        let _worker = server.perl_worker(WORKER);
        let client = client(server);
        // The Perl server knows no low priority, and says so by a broken connection.
        let last = if which == "Perl" { Priority::Normal } else { Priority::Low };
        for priority in [Priority::High, Priority::Normal, last] {
            let submit = |i: u32| client.job("reverse", format!("{i}")).priority(priority).submit().unwrap();
            let handles: Vec<_> = (10..30).map(submit).collect();
            for (i, handle) in (10..30).zip(handles) {
                let want: String = i.to_string().chars().rev().collect();
                assert_eq!(end(handle).unwrap(), want.as_bytes(), "{which}");
            }
        }
        assert!(matches!(end(client.job("fail", "").submit().unwrap()), Err(ClientError::Failed)), "{which}");
        let (submit, updates) = client.job("steps", "").updates();
        assert_eq!(end(submit.submit().unwrap()).unwrap(), b"end", "{which}");
        let heard: Vec<_> = updates.skip(1).collect();
        let want = [
            RemoteUpdate::Data(b"one".to_vec()),
            RemoteUpdate::Warning(b"careful".to_vec()),
            RemoteUpdate::Status { numerator: 3, denominator: 10 },
        ];
        // The Perl server keeps data and warnings to itself.
        let want = if which == "Perl" { &want[2..] } else { &want };
        assert_eq!(heard, want, "{which}");
    });
}

#[test]
fn exceptions_are_asked_for_or_plain_failures() {
    with_each(|server, which| {
        for wanted in [true, false] {
            // The Perl worker does not survive what the C server makes of an exception.
            let _worker = server.perl_worker(WORKER);
            let client = Client::builder().server(&server.address()).exceptions(wanted).start().unwrap();
            let (submit, updates) = client.job("bad", "").updates();
            let error = end(submit.submit().unwrap()).unwrap_err();
            let has_bytes = matches!(&error, ClientError::Exception(bytes) if bytes.windows(6).any(|w| w == b"no way"));
            assert!(has_bytes || matches!(error, ClientError::Failed) && !wanted, "{which}, {wanted}: {error:?}");
            assert_eq!(updates.skip(1).count(), usize::from(has_bytes));
        }
    });
}

#[test]
fn the_c_worker_and_equal_jobs() {
    let server = Daemon::c();
    let client = client(&server);
    // All wait for one run, as there is no worker yet.
    let handles: Vec<_> = (0..10).map(|_| client.job("wc", "abc").unique("-").submit().unwrap()).collect();
    let ids: std::collections::HashSet<_> = handles.iter().map(|handle| handle.wait_created().unwrap()).collect();
    assert_eq!(ids.len(), 1);
    let id = ids.into_iter().next().unwrap();
    let status = client.status(&id).wait().unwrap();
    assert!(status.is_known && !status.is_running);
    let status = client.status_unique("-").wait().unwrap();
    assert_eq!(status.is_known, status.clients.is_some_and(|clients| clients > 0));
    let _worker = server.c_worker("wc", &["--", "wc", "-c"]);
    handles.into_iter().for_each(|handle| assert_eq!(end(handle).unwrap(), b"3\n"));
    assert!(!client.status(&id).wait().unwrap().is_known);
    // Binary through a program's pipes, which hold this much: the C worker writes all before it reads.
    let _worker = server.c_worker("cat", &["cat"]);
    let payload: Vec<u8> = (0..32 << 10).map(|i| (i % 251) as u8).collect();
    let (submit, updates) = client.job("cat", payload.clone()).updates();
    let rest = end(submit.submit().unwrap()).unwrap();
    // What it sends as data before its end belongs to the result, too.
    let mut whole: Vec<u8> =
        updates.flat_map(|update| if let RemoteUpdate::Data(data) = update { data } else { vec![] }).collect();
    whole.extend(rest);
    assert!(whole == payload);
}

#[test]
fn background_jobs_run_and_text_commands_show_them() {
    with_each(|server, which| {
        let client = client(server);
        let ids: Vec<_> = (0..3).map(|i| client.job("reverse", vec![i]).submit_background().unwrap()).collect();
        for id in ids {
            assert!(id.wait().unwrap().name().starts_with(b"H:"), "{which}");
        }
        let table = client.admin(0, "status").wait().unwrap();
        let row = table.fields().into_iter().find(|row| row[0] == b"reverse").expect("a row");
        assert_eq!(row[1..], [&b"3"[..], b"0", b"0"], "{which}");
        let error = client.admin(0, "no such command").wait().unwrap_err();
        assert!(
            matches!(&error, ClientError::Server { code, .. } if code.to_lowercase() == "unknown_command"),
            "{which}: {error:?}"
        );
        client.admin(0, "version").wait().unwrap();
        client.admin(0, "workers").wait().unwrap();
        assert_eq!(client.echo("a\0b").wait().unwrap(), b"a\0b", "{which}");
        let _worker = server.perl_worker(WORKER);
        // First in, first out: when this one ends, the others have.
        assert_eq!(client.call("reverse", "last").unwrap(), b"tsal");
        let table = client.admin(0, "status").wait().unwrap();
        let row = table.fields().into_iter().find(|row| row[0] == b"reverse").expect("a row");
        assert_eq!(row[1], b"0", "{which}");
    });
}

#[test]
fn a_job_with_a_time_waits_for_it() {
    let server = Daemon::c();
    let client = client(&server);
    let soon = SystemTime::now() + Duration::from_secs(3600);
    let id = client.job("reverse", "ab").at(soon).submit_background().unwrap().wait().unwrap();
    assert!(client.status(&id).wait().unwrap().is_known);
}

#[test]
fn a_full_queue_refuses() {
    let server = Daemon::c();
    let client = client(&server);
    client.job("f", "").submit_background().unwrap().wait().unwrap();
    // A limit of a function that the server does not know is forgotten.
    client.admin(0, "maxqueue f 1").wait().unwrap();
    let error = client.job("f", "").submit_background().unwrap().wait().unwrap_err();
    assert!(matches!(error, ClientError::Server { .. }), "{error:?}");
    assert!(error.to_string().contains("refused: "), "{error}");
}

#[test]
fn gw_05_nobody_takes_the_job() {
    with_each(|server, which| {
        let client = client(server);
        let limit = Duration::from_millis(100);
        let (submit, updates) = client.job("nobody's", "").attempt_timeout(limit).retries(2).updates();
        let started = std::time::Instant::now();
        let error = end(submit.submit().unwrap()).unwrap_err();
        assert!(started.elapsed() >= 3 * limit);
        assert!(matches!(error, ClientError::TimedOut { attempts: 3, .. }), "{which}: {error:?}");
        let is_retry = |update: &RemoteUpdate| matches!(update, RemoteUpdate::Retry(_));
        assert_eq!(updates.filter(is_retry).count(), 2, "{which}");
    });
}

#[test]
fn gw_08_namespaces_do_not_see_each_other() {
    with_each(|server, which| {
        let _worker = server.perl_worker(WORKER);
        let ours = Client::builder().server(&server.address()).namespace("ours").start().unwrap();
        assert_eq!(ours.call("reverse", "ab").unwrap(), b"ours: ba", "{which}");
        assert_eq!(client(server).call("reverse", "ab").unwrap(), b"ba", "{which}");
    });
}

/// The first server dies; the second one has a worker.
fn after_a_kill(act: impl FnOnce(&mut Daemon, &Client, &mut dyn FnMut(&str) -> RemoteHandle)) {
    let (mut dying, other) = (Daemon::c(), Daemon::c());
    let _worker = other.perl_worker(&WORKER.replace("sleep 1000 while 1", "'survived'"));
    let builder = Client::builder().server(&dying.address()).server(&other.address());
    let client = builder.seed(0).routing(Routing::RoundRobin).start().unwrap();
    let mut handles = Vec::new();
    let mut submit = |function: &str| {
        let handle = client.job(function, "ab").resubmit(true).submit().unwrap();
        handles.push(());
        handle
    };
    act(&mut dying, &client, &mut submit);
}

#[test]
fn gw_09_killed_before_the_submit() {
    after_a_kill(|dying, _, submit| {
        dying.kill();
        for _ in 0..10 {
            assert_eq!(end(submit("reverse")).unwrap(), b"ba");
        }
    });
}

#[test]
fn gw_09_killed_before_it_answers() {
    after_a_kill(|dying, _, submit| {
        dying.stop();
        let handle = submit("reverse");
        dying.kill();
        assert_eq!(end(handle).unwrap(), b"ba");
    });
}

#[test]
fn gw_09_killed_while_the_job_is_queued() {
    after_a_kill(|dying, _, submit| {
        let handle = submit("reverse");
        assert!(handle.wait_created().is_some());
        dying.kill();
        assert_eq!(end(handle).unwrap(), b"ba");
    });
}

#[test]
fn gw_09_killed_while_the_job_runs() {
    after_a_kill(|dying, client, _| {
        let _worker = dying.perl_worker(WORKER);
        let (submit, mut updates) = client.job("hang", "").resubmit(true).updates();
        let handle = submit.submit().unwrap();
        // The worker has begun.
        assert!(updates.any(|update| matches!(update, RemoteUpdate::Status { .. })));
        dying.kill();
        assert_eq!(end(handle).unwrap(), b"survived");
    });
}

#[test]
fn gw_09_what_must_not_run_twice_ends_with_its_server() {
    let mut server = Daemon::c();
    let client = client(&server);
    let handle = client.job("reverse", "").submit().unwrap();
    assert!(handle.wait_created().is_some());
    server.kill();
    let error = end(handle).unwrap_err();
    assert!(error.is_connection(), "{error:?}");
}
