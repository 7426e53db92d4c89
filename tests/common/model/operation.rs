//! What can be done to an engine, and how bytes spell it.

use layshaft::Priority;

/// Names that functions compete for.
pub(crate) const NAMES: usize = 4;
/// Consumer sets.
pub(crate) const SETS: usize = 2;
/// More would only make runs longer.
const MOST_OPERATIONS: usize = 300;

/// One step. Numbers are taken modulo what there is, so every value means something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    Register { name: usize, remote: bool },
    Remove { name: usize },
    Send { function: usize, n: u8, priority: Priority },
    Submit { function: usize, n: u8, priority: Priority },
    SendBatch { function: usize, jobs: u8 },
    SubmitBatch { function: usize, jobs: u8 },
    Cancel { handle: usize },
    Detach { handle: usize },
    Wait { handle: usize },
    Poll { handle: usize },
    Run,
    Join { set: usize, function: usize },
    Leave { set: usize, function: usize },
    Park { set: usize },
    Renew { set: usize },
    Pull { set: usize },
    PutBack { pulled: usize },
    Complete { pulled: usize },
    Fail { pulled: usize },
    Lose { pulled: usize },
}

/// How the engine ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Finish {
    Drain,
    DrainFor,
    Discard,
    Drop,
}

impl Operation {
    /// Every three bytes are an operation.
    pub(crate) fn from_bytes([code, a, b]: [u8; 3]) -> Operation {
        let (at, set) = (usize::from(a), usize::from(b) % SETS);
        let name = at % NAMES;
        let priority = match code / 24 % 4 {
            1 => Priority::High,
            2 => Priority::Low,
            _ => Priority::Normal,
        };
        match code % 24 {
            0 => Operation::Register { name, remote: false },
            1 => Operation::Register { name, remote: true },
            2 => Operation::Remove { name },
            3 | 4 => Operation::Send { function: at, n: b, priority },
            5 | 6 => Operation::Submit { function: at, n: b, priority },
            7 => Operation::SendBatch { function: at, jobs: b },
            8 => Operation::SubmitBatch { function: at, jobs: b },
            9 | 10 => Operation::Cancel { handle: at },
            11 => Operation::Detach { handle: at },
            12 => Operation::Wait { handle: at },
            13 => Operation::Poll { handle: at },
            14 => Operation::Run,
            15 => Operation::Join { set, function: at },
            16 => Operation::Leave { set, function: at },
            17 => Operation::Park { set },
            18 => Operation::Renew { set },
            19 | 20 => Operation::Pull { set },
            21 => Operation::PutBack { pulled: at },
            22 => Operation::Complete { pulled: at },
            _ if b % 2 == 0 => Operation::Fail { pulled: at },
            _ => Operation::Lose { pulled: at },
        }
    }
}

impl Finish {
    pub(crate) fn from_byte(byte: u8) -> Finish {
        match byte % 4 {
            0 => Finish::Drain,
            1 => Finish::Discard,
            2 => Finish::Drop,
            _ => Finish::DrainFor,
        }
    }
}

/// The first byte says how the run ends, the others are operations.
pub(crate) fn decode(bytes: &[u8]) -> (Vec<Operation>, Finish) {
    let (first, rest) = bytes.split_first().map_or((0, bytes), |(first, rest)| (*first, rest));
    let operations = rest.chunks_exact(3).take(MOST_OPERATIONS);
    let operations = operations.map(|chunk| Operation::from_bytes([chunk[0], chunk[1], chunk[2]])).collect();
    (operations, Finish::from_byte(first))
}
