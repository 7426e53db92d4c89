//! What holds for any bytes on a Gearman connection: shared by the property test, the replayed corpus and the fuzz target.

use layshaft::gearman::packet::{self, Kind, Limits, Message, PacketError};
use layshaft::gearman::text;

/// Small, so that they are met.
const LIMITS: Limits = Limits { body: 300, line: 60 };

/// Decodes everything, whole and in pieces, and compares.
pub(crate) fn check(bytes: &[u8]) {
    let whole = messages(bytes, bytes.len());
    for piece in [1, 2, 3, 7, 13, 64] {
        assert_eq!(messages(bytes, piece), whole, "in pieces of {piece}");
    }
}

/// What was read, and why no more.
fn messages(bytes: &[u8], piece: usize) -> (Vec<String>, Option<PacketError>) {
    let (mut read, mut buffer) = (Vec::new(), Vec::new());
    for part in bytes.chunks(piece.max(1)) {
        buffer.extend_from_slice(part);
        loop {
            let length = match packet::decode(&buffer, &LIMITS) {
                Err(error) => return (read, Some(error)),
                Ok(Message::Incomplete { needed }) => {
                    assert!(needed > buffer.len(), "{needed} of {}", buffer.len());
                    assert!(needed <= packet::HEADER + LIMITS.body + 1);
                    break;
                }
                Ok(Message::Line { line, length }) => {
                    assert!(line.len() <= LIMITS.line && length <= buffer.len());
                    read.push(check_line(line));
                    length
                }
                Ok(Message::Frame { frame, length }) => {
                    assert_eq!(length, packet::HEADER + frame.body.len());
                    read.push(check_frame(&frame, &buffer[..length]));
                    length
                }
            };
            assert!(length > 0);
            buffer.drain(..length);
        }
    }
    (read, None)
}

fn check_line(line: &[u8]) -> String {
    assert_eq!(text::unescape(&text::escape(line)), line);
    match text::parse(line) {
        Ok(command) => format!("{command:?}"),
        Err(error) => {
            let line = text::error_line(&error);
            assert!(line.starts_with("ERR ") && line.ends_with("\r\n"), "{line:?}");
            assert!(line[..line.len() - 2].bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{line:?}");
            line
        }
    }
}

fn check_frame(frame: &packet::Frame<'_>, bytes: &[u8]) -> String {
    match frame.packet() {
        Err(error) => error.to_string(),
        Ok(packet) => {
            let (least, most) = packet.kind.arity();
            assert!((least..=most).contains(&packet.args().len()));
            // Written again it is what it was, where nothing was ignored or left out.
            if most > 0 && packet.args().len() == most {
                let mut again = Vec::new();
                packet::encode(&mut again, packet.magic, packet.kind, packet.args());
                assert_eq!(again, bytes);
            }
            assert_eq!(Kind::from_code(frame.code), Some(packet.kind));
            format!("{} {:?}", packet.kind, packet.args())
        }
    }
}
