//! Gearman over TLS: the server with raw peers, and with the client and the worker.
#![cfg(feature = "tls")]

#[path = "../common/certs.rs"]
mod certs;
mod failures;
#[path = "../common/peer.rs"]
mod peer;
#[cfg(feature = "peers")]
mod perl;
mod remote;
mod rotation;

use certs::{Authority, Identity, connect, trust};
use layshaft::Engine;
use layshaft::gearman::packet::{Kind, Magic, encode};
use layshaft::gearman::{Server, ServerBuilder, Tls};
use peer::Peer;
use rustls::ClientConfig;
use std::io::{Read, Write};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

/// Nothing takes that long.
const PATIENCE: Duration = Duration::from_secs(30);

/// As options.
fn tls(identity: &Identity) -> Tls {
    // Long, since much else may run on this machine.
    Tls::pem(identity.chain.as_str(), identity.key.as_str()).handshake_deadline(PATIENCE)
}

/// A payload as large as may be, nearly, with no part like the next.
fn large() -> Vec<u8> {
    let part: Vec<u8> = (0..=250).collect();
    let mut payload = part.repeat((64 << 20) / part.len());
    payload.truncate((64 << 20) - 100);
    payload
}

/// A server that speaks nothing but TLS.
fn server(tls: Tls) -> Server {
    server_with(|builder| builder.listen_tls("127.0.0.1:0", tls))
}

fn server_with(set: impl FnOnce(ServerBuilder) -> ServerBuilder) -> Server {
    let engine = Engine::builder().workers(2).start().unwrap();
    set(Server::builder(&engine).host("test")).start().unwrap()
}

fn peer(server: &Server, config: &Arc<ClientConfig>) -> Peer {
    let stream = connect(server.addresses()[0], config);
    stream.sock.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.sock.set_nodelay(true).unwrap();
    Peer::over_other(stream)
}

/// A server with an authority that its peers trust.
fn simple() -> (Server, Arc<ClientConfig>) {
    let authority = Authority::new();
    (server(tls(&authority.sign("127.0.0.1"))), trust(&authority, None))
}

#[test]
fn a_job_is_submitted_and_done() {
    let (server, config) = simple();
    let (mut client, mut worker) = (peer(&server, &config), peer(&server, &config));
    worker.send(Kind::CanDo, &[b"reverse"]);
    worker.grab_nothing();
    worker.send(Kind::PreSleep, &[]);
    let handle = client.submit(Kind::SubmitJob, "reverse", b"", b"abc");
    worker.expect(Kind::Noop);
    assert_eq!(worker.grab(), (handle.clone(), b"abc".to_vec()));
    worker.complete(&handle, b"cba");
    client.expect_packet(Kind::WorkComplete, &[&handle, b"cba"]);
    assert_eq!(client.status("reverse"), Some([0, 0, 1]));
    assert_eq!(server.status().counters.tls_failed, 0);
}

/// So much that sockets and buffers are full many times over, and the peer reads nothing before it has written all.
#[test]
fn large_payloads_go_both_ways() {
    let (server, config) = simple();
    let (mut client, mut worker) = (peer(&server, &config), peer(&server, &config));
    let payload = large();
    worker.send(Kind::CanDo, &[b"echo"]);
    let handle = client.submit(Kind::SubmitJob, "echo", b"", &payload);
    let (grabbed, what) = worker.grab();
    assert!(grabbed == handle && what == payload);
    worker.complete(&handle, &what);
    let got = client.expect(Kind::WorkComplete);
    assert!(got.args[1] == payload);
}

#[test]
fn many_small_packets_in_one_record_and_one_packet_in_many() {
    let (server, config) = simple();
    let mut stream = connect(server.addresses()[0], &config);
    stream.sock.set_nodelay(true).unwrap();
    let mut packets = Vec::new();
    for i in 0..1000_u32 {
        encode(&mut packets, Magic::Request, Kind::EchoReq, &[&i.to_be_bytes()]);
    }
    stream.write_all(&packets).unwrap();
    // Each byte is a record, a segment and an event of its own.
    let mut echo = Vec::new();
    encode(&mut echo, Magic::Request, Kind::EchoReq, &[b"a byte at a time"]);
    for byte in echo {
        stream.write_all(&[byte]).unwrap();
        stream.flush().unwrap();
    }
    let mut peer = Peer::over_other(stream);
    for i in 0..1000_u32 {
        peer.expect_packet(Kind::EchoRes, &[&i.to_be_bytes()]);
    }
    peer.expect_packet(Kind::EchoRes, &[b"a byte at a time"]);
}

/// Records come in any pieces, too.
#[test]
fn the_handshake_and_records_a_byte_at_a_time() {
    let (server, config) = simple();
    let name = rustls::pki_types::ServerName::try_from("127.0.0.1").unwrap();
    let mut tls = rustls::ClientConnection::new(config, name).unwrap();
    let mut socket = std::net::TcpStream::connect(server.addresses()[0]).unwrap();
    socket.set_nodelay(true).unwrap();
    let mut echo = Vec::new();
    encode(&mut echo, Magic::Request, Kind::EchoReq, &[b"slow"]);
    tls.writer().write_all(&echo).unwrap();
    let mut answer = Vec::new();
    while answer.len() < echo.len() {
        let mut bytes = Vec::new();
        while tls.wants_write() {
            tls.write_tls(&mut bytes).unwrap();
        }
        bytes.iter().for_each(|byte| socket.write_all(&[*byte]).unwrap());
        assert!(tls.read_tls(&mut socket).unwrap() > 0);
        let there = tls.process_new_packets().unwrap().plaintext_bytes_to_read();
        answer.resize(answer.len() + there, 0);
        let at = answer.len() - there;
        tls.reader().read_exact(&mut answer[at..]).unwrap();
    }
    assert!(answer.ends_with(b"slow"));
}

/// A peer that says in TLS that it sends no more gets its result all the same, and then the end.
#[test]
fn a_client_that_has_said_farewell_hears_the_result() {
    let (server, config) = simple();
    let mut worker = peer(&server, &config);
    worker.send(Kind::CanDo, &[b"f"]);
    let mut stream = connect(server.addresses()[0], &config);
    let mut submit = Vec::new();
    encode(&mut submit, Magic::Request, Kind::SubmitJob, &[b"f", b"", b"x"]);
    stream.write_all(&submit).unwrap();
    worker.sync();
    let mut admin = peer(&server, &config);
    admin.wait_for_status("f", [1, 0, 1]);
    let (handle, _) = worker.grab();
    stream.conn.send_close_notify();
    stream.flush().unwrap();
    worker.complete(&handle, b"y");
    let mut all = Vec::new();
    // An end without a farewell would be an error.
    stream.read_to_end(&mut all).unwrap();
    assert!(all.ends_with(b"\0y"), "{}", all.escape_ascii());
}

#[test]
fn several_threads_and_listeners_of_both_kinds() {
    let authority = Authority::new();
    let with = tls(&authority.sign("127.0.0.1"));
    let server = server_with(|b| b.threads(3).listen_tls("127.0.0.1:0", with).listen("127.0.0.1:0"));
    let config = trust(&authority, None);
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| peer(&server, &config).expect_nothing());
            scope.spawn(|| Peer::at(server.addresses()[1]).expect_nothing());
        }
    });
    assert_eq!(server.status().counters.connections, 16);
}

/// Text commands that change something are for this machine, and for those with a certificate where that is said.
#[test]
fn a_certificate_makes_an_administrator_where_that_is_set() {
    let authority = Authority::new();
    let identity = authority.sign("127.0.0.1");
    for (is_set, has_certificate) in [(true, true), (true, false), (false, true)] {
        let options = tls(&identity).client_ca_pem(authority.pem.as_str()).client_optional(true);
        let server =
            server_with(|builder| builder.listen_tls("0.0.0.0:0", options.admin_by_certificate(is_set)).insecure(true));
        let config = trust(&authority, has_certificate.then_some(&identity));
        let mut address = server.addresses()[0];
        address.set_ip([127, 0, 0, 1].into());
        let mut peer = Peer::over_other(connect(address, &config));
        let answer = peer.ask("create function f");
        assert_eq!(answer.starts_with("OK"), is_set && has_certificate, "{is_set} {has_certificate}: {answer}");
    }
}
