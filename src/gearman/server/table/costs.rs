//! What takes long is counted as such, so that others have their turn: looked at by what is counted, not by time.

use super::Table;
use crate::Engine;
use crate::gearman::packet::{self, Frame, Kind, Magic};
use crate::gearman::server::conn::Conn;
use crate::gearman::server::keys::ConnKey;
use crate::gearman::server::notices::{HasTable, Notices};
use crate::gearman::server::settings::Settings;
use std::sync::Arc;
use std::time::Instant;

/// What it costs to look at a thousand things, at least.
const THOUSAND: usize = 100;

struct Desk {
    table: Table,
    conn: ConnKey,
}

impl Desk {
    fn new() -> Desk {
        let engine = Engine::builder().workers(1).start().unwrap();
        let settings = Settings { host: "desk".into(), ..Settings::default() };
        let table = Table::new(engine, Arc::new(settings), Arc::new(Notices::new(|| ())), 1);
        let mut desk = Desk { table, conn: ConnKey::default() };
        desk.conn = desk.connect();
        desk
    }

    fn connect(&mut self) -> ConnKey {
        self.table.connect(Conn::new(0, 0, "peer".to_owned(), None, true))
    }

    fn send_as(&mut self, conn: ConnKey, kind: Kind, args: &[&[u8]]) -> usize {
        let mut bytes = Vec::new();
        packet::encode(&mut bytes, Magic::Request, kind, args);
        let frame = Frame { magic: Magic::Request, code: kind.code(), body: &bytes[packet::HEADER..] };
        let _has_table = HasTable::new();
        self.table.effort = 0;
        self.table.frame(conn, &frame, Instant::now());
        let effort = self.table.effort;
        self.table.settle();
        effort
    }

    fn send(&mut self, kind: Kind, args: &[&[u8]]) -> usize {
        self.send_as(self.conn, kind, args)
    }

    /// What a line costs besides its answer, and the answer.
    fn line(&mut self, line: &str) -> (usize, Vec<u8>) {
        self.table.conns[self.conn].out.clear();
        let _has_table = HasTable::new();
        self.table.effort = 0;
        self.table.line(self.conn, line.as_bytes());
        let answer = self.table.conns[self.conn].out.clone();
        (self.table.effort - answer.len() / 32, answer)
    }

    /// Handles of what was sent with one.
    fn last_handle(&self) -> Vec<u8> {
        let out = &self.table.conns[self.conn].out;
        let at = out.windows(2).rposition(|two| two == b"H:").expect("a handle");
        let end = out[at..].iter().position(|byte| *byte == 0).map_or(out.len(), |end| at + end);
        out[at..end].to_vec()
    }
}

#[test]
fn abilities() {
    let mut desk = Desk::new();
    for i in 0..1000 {
        desk.send(Kind::CanDo, &[format!("f{i}").as_bytes()]);
    }
    assert!(desk.send(Kind::GrabJob, &[]) >= THOUSAND);
    assert!(desk.send(Kind::PreSleep, &[]) >= THOUSAND);
    assert!(desk.send(Kind::CanDo, &[b"f0"]) > 0 && desk.send(Kind::CantDo, &[b"f0"]) > 0);
    assert!(desk.send(Kind::ResetAbilities, &[]) >= THOUSAND);
    assert_eq!(desk.send(Kind::GrabJob, &[]), 0, "it can do nothing");
}

#[test]
fn text_commands() {
    let mut desk = Desk::new();
    for i in 0..1000 {
        desk.send(Kind::SubmitJobBg, &[format!("f{i}").as_bytes(), b"", b""]);
    }
    for line in ["status", "prioritystatus", "jobs", "show jobs", "show unique jobs", "explain f1"] {
        let (effort, _) = desk.line(line);
        assert!(effort >= THOUSAND, "{line}: {effort}");
    }
    assert_eq!(desk.line("show unique jobs").1, b".\n");
    for _ in 0..1000 {
        let conn = desk.connect();
        desk.send_as(conn, Kind::SubmitJob, &[b"shared", b"key", b""]);
    }
    for line in ["workers", "clients", "jobs"] {
        let (effort, _) = desk.line(line);
        assert!(effort >= 2 * THOUSAND || line == "workers" && effort >= THOUSAND, "{line}: {effort}");
    }
    assert!(desk.send(Kind::GetStatusUnique, &[b"key"]) >= THOUSAND);
    assert!(desk.line("gladiator").0 > 0);
    let (_, answer) = desk.line("show unique jobs");
    assert_eq!(answer, b"key\n.\n");
}

#[test]
fn what_many_hear() {
    let mut desk = Desk::new();
    for _ in 0..1000 {
        let conn = desk.connect();
        desk.send_as(conn, Kind::SubmitJob, &[b"f", b"key", b""]);
    }
    desk.send(Kind::CanDo, &[b"f"]);
    desk.send(Kind::GrabJob, &[]);
    let handle = desk.last_handle();
    assert!(desk.send(Kind::WorkData, &[&handle, b"part"]) >= 1000);
    assert!(desk.send(Kind::WorkComplete, &[&handle, b"result"]) >= 1000);
}
