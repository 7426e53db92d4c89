//! `layshaft submit`, `admin` and `map --server` against scripted servers.

mod common;
#[path = "../../tests/common/fake.rs"]
mod fake;

use common::{layshaft, map, run, text, write};
use fake::{Fake, Peer};
use layshaft::gearman::packet::Kind;
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// Where nobody listens: a port of the system's own.
const NOBODY: &str = "127.0.0.1:1";

fn command(args: &[&str]) -> Command {
    let mut command = layshaft(Path::new("."), args);
    command.env_remove("GEARMAN_SERVERS");
    command
}

/// What was printed, said, and returned.
fn outcome(output: &Output) -> (String, String, Option<i32>) {
    (text(&output.stdout), text(&output.stderr), output.status.code())
}

fn submit(server: &str, args: &[&str]) -> (String, String, Option<i32>) {
    outcome(&run(command(&[&["submit", "--server", server], args].concat())))
}

/// Takes one submit, and says it is a job.
fn created(peer: &mut Peer, kind: Kind) -> Vec<Vec<u8>> {
    let args = peer.submit(kind);
    peer.send(Kind::JobCreated, &[b"H:fake:1"]);
    args
}

#[test]
fn data_come_before_the_result_and_warnings_elsewhere() {
    let server = Fake::start(|listener| {
        for _ in 0..2 {
            let mut peer = Peer::accept(listener);
            assert_eq!(created(&mut peer, Kind::SubmitJobHigh), [&b"thumb"[..], b"key", b"cat"]);
            peer.send(Kind::WorkData, &[b"H:fake:1", b"one "]);
            peer.send(Kind::WorkWarning, &[b"H:fake:1", b"care\x1bful"]);
            peer.send(Kind::WorkStatus, &[b"H:fake:1", b"3", b"10"]);
            peer.send(Kind::WorkData, &[b"H:fake:1", b"two "]);
            peer.send(Kind::WorkComplete, &[b"H:fake:1", b"three"]);
            peer.wait_for_end();
        }
    });
    let args = ["--high", "--unique", "key", "--progress", "thumb", "cat"];
    let want = "layshaft: warning: care\\u{1b}ful\nlayshaft: 3 of 10 done\n";
    assert_eq!(submit(&server.address, &args), ("one two three".to_owned(), want.to_owned(), Some(0)));
    let (json, _, code) = submit(&server.address, &[&args[..], &["--json"]].concat());
    let want = "{\"job\":\"H:fake:1\",\"result\":\"three\",\"data\":\"one two \"}\n";
    assert_eq!((json.as_str(), code), (want, Some(0)));
    server.join();
}

#[test]
fn payloads_come_from_files_and_servers_from_the_environment() {
    let folder = tempfile::tempdir().expect("a folder");
    write(folder.path(), "file", b"a\0b");
    let server = Fake::start(|listener| {
        for _ in 0..2 {
            assert_eq!(Peer::accept(listener).serve(|asked| assert_eq!(asked.args[0], b"ours\tf")), 1);
        }
    });
    for (from, stdin) in
        [("file", Stdio::null()), ("-", std::fs::File::open(folder.path().join("file")).unwrap().into())]
    {
        let mut command = command(&["submit", "--namespace", "ours", "f", "-f", from]);
        command.env("GEARMAN_SERVERS", &server.address).current_dir(folder.path()).stdin(stdin);
        assert_eq!(outcome(&run(command)), ("b\0a".to_owned(), String::new(), Some(0)));
    }
    server.join();
}

/// Of a list that names nothing, as of one that is not there.
#[test]
fn an_empty_list_in_the_environment_is_none() {
    let run_with = |args: &[&str], list: &str| {
        let mut command = command(args);
        command.env("GEARMAN_SERVERS", list);
        outcome(&run(command))
    };
    // Whether somebody serves at the default is not known: it is asked, or it is told that nobody is there.
    for args in [&["admin", "version"][..], &["submit", "--timeout", "1ms", "f"]] {
        let (_, errors, code) = run_with(args, "");
        assert_ne!(code, Some(2), "{errors}");
        let (_, errors, code) = run_with(args, "a:b");
        assert!(errors.contains("\"a:b\" is no address") && code == Some(2), "{errors}");
    }
}

#[test]
fn a_background_job_is_named_and_a_missing_worker_told() {
    let server = Fake::once(|peer| {
        created(peer, Kind::SubmitJobLowBg);
        assert_eq!(peer.line(), "status");
        peer.write(b"thumbs\t1\t0\t0\nthumb\t0\t0\t2\nresize\t0\t0\t1\n.\n");
        for known in [b"1", b"0"] {
            assert_eq!(peer.next().unwrap().kind, Kind::GetStatus);
            peer.send(Kind::StatusRes, &[b"H:fake:1", known, b"0", b"0", b"0"]);
        }
        peer.wait_for_end();
    });
    let want = "layshaft: queued as H:fake:1, but no worker has registered \"thumbs\". Registered: thumb, resize\n";
    let got = submit(&server.address, &["--background", "--wait", "--low", "thumbs"]);
    assert_eq!(got, ("H:fake:1\n".to_owned(), want.to_owned(), Some(0)));
    server.join();
}

#[test]
fn exit_codes_say_what_went_wrong() {
    let with = |answer: fn(&mut Peer)| {
        let server = Fake::once(move |peer| {
            answer(peer);
            peer.wait_for_end();
        });
        let (output, errors, code) = submit(&server.address, &["--timeout", "200ms", "f"]);
        assert_eq!(output, "");
        let errors = errors.replace(&server.address, "ADDRESS");
        server.join();
        (errors, code)
    };
    let failed = with(|peer| {
        created(peer, Kind::SubmitJob);
        peer.send(Kind::WorkFail, &[b"H:fake:1"]);
    });
    assert_eq!(failed, ("layshaft: the worker reported that the job failed\n".to_owned(), Some(1)));
    let exception = with(|peer| {
        created(peer, Kind::SubmitJob);
        peer.send(Kind::WorkException, &[b"H:fake:1", b"no way"]);
    });
    assert_eq!(exception, ("layshaft: the worker reported an exception: no way\n".to_owned(), Some(1)));
    let refused = with(|peer| {
        peer.submit(Kind::SubmitJob);
        peer.send(Kind::Error, &[b"QUEUE_FULL", b"f is full"]);
    });
    assert_eq!(refused, ("layshaft: ADDRESS refused: f is full (QUEUE_FULL)\n".to_owned(), Some(5)));
    // Not the job, but the connection.
    let refused = with(|peer| peer.send(Kind::Error, &[b"peer_not_allowed", b"not from there"]));
    let want = "layshaft: ADDRESS refused: not from there (peer_not_allowed)\n";
    assert_eq!(refused, (want.to_owned(), Some(5)));
    let http = with(|peer| peer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n"));
    let want = "layshaft: the peer at ADDRESS speaks HTTP, not Gearman; is the port right?\n";
    assert_eq!(http, (want.to_owned(), Some(3)));
    let late = with(|peer| {
        created(peer, Kind::SubmitJob);
        assert_eq!(peer.line(), "status");
        peer.write(b".\n");
    });
    let want = "layshaft: no result within 0.2 s: is there a worker?\n\
                layshaft: no worker has registered \"f\", nor anything else\n";
    assert_eq!(late, (want.to_owned(), Some(4)));

    let (_, errors, code) = submit(NOBODY, &["f"]);
    assert!(errors.starts_with("layshaft: no server at 127.0.0.1:1 (refused, tried "), "{errors}");
    assert_eq!(code, Some(3));
    let (_, errors, code) = submit("a:b", &["f"]);
    assert!(errors.starts_with("layshaft: \"a:b\" is no address of a server: "), "{errors}");
    assert_eq!(code, Some(2));
    for wrong in
        [&["--at", "soon", "f"][..], &["--high", "--low", "f"], &["f", "data", "-f", "file"], &["f", "-f", "/nowhere"]]
    {
        assert_eq!(submit(NOBODY, wrong).2, Some(2), "{wrong:?}");
    }
}

fn admin(args: &[&str]) -> (String, String, Option<i32>) {
    outcome(&run(command(&[&["admin"], args].concat())))
}

/// A server that answers a text command a connection.
fn text_server(answers: &'static [(&'static str, &'static str)]) -> Fake {
    Fake::start(move |listener| {
        for (command, answer) in answers {
            let mut peer = Peer::accept(listener);
            assert_eq!(peer.line(), *command);
            peer.write(answer.as_bytes());
            peer.wait_for_end();
        }
    })
}

#[test]
fn tables_are_for_people_or_programs() {
    const TABLE: &str = "resize\t12\t3\t4\nodd\\x09\t0\t0\t0\n.\n";
    let first = text_server(&[
        ("status", TABLE),
        ("status", TABLE),
        ("status", TABLE),
        ("version", "OK 1.1.20\r\n"),
        ("maxqueue f 3", "OK\r\n"),
        ("foo", "ERR UNKNOWN_COMMAND Unknown+server+command\r\n"),
        ("maxqueue f -1", "OK\r\n"),
        ("pause -x", "OK\r\n"),
        ("status", "f\t1\t0\t0\n.\n"),
    ]);
    let second = text_server(&[("status", "resize\t1\t0\t0\n.\n")]);
    let want =
        "FUNCTION  TOTAL  RUNNING  WORKERS\nresize       12        3        4\nodd\\x09       0        0        0\n";
    assert_eq!(admin(&["-S", &first.address, "status"]), (want.to_owned(), String::new(), Some(0)));
    let (json, _, _) = admin(&["-S", &first.address, "--json", "status"]);
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    let want = serde_json::json!({ "function": "resize", "total": 12, "running": 3, "workers": 4 });
    assert_eq!(json["rows"][0], want);

    let all = format!("{},{NOBODY},{}", first.address, second.address);
    let (table, errors, code) = admin(&["-S", &all, "status"]);
    let rows: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[0], ["SERVER", "FUNCTION", "TOTAL", "RUNNING", "WORKERS"]);
    assert_eq!(rows[1], [&first.address, "resize", "12", "3", "4"]);
    assert_eq!(rows[3], [&second.address, "resize", "1", "0", "0"]);
    assert_eq!((errors.as_str(), code), ("layshaft: no server at 127.0.0.1:1 (refused)\n", Some(3)));

    assert_eq!(admin(&["-S", &first.address, "version"]).0, "1.1.20\n");
    assert_eq!(admin(&["-S", &first.address, "maxqueue", "f", "3"]).0, "ok\n");
    let (_, errors, code) = admin(&["-S", &first.address, "foo"]);
    assert!(errors.ends_with("refused: Unknown server command (UNKNOWN_COMMAND)\n"), "{errors}");
    assert_eq!(code, Some(5));
    // Options may come behind the command; none of them is a part of it.
    let server = ["--server", &first.address];
    assert_eq!(admin(&[&["maxqueue", "f", "-1"], &server[..]].concat()).0, "ok\n");
    assert_eq!(admin(&[&["pause"], &server[..], &["--", "-x"]].concat()).0, "ok\n");
    let (json, _, code) = admin(&[&["status", "--json"], &server[..]].concat());
    assert!(json.starts_with("{\"rows\":[{\"function\":\"f\"") && code == Some(0), "{json}");
    let (_, errors, code) = admin(&[&["status", "--jsn"], &server[..]].concat());
    assert!(errors.contains("'--jsn'") && code == Some(2), "{errors}");
    first.join();
    second.join();
}

#[test]
fn a_remote_function_maps_files_in_order() {
    const FILES: usize = 20;
    let folder = tempfile::tempdir().expect("a folder");
    let names: Vec<String> = (0..FILES).map(|i| format!("{i:02}")).collect();
    names.iter().for_each(|name| write(folder.path(), name, format!("{name} is here\n")));
    // None ends before all are there, and the last ends first.
    let server = Fake::start(|listener| {
        let mut probe = Peer::accept(listener);
        let echo = probe.next().expect("a look whether anybody is there");
        probe.send(Kind::EchoRes, &[&echo.args[0]]);
        let jobs: Vec<_> = (0..FILES).map(|_| probe.submit(Kind::SubmitJob)).collect();
        for i in 0..FILES {
            probe.send(Kind::JobCreated, &[format!("H:fake:{i}").as_bytes()]);
        }
        for (i, args) in jobs.iter().enumerate().rev() {
            assert_eq!(args[0], b"upper");
            let name = format!("H:fake:{i}");
            match args[2].starts_with(b"07") {
                true => probe.send(Kind::WorkFail, &[name.as_bytes()]),
                false => probe.send(Kind::WorkComplete, &[name.as_bytes(), &args[2].to_ascii_uppercase()]),
            }
        }
        probe.wait_for_end();
    });
    let mut command = layshaft(folder.path(), ["map", "--quiet", "--server", &server.address, "upper"]);
    command.args(&names);
    let (output, errors, code) = outcome(&run(command));
    let want: String = names.iter().filter(|name| *name != "07").map(|name| format!("{name} IS HERE\n")).collect();
    assert_eq!(output, want);
    assert_eq!(errors, "layshaft: '07': the worker reported that the job failed\n");
    assert_eq!(code, Some(1));
    server.join();

    let output = run(command_in(folder.path(), &["map", "--server", NOBODY, "upper", "00"]));
    assert!(text(&output.stderr).starts_with("layshaft: no server at 127.0.0.1:1"), "{}", text(&output.stderr));
    assert_eq!(output.status.code(), Some(3));
    // What it is without a server, it stays.
    assert_eq!(map(folder.path(), ["wc", "00"]), b" 1  3 11 00\n");
}

fn command_in(folder: &Path, args: &[&str]) -> Command {
    let mut command = command(args);
    command.current_dir(folder);
    command
}
