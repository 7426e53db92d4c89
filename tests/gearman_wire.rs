//! Is the Gearman codec total, and the same for any pieces that bytes come in?
#![cfg(feature = "gearman")]

#[path = "common/wire.rs"]
mod wire;

use layshaft::gearman::packet::{Kind, Magic, encode};
use proptest::prelude::*;

/// Bytes of a connection: packets, almost packets, lines, anything.
fn stream() -> impl Strategy<Value = Vec<u8>> {
    let packet =
        (any::<u32>(), prop::collection::vec(any::<u8>(), 0..80), any::<bool>()).prop_map(|(code, body, request)| {
            let code = if code % 8 == 0 { code } else { code % 44 };
            let mut bytes = if request { b"\0REQ".to_vec() } else { b"\0RES".to_vec() };
            bytes.extend_from_slice(&code.to_be_bytes());
            bytes.extend_from_slice(&(body.len() as u32).to_be_bytes());
            // NULs are where arguments end.
            bytes.extend(body.into_iter().map(|byte| if byte % 5 == 0 { 0 } else { byte }));
            bytes
        });
    let words = prop::sample::select(vec![
        "status",
        "maxqueue f 3",
        "show unique jobs",
        "cancel job H:a:1",
        "x",
        "",
        "shutdown graceful",
        "maxqueue",
        "\\x41",
    ]);
    let line =
        (words, any::<bool>()).prop_map(|(words, cr)| format!("{words}{}\n", if cr { "\r" } else { "" }).into_bytes());
    let noise = prop::collection::vec(any::<u8>(), 0..20);
    let part = prop_oneof![6 => packet, 3 => line, 1 => noise];
    prop::collection::vec(part, 0..12).prop_map(|parts| parts.concat())
}

proptest! {
    #[test]
    fn any_bytes_in_any_pieces(bytes in stream()) {
        wire::check(&bytes);
    }

    #[test]
    fn any_noise_in_any_pieces(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        wire::check(&bytes);
    }
}

/// What the fuzzer has found worth keeping.
#[test]
fn the_corpus() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/packets");
    let mut files = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        wire::check(&std::fs::read(entry.unwrap().path()).unwrap());
        files += 1;
    }
    assert!(files >= 10, "{files} files in the corpus");
}

/// A seed for the fuzzer: one packet of each kind.
#[test]
fn one_of_each_kind() {
    let mut bytes = Vec::new();
    for kind in Kind::ALL {
        let args = vec![&b"arg"[..]; kind.arity().1];
        encode(&mut bytes, Magic::Request, *kind, &args);
    }
    wire::check(&bytes);
}
