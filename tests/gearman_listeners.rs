//! What may be listened on, and what becomes of the files of Unix sockets.
#![cfg(feature = "gearman")]

#[path = "common/peer.rs"]
mod peer;

use layshaft::Engine;
use layshaft::gearman::packet::Kind;
use layshaft::gearman::{ExposedError, Server, ServerBuilder};
use peer::Peer;
use std::io::ErrorKind;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

fn builder() -> ServerBuilder {
    Server::builder(&Engine::builder().workers(1).start().unwrap())
}

fn path(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("layshaft-{name}-{}", std::process::id()))
}

fn mode(path: &Path) -> u32 {
    path.symlink_metadata().unwrap().permissions().mode() & 0o777
}

#[test]
fn a_unix_socket_is_for_its_user_and_group() {
    let path = path("mode");
    let server = builder().listen_unix(&path).start().unwrap();
    assert_eq!(mode(&path), 0o660);
    drop(server);
    let server = builder().listen_unix(&path).unix_mode(0o600).start().unwrap();
    assert_eq!(mode(&path), 0o600);
    Peer::over_unix(UnixStream::connect(&path).unwrap()).expect_nothing();
    drop(server);
    assert!(!path.exists());
}

#[test]
fn only_a_socket_that_nobody_listens_on_is_replaced() {
    let path = path("replaced");
    std::fs::write(&path, "not to be lost").unwrap();
    let error = builder().listen_unix(&path).start().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyExists);
    assert_eq!(error.to_string(), format!("cannot listen on {}: there is a file that is no socket", path.display()));
    assert_eq!(std::fs::read(&path).unwrap(), b"not to be lost");
    std::fs::remove_file(&path).unwrap();

    let other = UnixListener::bind(&path).unwrap();
    assert_eq!(builder().listen_unix(&path).start().unwrap_err().kind(), ErrorKind::AddrInUse);
    drop(other);
    assert!(path.exists());
    let _server = builder().listen_unix(&path).start().unwrap();
    Peer::over_unix(UnixStream::connect(&path).unwrap()).expect_nothing();
}

/// Servers that take over from each other use the same path.
#[test]
fn a_server_removes_no_socket_but_its_own() {
    let path = path("taken-over");
    let old = builder().listen_unix(&path).listen("127.0.0.1:0").start().unwrap();
    let (mut client, mut worker) = (Peer::new(&old), Peer::worker(&old, &["f"]));
    client.submit(Kind::SubmitJob, "f", b"", b"");
    let (handle, _) = worker.grab();
    old.drain(Duration::from_secs(3600));
    // The file goes when no connection is taken any more.
    while UnixStream::connect(&path).is_ok() {
        std::thread::yield_now();
    }
    let new = builder().listen_unix(&path).start().unwrap();
    worker.complete(&handle, b"");
    client.expect(Kind::WorkComplete);
    old.wait();
    Peer::over_unix(UnixStream::connect(&path).unwrap()).expect_nothing();

    // As it is without a word to the old one.
    std::fs::remove_file(&path).unwrap();
    let newest = builder().listen_unix(&path).start().unwrap();
    drop(new);
    Peer::over_unix(UnixStream::connect(&path).unwrap()).expect_nothing();
    drop(newest);
    assert!(!path.exists());
}

#[test]
fn other_machines_are_kept_out_unless_asked_for() {
    let exposed = || TcpListener::bind("0.0.0.0:0").unwrap();
    for builder in [builder().listen("0.0.0.0:0"), builder().listen_admin("[::]:0"), builder().listener(exposed())] {
        let error = builder.start().unwrap_err();
        assert!(error.to_string().contains("can be reached from other machines"), "{error}");
        assert!(error.to_string().contains("`ServerBuilder::insecure`"), "{error}");
        assert!(error.get_ref().unwrap().is::<ExposedError>());
    }
    builder().listen("0.0.0.0:0").insecure(true).start().unwrap();
    builder().listener(exposed()).allow(["10.0.0.0/8".parse().unwrap()]).start().unwrap();
    builder().listen("127.0.0.1:0").listen("[::1]:0").start().unwrap();
}
