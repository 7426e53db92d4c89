//! `serve`, `submit`, `work` and `admin` over TLS, and who may reach a server.

mod common;
#[path = "../../tests/common/peer.rs"]
mod peer;
#[path = "common/serving.rs"]
mod serving;

use common::layshaft;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustix::process::Signal;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Stdio};
use tempfile::TempDir;

/// A server's process, which ends with its test.
struct Serving {
    child: Child,
    address: String,
    /// What it says when it listens.
    lines: std::sync::mpsc::Receiver<String>,
}

impl Drop for Serving {
    fn drop(&mut self) {
        // One that has ended needs no killing.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An authority, and certificates for both sides.
fn certificates() -> TempDir {
    let folder = TempDir::new().unwrap();
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    fs::write(folder.path().join("ca.pem"), params.self_signed(&key).unwrap().pem()).unwrap();
    let issuer = Issuer::new(params, key);
    for (file, name) in [("server", "jobs.example"), ("me", "me")] {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(vec![name.to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
        fs::write(folder.path().join(format!("{file}.pem")), certificate.pem()).unwrap();
        fs::write(folder.path().join(format!("{file}.key")), key.serialize_pem()).unwrap();
    }
    folder
}

fn serve(folder: &Path, args: &str) -> Serving {
    let mut command = layshaft(folder, ["serve"]);
    let mut child = command.args(args.split_whitespace()).stderr(Stdio::piped()).spawn().unwrap();
    let mut log = BufReader::new(child.stderr.take().unwrap()).lines();
    let address = log.find_map(|line| Some(line.unwrap().split_once("listening on ")?.1.trim().to_owned()));
    // Read to its end, so that the server can go on writing; whoever wants no lines has none.
    let (tell, lines) = std::sync::mpsc::channel();
    std::thread::spawn(move || log.for_each(|line| _ = tell.send(line.unwrap_or_default())));
    Serving { child, address: address.expect("it listens"), lines }
}

/// Runs a command with what the client's side needs: exit code, output and errors.
fn run(folder: &Path, server: &Serving, args: &str, tls: &str) -> (i32, String, String) {
    let port = server.address.rsplit(':').next().unwrap();
    let (command, args) = args.split_once(' ').unwrap();
    let mut command = layshaft(folder, [command, "--server", &format!("127.0.0.1:{port}")]);
    command.args(tls.split_whitespace()).args(args.split_whitespace());
    let output = common::run(command);
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn jobs_over_tls() {
    let folder = certificates();
    let folder = folder.path();
    let files = "--tls-cert server.pem --tls-key server.key --tls-client-ca ca.pem";
    // Reachable from other machines, with certificates for all.
    let server = serve(folder, &format!("--tls-listen 0.0.0.0:0 --function crc32 {files}"));
    let tls = "--tls-ca ca.pem --tls-cert me.pem --tls-key me.key --tls-name jobs.example";
    assert_eq!(run(folder, &server, "submit crc32 abc", tls).1.trim(), "352441c2");
    let (code, status, _) = run(folder, &server, "admin status", tls);
    assert!(code == 0 && status.contains("crc32"), "{status}");
    let (code, _, why) = run(folder, &server, "submit crc32 abc", "--tls-ca ca.pem --tls-name jobs.example");
    assert!(code == 3 && why.contains("CertificateRequired"), "{code} {why}");
    let (code, _, why) = run(folder, &server, "submit crc32 abc", "--tls-ca ca.pem");
    assert!(code == 3 && why.contains("not valid for name"), "{code} {why}");
    let (code, _, why) = run(folder, &server, "submit crc32 abc", "");
    assert!(code == 3 && why.contains("TLS"), "{code} {why}");
    let (code, _, why) = run(folder, &server, "submit crc32 abc", "--tls-ca no.pem");
    assert!(code == 2 && why.contains("no.pem"), "{code} {why}");
}

#[test]
fn other_machines_need_a_reason_to_come_in() {
    let folder = certificates();
    let refused = |args: &str| {
        let mut command = layshaft(folder.path(), ["serve"]);
        let output = command.args(args.split_whitespace()).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{args}");
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let files = "--tls-cert server.pem --tls-key server.key";
    for args in ["--listen 0.0.0.0:0".to_owned(), format!("--tls-listen 0.0.0.0:0 {files}")] {
        let why = refused(&args);
        assert!(why.contains("can be reached from other machines"), "{why}");
    }
    assert!(refused("--tls-listen 127.0.0.1:0").contains("--tls-cert FILE"));
    assert!(refused("--allow 10.0.0.1/8").contains("is no network"));
    let why = refused("--tls-listen 127.0.0.1:0 --tls-cert server.pem --tls-key me.key");
    assert!(why.contains("server.pem and "), "{why}");
    let server = serve(folder.path(), "--listen 0.0.0.0:0 --allow 10.0.0.0/8 --allow 127.0.0.1");
    assert_eq!(run(folder.path(), &server, "admin version", "").0, 0);
}

/// A worker that trusts the old authority only works on over its connection; whoever connects later sees the new certificate.
#[test]
fn certificates_are_read_again_on_hup() {
    let (folder, new) = (certificates(), certificates());
    let folder = folder.path();
    let mut command = layshaft(folder, ["serve", "--tls-listen", "127.0.0.1:0"]);
    command.args(["--tls-cert", "server.pem", "--tls-key", "server.key", "--log-level", "debug"]);
    let mut server = serving::listening(command);
    let address = server.address.to_string();
    let started = |ca: &str, args: &[&str]| {
        let (command, args) = args.split_first().expect("a command");
        let mut command =
            layshaft(folder, [command, "--server", &address, "--tls-ca", ca, "--tls-name", "jobs.example"]);
        command.args(args);
        command
    };
    let submit = |ca: &str, text: &str| {
        let output = common::run(started(ca, &["submit", "upper", text]));
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code(), text(&output.stdout).trim().to_owned(), text(&output.stderr))
    };
    let _worker = common::start(started("ca.pem", &["work", "-q", "upper", "--", "tr", "a-z", "A-Z"]));
    assert_eq!(submit("ca.pem", "before").1, "BEFORE");
    fs::copy(new.path().join("ca.pem"), folder.join("new.pem")).unwrap();
    // One that does not fit changes nothing.
    fs::copy(new.path().join("server.pem"), folder.join("server.pem")).unwrap();
    server.signal(Signal::HUP);
    server.line_with("nothing is changed");
    assert_eq!(submit("ca.pem", "still").1, "STILL");
    fs::copy(new.path().join("server.key"), folder.join("server.key")).unwrap();
    server.signal(Signal::HUP);
    server.line_with("configuration, certificates and log are as in their files");
    assert_eq!(submit("new.pem", "after").1, "AFTER");
    let (code, _, why) = submit("ca.pem", "old");
    assert!(code == Some(3) && why.contains("certificate"), "{code:?} {why}");
    server.terminate();
}

#[test]
fn hup_changes_all_or_nothing() {
    let folder = certificates();
    let folder = folder.path();
    let file = |more: &str| {
        let text = format!("[server]\ntls_cert = \"server.pem\"\ntls_key = \"server.key\"\n{more}\n");
        fs::write(folder.join("f.toml"), text).unwrap();
    };
    file("");
    let server = serve(folder, "--tls-listen 127.0.0.1:0 --function crc32 --config f.toml");
    let hup = |want: &str| {
        let pid = rustix::process::Pid::from_child(&server.child);
        rustix::process::kill_process(pid, rustix::process::Signal::HUP).unwrap();
        while !server.lines.recv_timeout(common::PATIENCE).unwrap().contains(want) {}
    };
    let submit = |name: &str| run(folder, &server, "submit crc32 abc", &format!("--tls-ca ca.pem --tls-name {name}")).0;
    fs::copy(folder.join("me.pem"), folder.join("server.pem")).unwrap();
    fs::copy(folder.join("me.key"), folder.join("server.key")).unwrap();
    file("log_file = \"no such folder/log\"");
    hup("nothing is changed: cannot write the log");
    assert_eq!([submit("jobs.example"), submit("me")], [0, 3]);
    file("");
    hup("as in their files");
    assert_eq!([submit("jobs.example"), submit("me")], [3, 0]);
}
