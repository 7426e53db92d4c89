//! Certificates that are replaced while the server runs.

use super::*;
use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

/// Files of one test.
struct Files(PathBuf);

impl Files {
    fn new(name: &str) -> Files {
        let folder = std::env::temp_dir().join(format!("layshaft-tls-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        Files(folder)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn write(&self, identity: &Identity) {
        fs::write(self.path("chain"), &identity.chain).unwrap();
        fs::write(self.path("key"), &identity.key).unwrap();
    }

    fn tls(&self) -> Tls {
        Tls::files(self.path("chain"), self.path("key"))
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn f33_a_new_certificate_is_for_new_connections() {
    let (old, new) = (Authority::new(), Authority::new());
    let files = Files::new("new");
    files.write(&old.sign("127.0.0.1"));
    let server = server(files.tls());
    let mut before = peer(&server, &trust(&old, None));
    before.expect_nothing();
    files.write(&new.sign("127.0.0.1"));
    // Not before it is said.
    peer(&server, &trust(&old, None)).expect_nothing();
    server.reload_tls().unwrap();
    peer(&server, &trust(&new, None)).expect_nothing();
    let mut stream = connect(server.addresses()[0], &trust(&old, None));
    stream.write_all(b"status\n").unwrap_err();
    before.expect_nothing();
}

#[test]
fn f33_what_cannot_be_used_changes_nothing() {
    let authority = Authority::new();
    let (files, others) = (Files::new("broken"), Files::new("others"));
    files.write(&authority.sign("127.0.0.1"));
    others.write(&authority.sign("127.0.0.1"));
    let server = server_with(|b| b.listen_tls("127.0.0.1:0", others.tls()).listen_tls("127.0.0.1:0", files.tls()));
    let later = Authority::new();
    others.write(&later.sign("127.0.0.1"));
    fs::write(files.path("key"), "half a k").unwrap();
    let error = server.reload_tls().unwrap_err().to_string();
    assert!(error.contains("holds no private key"), "{error}");
    fs::remove_file(files.path("key")).unwrap();
    let error = server.reload_tls().unwrap_err().to_string();
    assert!(error.contains("cannot read"), "{error}");
    // Nor for the listener whose files were good.
    for address in server.addresses() {
        Peer::over_other(connect(*address, &trust(&authority, None))).expect_nothing();
    }
    files.write(&later.sign("127.0.0.1"));
    server.reload_tls().unwrap();
    for address in server.addresses() {
        Peer::over_other(connect(*address, &trust(&later, None))).expect_nothing();
    }
}

/// A client that was trusted before is not let in again by way of its old session.
#[test]
fn a_session_of_before_is_not_resumed() {
    let (old, new) = (Authority::new(), Authority::new());
    let files = Files::new("resumed");
    files.write(&old.sign("127.0.0.1"));
    fs::write(files.path("ca"), &old.pem).unwrap();
    let server = server(files.tls().client_ca_file(files.path("ca")));
    // The client keeps sessions.
    let config = trust(&old, Some(&old.sign("a client")));
    peer(&server, &config).expect_nothing();
    peer(&server, &config).expect_nothing();
    fs::write(files.path("ca"), &new.pem).unwrap();
    server.reload_tls().unwrap();
    let mut stream = connect(server.addresses()[0], &config);
    let outcome = stream.write_all(b"version\n").and_then(|()| stream.read_exact(&mut [0; 2]));
    assert!(outcome.is_err());
}

#[test]
fn f33_rotation_under_load() {
    let authority = Authority::new();
    let files = Files::new("load");
    files.write(&authority.sign("127.0.0.1"));
    let server = server(files.tls());
    let config = trust(&authority, None);
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let clients: Vec<_> = (0..4)
            .map(|i: u8| {
                let (server, config, is_over) = (&server, &config, &is_over);
                scope.spawn(move || {
                    let mut old = peer(server, config);
                    let mut rounds = 0;
                    while !is_over.load(Ordering::Relaxed) || rounds < 5 {
                        let mut new = peer(server, config);
                        for peer in [&mut old, &mut new] {
                            peer.send(Kind::EchoReq, &[&[i; 50_000]]);
                            peer.expect_packet(Kind::EchoRes, &[&[i; 50_000]]);
                        }
                        rounds += 1;
                    }
                })
            })
            .collect();
        for _ in 0..50 {
            files.write(&authority.sign("127.0.0.1"));
            server.reload_tls().unwrap();
        }
        is_over.store(true, Ordering::Relaxed);
        clients.into_iter().for_each(|client| client.join().unwrap());
    });
    assert_eq!(server.status().counters.tls_failed, 0);
}
