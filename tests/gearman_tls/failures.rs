//! F33: what goes wrong with TLS ends that connection with a word, and no other.

use super::*;
use std::net::{Shutdown, TcpStream};
use std::time::Instant;

/// A connection that others' failures are not to touch.
struct Bystander(Peer);

impl Bystander {
    fn new(server: &Server, config: &Arc<ClientConfig>) -> Bystander {
        let mut peer = peer(server, config);
        peer.expect_nothing();
        Bystander(peer)
    }

    fn ends_well(mut self) {
        self.0.expect_nothing();
    }
}

/// What a client of rustls is told when it asks for an echo.
fn error(server: &Server, config: &Arc<ClientConfig>) -> String {
    let mut stream = connect(server.addresses()[0], config);
    stream.sock.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut echo = Vec::new();
    encode(&mut echo, Magic::Request, Kind::EchoReq, &[b"?"]);
    let outcome = stream.write_all(&echo).and_then(|()| stream.read_exact(&mut [0; 13]));
    outcome.unwrap_err().to_string()
}

/// Counts are told by the server's thread, after the peer was.
fn wait_for(server: &Server, what: impl Fn(&layshaft::gearman::ServerCounters) -> bool) {
    let start = Instant::now();
    while !what(&server.status().counters) {
        assert!(start.elapsed() < PATIENCE, "{:?}", server.status().counters);
        thread::yield_now();
    }
}

fn socket(server: &Server) -> TcpStream {
    let socket = TcpStream::connect(server.addresses()[0]).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

/// All until the end, which is an orderly one.
fn rest(mut socket: TcpStream) -> Vec<u8> {
    let mut all = Vec::new();
    socket.read_to_end(&mut all).unwrap();
    all
}

#[test]
fn f33_a_client_that_does_not_trust_the_server() {
    let (server, config) = simple();
    let bystander = Bystander::new(&server, &config);
    let told = error(&server, &trust(&Authority::new(), None));
    assert!(told.contains("UnknownIssuer") || told.contains("BadSignature"), "{told}");
    wait_for(&server, |counters| counters.tls_failed == 1);
    bystander.ends_well();
}

#[test]
fn f33_certificates_that_are_expired_or_for_another_name() {
    let authority = Authority::new();
    for (identity, why) in [
        (authority.sign_until("127.0.0.1", 2002), "expired"),
        (authority.sign("127.0.0.2"), "not valid for name"),
        (authority.sign("localhost"), "not valid for name"),
    ] {
        let server = server(tls(&identity));
        let told = error(&server, &trust(&authority, None));
        assert!(told.contains(why), "{told}");
        wait_for(&server, |counters| counters.tls_failed == 1);
    }
}

#[test]
fn f33_clients_without_a_certificate_or_with_a_bad_one() {
    let authority = Authority::new();
    let options = tls(&authority.sign("127.0.0.1")).client_ca_pem(authority.pem.as_str());
    assert!(options.requires_client_certificate());
    let server = server(options);
    let good = trust(&authority, Some(&authority.sign("a client")));
    let bystander = Bystander::new(&server, &good);
    let told = error(&server, &trust(&authority, None));
    assert!(told.contains("CertificateRequired"), "{told}");
    let told = error(&server, &trust(&authority, Some(&authority.sign_until("late", 2002))));
    assert!(told.contains("CertificateExpired"), "{told}");
    let stranger = Authority::new().sign("a stranger");
    let told = error(&server, &trust(&authority, Some(&stranger)));
    assert!(told.contains("DecryptError") || told.contains("UnknownCA") || told.contains("BadCertificate"), "{told}");
    wait_for(&server, |counters| counters.tls_failed == 3);
    bystander.ends_well();
}

/// A certificate that need not be shown has to be good when it is.
#[test]
fn an_optional_certificate_is_looked_at() {
    let authority = Authority::new();
    let options = tls(&authority.sign("127.0.0.1")).client_ca_pem(authority.pem.as_str()).client_optional(true);
    let server = server(options);
    peer(&server, &trust(&authority, None)).expect_nothing();
    error(&server, &trust(&authority, Some(&Authority::new().sign("a stranger"))));
    wait_for(&server, |counters| counters.tls_failed == 1);
}

#[test]
fn f33_plain_peers_are_told_that_there_is_tls() {
    let (server, config) = simple();
    let bystander = Bystander::new(&server, &config);
    let mut plain = Peer::over(socket(&server));
    plain.send(Kind::EchoReq, &[b"?"]);
    assert_eq!(plain.expect_error("tls_required"), "this port speaks TLS only");
    plain.expect_end();
    let mut plain = Peer::over(socket(&server));
    assert!(plain.ask("status").starts_with("ERR tls_required "));
    plain.expect_end();
    wait_for(&server, |counters| counters.tls_missing == 2 && counters.tls_failed == 0);
    bystander.ends_well();
}

#[test]
fn f33_tls_peers_of_a_plain_port_are_told_that_there_is_none() {
    let server = server_with(|builder| builder.listen("127.0.0.1:0"));
    let mut bystander = Peer::new(&server);
    let told = error(&server, &trust(&Authority::new(), None));
    assert!(told.contains("corrupt message"), "{told}");
    // In two pieces, of which the first could begin a line.
    let mut socket = socket(&server);
    socket.set_nodelay(true).unwrap();
    socket.write_all(&[22]).unwrap();
    bystander.expect_nothing();
    socket.write_all(&[3, 1, 0, 100, 1]).unwrap();
    let mut peer = Peer::over(socket);
    assert_eq!(peer.expect_error("tls_unexpected"), "this port speaks without TLS");
    peer.expect_end();
    bystander.expect_nothing();
}

#[test]
fn f33_handshakes_that_end_early_or_are_none() {
    let (server, config) = simple();
    let bystander = Bystander::new(&server, &config);
    let name = rustls::pki_types::ServerName::try_from("127.0.0.1").unwrap();
    let mut hello = Vec::new();
    rustls::ClientConnection::new(Arc::clone(&config), name).unwrap().write_tls(&mut hello).unwrap();
    let cuts = [0, 1, 4, 5, 6, hello.len() / 2, hello.len() - 1, hello.len()];
    for cut in cuts {
        let mut socket = socket(&server);
        socket.write_all(&hello[..cut]).unwrap();
        socket.shutdown(Shutdown::Write).unwrap();
        // Nothing, or what the server says in return.
        let _ = socket.read_to_end(&mut Vec::new());
    }
    wait_for(&server, |counters| counters.tls_failed == cuts.len() as u64);
    for bad in [&b"\x16\x03\x01\x00\x05hello"[..], b"\x16\x03\x01\xff\xff", b"\x16\x03\x03\x00\x00", &[22; 4096]] {
        let mut socket = socket(&server);
        socket.write_all(bad).unwrap();
        let alert = rest(socket);
        // A fatal alert, if any.
        assert!(alert.is_empty() || (alert[0] == 21 && alert[5] == 2), "{alert:?} {bad:?}");
    }
    wait_for(&server, |counters| counters.tls_failed == cuts.len() as u64 + 4);
    bystander.ends_well();
}

/// What breaks the rules later ends the connection, too, and its jobs go to others.
#[test]
fn a_worker_that_sends_bad_records_loses_its_job() {
    let (server, config) = simple();
    let mut client = peer(&server, &config);
    let mut stream = connect(server.addresses()[0], &config);
    let mut packets = Vec::new();
    encode(&mut packets, Magic::Request, Kind::CanDo, &[b"f"]);
    encode(&mut packets, Magic::Request, Kind::GrabJob, &[]);
    let handle = client.submit(Kind::SubmitJob, "f", b"", b"x");
    stream.write_all(&packets).unwrap();
    stream.read_exact(&mut [0; 12]).unwrap();
    client.wait_for_status("f", [1, 1, 1]);
    stream
        .sock
        .write_all(&[23, 3, 3, 0, 20, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20])
        .unwrap();
    let error = stream.read_to_end(&mut Vec::new()).unwrap_err().to_string();
    assert!(error.contains("BadRecordMac"), "{error}");
    drop(stream);
    wait_for(&server, |counters| counters.tls_failed == 1);
    client.wait_for_status("f", [1, 0, 0]);
    let mut other = peer(&server, &config);
    other.send(Kind::CanDo, &[b"f"]);
    assert_eq!(other.grab().0, handle);
}

/// Others are served meanwhile, and the end of its time is the end of the connection.
#[test]
fn a_peer_that_stalls_in_the_handshake_is_closed() {
    let authority = Authority::new();
    let options = tls(&authority.sign("127.0.0.1")).handshake_deadline(Duration::from_millis(10));
    let server = server(options);
    let mut silent = socket(&server);
    let mut begun = socket(&server);
    begun.write_all(&[22, 3, 1, 0]).unwrap();
    for socket in [&mut silent, &mut begun] {
        assert_eq!(socket.read(&mut [0; 100]).unwrap(), 0);
    }
    wait_for(&server, |counters| counters.tls_failed == 2);
}

#[test]
fn a_peer_that_stalls_holds_nobody_up() {
    let (server, config) = simple();
    let mut stalled = socket(&server);
    stalled.write_all(&[22, 3, 1, 0]).unwrap();
    let mut others: Vec<Peer> = (0..3).map(|_| peer(&server, &config)).collect();
    others.iter_mut().for_each(Peer::expect_nothing);
    assert_eq!(server.status().connections, 4);
}

#[test]
fn what_cannot_be_used_is_told_at_the_start() {
    let authority = Authority::new();
    let (identity, other) = (authority.sign("127.0.0.1"), authority.sign("127.0.0.1"));
    let missing = std::env::temp_dir().join("layshaft-no-such-file.pem");
    let engine = Engine::builder().workers(1).start().unwrap();
    for (options, why) in [
        (Tls::files(&missing, &missing), "layshaft-no-such-file.pem: No such file"),
        (Tls::pem("nothing", identity.key.as_str()), "the given text holds no certificate"),
        (Tls::pem(identity.chain.as_str(), "nothing"), "the given text holds no private key"),
        (Tls::pem(identity.chain.as_str(), other.key.as_str()), "do not fit"),
        (tls(&identity).client_ca_file(&missing), "layshaft-no-such-file.pem: No such file"),
        (tls(&identity).client_ca_pem(""), "holds no certificate"),
    ] {
        let shown = format!("{options:?}");
        assert!(!shown.contains("BEGIN"), "{shown}");
        let error = Server::builder(&engine).listen_tls("127.0.0.1:0", options).start().unwrap_err();
        assert!(error.to_string().contains(why), "{error}");
    }
}

/// TLS alone keeps nobody out.
#[test]
fn other_machines_are_kept_out_unless_they_have_certificates() {
    let authority = Authority::new();
    let identity = authority.sign("127.0.0.1");
    let engine = Engine::builder().workers(1).start().unwrap();
    let start = |options| Server::builder(&engine).listen_tls("0.0.0.0:0", options).start();
    let asks = || tls(&identity).client_ca_pem(authority.pem.as_str());
    for options in [tls(&identity), asks().client_optional(true)] {
        let error = start(options).unwrap_err();
        assert!(error.to_string().contains("can be reached from other machines"), "{error}");
    }
    start(asks()).unwrap();
}

/// Who may come is asked before anything else.
#[test]
fn peers_from_other_networks_are_refused() {
    let authority = Authority::new();
    let identity = authority.sign("127.0.0.1");
    let with = |networks: &[&str]| {
        let options = tls(&identity);
        let networks: Vec<_> = networks.iter().map(|network| network.parse().unwrap()).collect();
        server_with(|builder| builder.listen_tls("127.0.0.1:0", options).listen("127.0.0.1:0").allow(networks))
    };
    let server = with(&["10.0.0.0/8", "127.0.0.2"]);
    let told = error(&server, &trust(&authority, None));
    assert!(told.contains("end of file") || told.contains("reset"), "{told}");
    let mut plain = Peer::at(server.addresses()[1]);
    plain.expect_error("peer_not_allowed");
    plain.expect_end();
    assert_eq!(server.status().counters.not_allowed, 2);
    Peer::over_unix(server.connect_local().unwrap()).expect_nothing();
    let server = with(&["10.0.0.0/8", "127.0.0.0/8"]);
    peer(&server, &trust(&authority, None)).expect_nothing();
    Peer::at(server.addresses()[1]).expect_nothing();
}
