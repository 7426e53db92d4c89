//! The client and the worker over TLS.

use super::*;
use layshaft::gearman::worker::SetupError;
use layshaft::gearman::{Client, ClientError, Job, TextAnswer, TlsClient, Worker};
use std::sync::mpsc;

fn trusting(authority: &Authority) -> TlsClient {
    TlsClient::ca_pem(authority.pem.as_str())
}

fn identified(tls: TlsClient, identity: &Identity) -> TlsClient {
    tls.identity_pem(identity.chain.as_str(), identity.key.as_str())
}

fn address(server: &Server) -> String {
    server.addresses()[0].to_string()
}

/// Runs a worker until `act` has returned.
fn with_worker<T>(server: &str, tls: &TlsClient, act: impl FnOnce() -> T) -> T {
    let engine = Engine::builder().workers(2).start().unwrap();
    let reverse = |_: &Job, mut payload: Vec<u8>| {
        payload.reverse();
        Ok(payload)
    };
    let worker = Worker::builder(&engine).server(server).tls(tls).function("reverse", reverse).build().unwrap();
    let stopper = worker.stopper();
    let thread = thread::spawn(move || worker.run().unwrap());
    let result = act();
    stopper.stop();
    thread.join().unwrap();
    result
}

#[test]
fn gw_10_client_and_worker_over_tls() {
    let authority = Authority::new();
    let server = server(tls(&authority.sign("127.0.0.1")).client_ca_pem(authority.pem.as_str()));
    let options = identified(trusting(&authority), &authority.sign("me"));
    let client = Client::builder().server(&address(&server)).tls(&options).start().unwrap();
    assert_eq!(client.echo(b"hello".to_vec()).wait().unwrap(), b"hello");
    with_worker(&address(&server), &options, || {
        assert_eq!(client.call("reverse", "abc").unwrap(), b"cba");
        let many: Vec<_> = (0..500).map(|i| client.job("reverse", format!("{i:03}")).submit().unwrap()).collect();
        for (i, handle) in many.into_iter().enumerate() {
            let expected: Vec<u8> = format!("{i:03}").into_bytes().into_iter().rev().collect();
            assert_eq!(handle.wait().unwrap(), expected);
        }
        client.admin(0, "status").wait().unwrap();
    });
    assert_eq!(server.status().counters.tls_failed, 0);
}

#[test]
fn gw_10_large_payloads() {
    let authority = Authority::new();
    let server = server(tls(&authority.sign("127.0.0.1")));
    let options = trusting(&authority);
    let client = Client::builder().server(&address(&server)).tls(&options).start().unwrap();
    let payload = large();
    let mut result = with_worker(&address(&server), &options, || client.call("reverse", payload.clone()).unwrap());
    result.reverse();
    assert!(result == payload);
}

/// Each server as it is: one without TLS, two with authorities of their own, of which one has a name.
#[test]
fn gw_10_options_of_each_server() {
    let (first, second) = (Authority::new(), Authority::new());
    let plain = server_with(|builder| builder.listen("127.0.0.1:0"));
    let one = server(tls(&first.sign("127.0.0.1")));
    let two = server(tls(&second.sign("jobs.example")));
    let client = Client::builder()
        .server(&address(&plain))
        .tls_server(&address(&one), &trusting(&first))
        .tls_server(&address(&two), &trusting(&second).server_name("jobs.example").only_1_3(true))
        .start()
        .unwrap();
    for server in 0..3 {
        let answer = client.admin(server, "version").wait().unwrap();
        assert!(matches!(answer, TextAnswer::Line(line) if line == env!("CARGO_PKG_VERSION").as_bytes()));
    }
}

/// Why there is no connection is said at once: trying again would show the same.
#[test]
fn f33_clients_say_why_not() {
    let authority = Authority::new();
    let stranger = Authority::new();
    let closed = || server(tls(&authority.sign("127.0.0.1")).client_ca_pem(authority.pem.as_str()));
    for (server, options, why) in [
        (server(tls(&authority.sign("127.0.0.1"))), trusting(&stranger), "invalid peer certificate"),
        (server(tls(&authority.sign("127.0.0.2"))), trusting(&authority), "not valid for name"),
        (server(tls(&authority.sign_until("127.0.0.1", 2002))), trusting(&authority), "expired"),
        (closed(), trusting(&authority), "CertificateRequired"),
        (closed(), identified(trusting(&authority), &stranger.sign("x")), "received fatal alert"),
        (server_with(|builder| builder.listen("127.0.0.1:0")), trusting(&authority), "speaks no TLS"),
    ] {
        let client = Client::builder().server(&address(&server)).tls(&options).patience(PATIENCE).start().unwrap();
        let error = client.call("f", "x").unwrap_err();
        let ClientError::Insecure { error, .. } = &error else { panic!("{error:?}") };
        assert!(error.to_string().contains(why), "{error}");
    }
}

/// A plain client learns that there is TLS.
#[test]
fn a_client_without_tls_is_told() {
    let (server, _) = simple();
    let client = Client::connect(&address(&server)).unwrap();
    let error = client.call("f", "x").unwrap_err();
    assert!(matches!(error, ClientError::NotGearman { protocol: "TLS", .. }), "{error:?}");
}

#[test]
fn what_cannot_be_used_is_told_before_anything_is_sent() {
    let authority = Authority::new();
    let (one, other) = (authority.sign("one"), authority.sign("other"));
    let mixed = Identity { chain: one.chain.clone(), key: other.key };
    let engine = Engine::builder().workers(1).start().unwrap();
    for (options, why) in [
        (TlsClient::ca_file("/nowhere/ca.pem"), "cannot read /nowhere/ca.pem"),
        (TlsClient::ca_pem(one.key.as_str()), "holds no certificate"),
        (trusting(&authority).server_name("not a name"), "\"not a name\" is no name of a server"),
        (identified(trusting(&authority), &mixed), "do not fit"),
    ] {
        let error = Client::builder().server("127.0.0.1").tls(&options).start().unwrap_err();
        assert!(matches!(&error, ClientError::Tls(error) if error.to_string().contains(why)), "{error:?}");
        let worker = Worker::builder(&engine).server("127.0.0.1").tls(&options).function("f", |_, _| Ok(Vec::new()));
        let error = worker.build().unwrap_err();
        assert!(matches!(&error, SetupError::Tls(error) if error.to_string().contains(why)), "{error:?}");
    }
}

/// A server that takes a connection and never shakes hands is one that cannot be reached.
#[test]
fn a_server_that_stalls_in_the_handshake_is_left() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let client = Client::builder()
        .server(&address)
        .tls(&trusting(&Authority::new()))
        .connect_timeout(Duration::from_millis(20))
        .patience(Duration::ZERO)
        .start()
        .unwrap();
    let error = client.call("f", "x").unwrap_err();
    assert!(matches!(error, ClientError::NoServer(_)), "{error:?}");
    drop(listener);
}

/// A worker comes back to a server that is started again, and hears what is wrong until then.
#[test]
fn a_worker_hears_what_is_wrong() {
    let authority = Authority::new();
    let server = server(tls(&authority.sign("127.0.0.1")));
    let engine = Engine::builder().workers(1).start().unwrap();
    let (told, hear) = mpsc::channel();
    let worker = Worker::builder(&engine)
        .server(address(&server))
        .tls(&trusting(&Authority::new()))
        .function("f", |_, payload| Ok(payload))
        .on_event(move |event| {
            if let layshaft::gearman::worker::Event::Lost { error, .. } = event {
                let cause = std::error::Error::source(error).map(ToString::to_string);
                let _ = told.send(cause.unwrap_or_default());
            }
        })
        .build()
        .unwrap();
    let stopper = worker.stopper();
    let thread = thread::spawn(move || worker.run());
    let why = hear.recv_timeout(PATIENCE).unwrap();
    assert!(why.contains("invalid peer certificate"), "{why}");
    stopper.stop();
    let _ = thread.join().unwrap();
}
