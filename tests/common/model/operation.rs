//! What can be done to an engine, and how bytes spell it.

use layshaft::{Limits, Overflow, Priority};

/// Names that functions compete for.
pub(crate) const NAMES: usize = 4;
/// Consumer sets.
pub(crate) const SETS: usize = 2;
/// Keys of unique jobs.
const KEYS: u8 = 3;
/// The first of 24 codes of operations that came later.
pub(crate) const NEW: u8 = 96;
/// More would only make runs longer.
const MOST_OPERATIONS: usize = 300;

/// What a job is submitted with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Terms {
    pub(crate) priority: Priority,
    pub(crate) key: Option<u8>,
    /// Not before so many hours have passed: no run lasts one, so they pass when an operation says so. 0 is at once, which is for
    /// the engine's own clock; likewise below.
    pub(crate) after: Option<u8>,
    pub(crate) deadline: Option<u8>,
    /// Not 0: whether a body or the clock is faster is nobody's to say.
    pub(crate) timeout: Option<u8>,
    /// Before what is queued.
    pub(crate) ahead: bool,
}

impl Terms {
    pub(crate) fn is_managed(&self) -> bool {
        self.ahead || self.key.is_some() || [self.after, self.deadline, self.timeout].iter().any(Option::is_some)
    }
}

/// When jobs of a function are run again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Policy {
    /// 0: never.
    pub(crate) attempts: u32,
    pub(crate) panics: bool,
    pub(crate) timeouts: bool,
    /// An hour after the loss.
    pub(crate) later: bool,
}

impl Policy {
    fn from_bits(bits: u8) -> Policy {
        let is_set = |bit: u8| bits >> bit & 1 == 1;
        Policy { attempts: u32::from(bits % 4), panics: is_set(2), timeouts: is_set(3), later: is_set(4) }
    }
}

/// Limits of a function.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Bounds {
    pub(crate) capacity: Option<usize>,
    pub(crate) capacity_of: Option<(Priority, usize)>,
    pub(crate) overflow: Overflow,
    pub(crate) concurrency: Option<usize>,
    pub(crate) drop_abandoned: bool,
}

/// One step. Numbers are taken modulo what there is, so every value means something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    Register {
        name: usize,
        remote: bool,
    },
    Remove {
        name: usize,
    },
    Send {
        function: usize,
        n: u8,
        terms: Terms,
    },
    Submit {
        function: usize,
        n: u8,
        terms: Terms,
    },
    SendBatch {
        function: usize,
        jobs: u8,
    },
    SubmitBatch {
        function: usize,
        jobs: u8,
    },
    /// A batch whose results are taken as they come.
    Collect {
        function: usize,
        jobs: u8,
    },
    Next {
        batch: usize,
    },
    DropBatch {
        batch: usize,
    },
    Cancel {
        handle: usize,
    },
    Detach {
        handle: usize,
    },
    Wait {
        handle: usize,
    },
    Poll {
        handle: usize,
    },
    Run,
    /// The same, with closures of a scope.
    Borrow {
        closures: usize,
    },
    /// The same, with a join.
    Fork,
    Join {
        set: usize,
        function: usize,
    },
    Leave {
        set: usize,
        function: usize,
    },
    Park {
        set: usize,
    },
    Renew {
        set: usize,
    },
    Pull {
        set: usize,
    },
    PutBack {
        pulled: usize,
    },
    Complete {
        pulled: usize,
    },
    Fail {
        pulled: usize,
    },
    Lose {
        pulled: usize,
    },
    SetLimits {
        function: usize,
        bounds: Bounds,
    },
    Pause {
        function: usize,
    },
    /// In hours, as in [`Terms`].
    PauseUntil {
        function: usize,
        hours: u8,
    },
    Resume {
        function: usize,
    },
    /// So many hours pass for a function.
    Elapse {
        function: usize,
        hours: u8,
    },
    SetRetry {
        function: usize,
        policy: Policy,
    },
    TakeDead {
        function: usize,
        at: usize,
    },
    RetryDead {
        function: usize,
        at: usize,
    },
}

/// How the engine ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Finish {
    Drain,
    DrainFor,
    Discard,
    Drop,
}

fn priority(n: u8) -> Priority {
    match n % 4 {
        1 => Priority::High,
        2 => Priority::Low,
        _ => Priority::Normal,
    }
}

impl Bounds {
    fn from_bits(bits: u8, concurrency: Option<usize>) -> Bounds {
        let overflow = match bits >> 3 & 3 {
            1 => Overflow::EvictNewest,
            2 => Overflow::EvictOldest,
            3 => Overflow::Block,
            _ => Overflow::Reject,
        };
        let capacity_of = match bits >> 5 & 3 {
            0 => None,
            n => Some((priority(n), usize::from(n))),
        };
        let capacity = [None, Some(0), Some(1), Some(2), Some(3), Some(5), Some(8), None][usize::from(bits & 7)];
        Bounds { capacity, capacity_of, overflow, concurrency, drop_abandoned: bits >> 7 == 1 }
    }

    pub(crate) fn limits(&self) -> Limits {
        let mut limits = Limits::new().overflow(self.overflow).drop_abandoned(self.drop_abandoned);
        if let Some(capacity) = self.capacity {
            limits = limits.capacity(capacity);
        }
        if let Some((priority, capacity)) = self.capacity_of {
            limits = limits.capacity_of(priority, capacity);
        }
        match self.concurrency {
            Some(jobs) => limits.concurrency(jobs),
            None => limits,
        }
    }
}

impl Operation {
    /// Every three bytes are an operation.
    pub(crate) fn from_bytes([code, a, b]: [u8; 3]) -> Operation {
        let (at, set) = (usize::from(a), usize::from(b) % SETS);
        if code >= 128 {
            return Operation::managed(code, at, b);
        }
        if (NEW..NEW + 24).contains(&code) {
            return Operation::timed(code - NEW, at, b);
        }
        let name = at % NAMES;
        let terms = Terms { priority: priority(code / 24), ..Terms::default() };
        match code % 24 {
            0 => Operation::Register { name, remote: false },
            1 => Operation::Register { name, remote: true },
            2 => Operation::Remove { name },
            3 | 4 => Operation::Send { function: at, n: b, terms },
            5 | 6 => Operation::Submit { function: at, n: b, terms },
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

    /// What makes a function managed, and what is asked of one.
    fn managed(code: u8, function: usize, b: u8) -> Operation {
        let terms = Terms { priority: priority(code / 16), ..Terms::default() };
        let keyed = Terms { key: Some(b % KEYS), ..terms };
        let timed = |terms: Terms| Terms { deadline: Some(3), timeout: Some(3), ..terms };
        match code % 16 {
            0 => Operation::SetLimits { function, bounds: Bounds::from_bits(b, None) },
            n @ 1..=3 => Operation::SetLimits { function, bounds: Bounds::from_bits(b, Some(usize::from(n - 1))) },
            4 => Operation::Pause { function },
            5 | 6 => Operation::Resume { function },
            7 => Operation::Submit { function, n: b, terms: keyed },
            8 => Operation::Submit { function, n: b, terms: Terms { ahead: b & 4 == 0, ..keyed } },
            9 if b & 4 == 0 => Operation::Send { function, n: b, terms: Terms { ahead: true, ..terms } },
            9 => Operation::Send { function, n: b, terms: keyed },
            10 => Operation::Submit { function, n: b, terms: Terms { after: Some(1), ..terms } },
            11 if b % 2 == 0 => Operation::Submit { function, n: b, terms: Terms { after: Some(1), ..timed(keyed) } },
            11 => Operation::Send { function, n: b, terms: Terms { after: Some(1), ..terms } },
            12 => Operation::Submit { function, n: b, terms: timed(terms) },
            13 => Operation::SetRetry { function, policy: Policy::from_bits(b) },
            14 => Operation::TakeDead { function, at: usize::from(b) },
            _ => Operation::RetryDead { function, at: usize::from(b) },
        }
    }
}

/// Times, and what else came later than the corpus.
impl Operation {
    fn timed(code: u8, function: usize, b: u8) -> Operation {
        let terms = Terms { priority: priority(b / 16), ..Terms::default() };
        let key = Some(b % KEYS);
        let submit = |terms: Terms| Operation::Submit { function, n: b, terms };
        let either = |terms: Terms| {
            if b & 8 == 0 { submit(terms) } else { Operation::Send { function, n: b, terms } }
        };
        match code {
            0 => submit(Terms { after: Some(0), ..terms }),
            1 => either(Terms { deadline: Some(0), key: key.filter(|_| b & 4 == 0), ..terms }),
            2 => submit(Terms { after: Some(0), timeout: Some(1), ..terms }),
            3 => either(Terms { after: Some(1), deadline: Some(3), ..terms }),
            4 => submit(Terms { after: Some(3), deadline: Some(1), key, ..terms }),
            5 => either(Terms { deadline: Some(1), ..terms }),
            6 | 7 => either(Terms { timeout: Some(1), ..terms }),
            8 => submit(Terms { timeout: Some(1), deadline: Some(3), key, ..terms }),
            9 => either(Terms { after: Some(1), ..terms }),
            10..=13 => Operation::Elapse { function, hours: if b % 4 == 0 { 4 } else { 2 } },
            14 => Operation::PauseUntil { function, hours: [0, 1, 3, 1][usize::from(b % 4)] },
            15 | 16 => Operation::SetRetry { function, policy: Policy::from_bits(b) },
            17 | 18 => {
                let capacity_of = (b & 4 == 0).then(|| (terms.priority, usize::from(b / 8 % 2)));
                // Without one for all, others still find room.
                let (capacity, concurrency) = ((b & 4 != 0).then(|| usize::from(b % 4)), None);
                let overflow = Overflow::Block;
                Operation::SetLimits {
                    function,
                    bounds: Bounds { capacity, capacity_of, overflow, concurrency, drop_abandoned: false },
                }
            }
            19 => Operation::Collect { function, jobs: b % 8 },
            20 if b % 16 == 0 => Operation::DropBatch { batch: function },
            23 if b % 2 == 0 => Operation::Borrow { closures: usize::from(b / 2 % 8) },
            23 => Operation::Fork,
            _ => Operation::Next { batch: function },
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
