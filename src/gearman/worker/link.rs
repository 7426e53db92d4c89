//! The conversation with one server, without I/O: bytes in, news out; grabs, results in, bytes out.

use super::ability::Outcome;
use super::job::{Job, WorkError};
use crate::gearman::error::Error;
use crate::gearman::packet::{Kind, Limits, Magic, Message, Packet, PacketError, decode, encode};
use std::time::{Duration, Instant};

/// Grabs that may be out to one server at once, at most.
const MOST_GRABS: usize = 64;
/// Unsent bytes above which nothing more is grabbed from a server that does not read.
const FULL: usize = 4 << 20;
/// A buffer that grew beyond this goes when it is empty.
const LARGE: usize = 1 << 20;

/// What a server said.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum News {
    Assigned(Assigned),
    Error { code: String, text: String },
}

/// A job that was handed out.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Assigned {
    pub(super) id: Box<[u8]>,
    pub(super) function: Box<[u8]>,
    pub(super) unique: Box<[u8]>,
    pub(super) reducer: Box<[u8]>,
    pub(super) payload: Vec<u8>,
}

/// What a worker says of itself.
pub(super) struct Introduction<'a> {
    pub(super) client_id: Option<&'a [u8]>,
    /// Names, with how long a job may run.
    pub(super) functions: &'a [(Vec<u8>, Option<Duration>)],
    /// How to ask for jobs.
    pub(super) grab: Kind,
    /// Whether to tell exceptions as such.
    pub(super) exceptions: bool,
}

/// One conversation.
#[derive(Debug)]
pub(super) struct Link {
    /// The beginning of a packet whose rest has not come.
    input: Vec<u8>,
    pub(super) output: Vec<u8>,
    /// Bytes of the output that are sent.
    pub(super) sent: usize,
    limits: Limits,
    grab: Kind,
    exceptions: bool,
    /// Grabs without an answer.
    pub(super) grabs: usize,
    /// Since when an answer is owed: the last one, or the first grab after it.
    pub(super) owed_since: Option<Instant>,
    /// Unsent bytes up to the last grab.
    unasked: usize,
    /// When bytes before a grab were sent last, or the grab.
    wrote: Instant,
    /// Since when the server takes nothing of what is to be sent.
    pub(super) stuck_since: Option<Instant>,
    /// Grabs that may be out at once. Grows with each job that comes: after a wake-up there is one, and maybe no more.
    window: usize,
    /// There was no job, and none has come since.
    is_dry: bool,
    /// Told the server so, and waits for its wake-up.
    is_asleep: bool,
    /// The server takes it to be asleep, whatever it is: it may count on this worker for the next job.
    is_parked: bool,
    /// The server has woken it, counts on that, and was asked for nothing since.
    is_called: bool,
    /// A wake-up was handed back, and what the server made of that is not known.
    is_handing_back: bool,
    /// Takes no more jobs.
    is_retired: bool,
    /// Whether any grab was answered: the server knows the kind.
    has_answered: bool,
    /// When something was heard last.
    pub(super) heard: Instant,
    pub(super) in_hand: usize,
    /// Failures sent behind exceptions: a server for which an exception is the end refuses them.
    afterthoughts: usize,
}

impl Link {
    /// Says who this is, and what it can do.
    pub(super) fn new(introduction: &Introduction<'_>, now: Instant) -> Link {
        let mut link = Link {
            input: Vec::new(),
            output: Vec::new(),
            sent: 0,
            limits: Limits::default(),
            grab: introduction.grab,
            exceptions: introduction.exceptions,
            grabs: 0,
            owed_since: None,
            unasked: 0,
            wrote: now,
            stuck_since: None,
            window: 1,
            is_dry: false,
            is_asleep: false,
            is_parked: false,
            is_called: false,
            is_handing_back: false,
            is_retired: false,
            has_answered: false,
            heard: now,
            in_hand: 0,
            afterthoughts: 0,
        };
        if let Some(id) = introduction.client_id {
            link.say(Kind::SetClientId, &[id]);
        }
        for (name, limit) in introduction.functions {
            match limit {
                Some(limit) => link.say(Kind::CanDoTimeout, &[name, limit.as_millis().to_string().as_bytes()]),
                None => link.say(Kind::CanDo, &[name]),
            }
        }
        link
    }

    fn say(&mut self, kind: Kind, args: &[&[u8]]) {
        encode(&mut self.output, Magic::Request, kind, args);
    }

    /// Whether it makes sense to ask for one more job.
    pub(super) fn may_grab(&self) -> bool {
        let is_open = !self.is_asleep && !self.is_dry && !self.is_retired;
        is_open && self.grabs < self.window && !self.is_full()
    }

    /// Whether so much is unsent that nothing more is asked for.
    pub(super) fn is_full(&self) -> bool {
        self.output.len() - self.sent >= FULL
    }

    /// Asks for a job.
    pub(super) fn grab(&mut self, now: Instant) {
        self.say(self.grab, &[]);
        self.grabs += 1;
        (self.is_parked, self.is_called) = (false, false);
        self.owed_since.get_or_insert(now);
        self.unasked = self.output.len() - self.sent;
    }

    /// So much was sent in a turn; `is_all` if nothing is left.
    pub(super) fn wrote(&mut self, bytes: usize, is_all: bool, now: Instant) {
        if bytes > 0 {
            self.stuck_since = None;
            if self.unasked > 0 {
                (self.unasked, self.wrote) = (self.unasked.saturating_sub(bytes), now);
            }
        }
        match is_all {
            true => self.stuck_since = None,
            false => drop(self.stuck_since.get_or_insert(now)),
        }
    }

    /// Since when an answer is owed and the server shows no sign of life: it sends no part of anything, and takes no part of the
    /// question.
    pub(super) fn silent_since(&self) -> Option<Instant> {
        self.owed_since.map(|since| since.max(self.heard).max(self.wrote))
    }

    /// Asks to be woken, when there was no job and a thread has nothing to do. A worker that is busy is none that could be
    /// woken: somebody else is to be, then.
    pub(super) fn rest(&mut self) {
        if self.is_dry && self.grabs == 0 && !self.is_asleep && !self.is_retired {
            self.sleep();
        }
    }

    fn sleep(&mut self) {
        self.say(Kind::PreSleep, &[]);
        (self.is_asleep, self.is_parked, self.is_dry) = (true, true, true);
    }

    /// Hands a wake-up back that nothing was made of: nothing may be taken, or nothing more. Until a woken worker asks for a job,
    /// sleeps again or leaves, some servers wake nobody else for what it was woken for.
    ///
    /// It sleeps again: then a server that still has the job wakes somebody else, and this worker once more if there is nobody.
    /// That second wake-up needs no answer; the echo tells it from a later one. Taking the functions back would be plainer, but
    /// gearmand queues the jobs of a function again that is taken back, those in hand, too.
    pub(super) fn hand_back(&mut self) {
        if std::mem::take(&mut self.is_called) {
            self.sleep();
            self.say(Kind::EchoReq, &[b"awake"]);
            self.is_handing_back = true;
        }
    }

    /// The server takes it to be awake from now on.
    fn called(&mut self) {
        self.wake();
        self.is_called = self.is_parked && !self.is_handing_back;
        self.is_parked = false;
    }

    /// A thread has become idle: that there was no job may be long ago.
    pub(super) fn stir(&mut self) {
        if !self.is_asleep && self.grabs == 0 {
            self.is_dry = false;
        }
    }

    /// Whether the server is to wake this worker when there is a job.
    pub(super) fn is_asleep(&self) -> bool {
        self.is_asleep
    }

    /// As if the server had said that there may be a job.
    pub(super) fn wake(&mut self) {
        self.is_asleep = false;
        self.is_dry = false;
    }

    /// Takes no more jobs. What a server is told not to send any more is what it has no job of here, for some servers take
    /// back the jobs of a function with it.
    pub(super) fn retire(&mut self) {
        self.is_retired = true;
    }

    /// Says that there will be no more jobs of these functions.
    pub(super) fn forget<'a>(&mut self, functions: impl Iterator<Item = &'a [u8]>) {
        functions.for_each(|name| self.say(Kind::CantDo, &[name]));
    }

    pub(super) fn is_retired(&self) -> bool {
        self.is_retired
    }

    /// Whether nothing is in hand, none is asked for, and all is said.
    pub(super) fn is_quiet(&self) -> bool {
        self.in_hand == 0 && self.grabs == 0 && self.output.is_empty()
    }

    /// A job has ended.
    pub(super) fn answer(&mut self, job: &Job, outcome: &Outcome) {
        self.in_hand -= 1;
        match outcome {
            Outcome::Done(result) => self.say(Kind::WorkComplete, &[job.id(), result]),
            Outcome::Failed(WorkError::Fail) => self.say(Kind::WorkFail, &[job.id()]),
            Outcome::Failed(WorkError::Exception(why)) if !self.exceptions => {
                self.say(Kind::WorkWarning, &[job.id(), why]);
                self.say(Kind::WorkFail, &[job.id()]);
            }
            Outcome::Failed(WorkError::Exception(why)) => {
                // For some servers the first is the end of a job, for others only the second.
                self.say(Kind::WorkException, &[job.id(), why]);
                self.say(Kind::WorkFail, &[job.id()]);
                self.afterthoughts += 1;
            }
            // Unanswered: the server hands it to another worker when this connection ends.
            Outcome::NotRun => self.retire(),
        }
    }

    /// Fails a job that cannot be done here.
    pub(super) fn refuse(&mut self, id: &[u8]) {
        self.in_hand -= 1;
        self.say(Kind::WorkFail, &[id]);
    }

    /// Reads what has come. News before what is no packet are kept.
    pub(super) fn hear(&mut self, bytes: &[u8], now: Instant, news: &mut Vec<News>) -> Result<(), Error> {
        self.heard = now;
        if self.input.is_empty() {
            let used = self.read(bytes, now, news)?;
            self.input.extend_from_slice(&bytes[used..]);
            return Ok(());
        }
        let mut input = std::mem::take(&mut self.input);
        input.extend_from_slice(bytes);
        let used = self.read(&input, now, news)?;
        input.drain(..used);
        if input.is_empty() && input.capacity() > LARGE {
            input = Vec::new();
        }
        self.input = input;
        Ok(())
    }

    /// Reads packets: the bytes that they took.
    fn read(&mut self, bytes: &[u8], now: Instant, news: &mut Vec<News>) -> Result<usize, Error> {
        let mut used = 0;
        loop {
            match decode(&bytes[used..], &self.limits)? {
                Message::Incomplete { .. } => return Ok(used),
                Message::Frame { frame, length } => {
                    used += length;
                    // What a later protocol has may come.
                    if frame.magic == Magic::Response && Kind::from_code(frame.code).is_some() {
                        news.extend(self.take(&frame.packet()?, now));
                    }
                }
                // A server that says something in words does not mean a worker.
                Message::Line { line, .. } => {
                    let mut magic = [0; 4];
                    magic.iter_mut().zip(line).for_each(|(to, from)| *to = *from);
                    return Err(PacketError::BadMagic(magic).into());
                }
            }
        }
    }

    fn take(&mut self, packet: &Packet<'_>, now: Instant) -> Option<News> {
        match packet.kind {
            Kind::Noop => self.called(),
            Kind::NoJob => {
                self.answered(now);
                self.is_dry = true;
                self.window = 1;
            }
            Kind::JobAssign | Kind::JobAssignUniq | Kind::JobAssignAll => {
                self.answered(now);
                self.is_dry = false;
                self.window = (self.window * 2).min(MOST_GRABS);
                self.in_hand += 1;
                return Some(News::Assigned(assigned(packet)));
            }
            Kind::Error => return self.error(packet, now),
            Kind::EchoRes => self.is_handing_back = false,
            Kind::EchoReq => self.say(Kind::EchoRes, &[packet.arg(0)]),
            _ => {}
        }
        None
    }

    fn answered(&mut self, now: Instant) {
        self.grabs = self.grabs.saturating_sub(1);
        self.owed_since = (self.grabs > 0).then_some(now);
        self.has_answered = true;
    }

    /// An error is no answer to a grab, but for a server that does not know the kind of grab.
    fn error(&mut self, packet: &Packet<'_>, now: Instant) -> Option<News> {
        if self.afterthoughts > 0 && [&b"JOB_NOT_FOUND"[..], b"not_worker"].contains(&packet.arg(0)) {
            self.afterthoughts -= 1;
            return None;
        }
        if self.grabs > 0 && !self.has_answered && self.grab != Kind::GrabJob {
            self.grab = Kind::GrabJob;
            self.grabs -= 1;
            self.owed_since = None;
            self.grab(now);
            return None;
        }
        let [code, text] = [0, 1].map(|i| String::from_utf8_lossy(packet.arg(i)).into_owned());
        Some(News::Error { code, text })
    }
}

fn assigned(packet: &Packet<'_>) -> Assigned {
    let args = packet.args();
    let (unique, reducer): (&[u8], &[u8]) = match packet.kind {
        Kind::JobAssignUniq => (args[2], b""),
        Kind::JobAssignAll => (args[2], args[3]),
        _ => (b"", b""),
    };
    Assigned {
        id: args[0].into(),
        function: args[1].into(),
        unique: unique.into(),
        reducer: reducer.into(),
        payload: args[args.len() - 1].to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gearman::packet::HEADER;
    use proptest::prelude::*;

    fn link(now: Instant) -> Link {
        let functions = [(b"f".to_vec(), None), (b"g".to_vec(), Some(Duration::from_millis(1500)))];
        let introduction =
            Introduction { client_id: None, functions: &functions, grab: Kind::GrabJobUniq, exceptions: true };
        Link::new(&introduction, now)
    }

    /// The kinds of what was said, which is then forgotten.
    fn said(link: &mut Link) -> Vec<Kind> {
        let output = std::mem::take(&mut link.output);
        let (mut kinds, mut rest) = (Vec::new(), output.as_slice());
        while let Ok(Message::Frame { frame, length }) = decode(rest, &Limits::default()) {
            kinds.push(frame.packet().expect("a packet").kind);
            rest = &rest[length..];
        }
        kinds
    }

    fn hear(link: &mut Link, kind: Kind, args: &[&[u8]], now: Instant) -> Vec<News> {
        let (mut bytes, mut news) = (Vec::new(), Vec::new());
        encode(&mut bytes, Magic::Response, kind, args);
        link.hear(&bytes, now, &mut news).expect("a packet");
        news
    }

    const JOB: &[&[u8]] = &[b"H:x:1", b"f", b"", b"payload"];

    #[test]
    fn grabs_double_with_each_job_and_begin_anew_without() {
        let now = Instant::now();
        let mut link = link(now);
        assert_eq!(said(&mut link), [Kind::CanDo, Kind::CanDoTimeout]);
        let grab_all = |link: &mut Link| {
            while link.may_grab() {
                link.grab(now);
            }
            (said(link).len(), link.grabs)
        };
        assert_eq!(grab_all(&mut link), (1, 1));
        hear(&mut link, Kind::JobAssignUniq, JOB, now);
        assert_eq!(grab_all(&mut link), (2, 2));
        hear(&mut link, Kind::JobAssignUniq, JOB, now);
        assert_eq!(grab_all(&mut link), (3, 4));
        // The first answer says that there are no more; the others are owed all the same, and one brings a job.
        hear(&mut link, Kind::NoJob, &[], now);
        assert_eq!(grab_all(&mut link), (0, 3));
        hear(&mut link, Kind::JobAssignUniq, JOB, now);
        assert_eq!(grab_all(&mut link), (0, 2));
        hear(&mut link, Kind::NoJob, &[], now);
        link.rest();
        assert_eq!((said(&mut link), link.is_asleep()), (vec![], false));
        hear(&mut link, Kind::NoJob, &[], now);
        assert_eq!(grab_all(&mut link), (0, 0));
        link.rest();
        link.rest();
        assert_eq!((said(&mut link), link.is_asleep(), link.owed_since), (vec![Kind::PreSleep], true, None));
        link.stir();
        assert_eq!(grab_all(&mut link), (0, 0));
        hear(&mut link, Kind::Noop, &[], now);
        assert_eq!(grab_all(&mut link), (1, 1));
        // One too many.
        hear(&mut link, Kind::NoJob, &[], now);
        hear(&mut link, Kind::NoJob, &[], now);
        assert_eq!(grab_all(&mut link), (0, 0));
        // Time passes without an idle thread.
        link.stir();
        assert_eq!(grab_all(&mut link), (1, 1));
    }

    #[test]
    fn what_is_sent_takes_no_room() {
        let mut link = link(Instant::now());
        link.output.resize(FULL * 2, 0);
        assert!(!link.may_grab());
        link.sent = FULL + 1;
        assert!(link.may_grab());
    }

    #[test]
    fn an_answer_is_owed_since_the_last_one() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut link = link(start);
        assert_eq!(link.owed_since, None);
        link.grab(at(1));
        link.grab(at(2));
        assert_eq!(link.owed_since, Some(at(1)));
        hear(&mut link, Kind::JobAssignUniq, JOB, at(5));
        assert_eq!(link.owed_since, Some(at(5)));
        hear(&mut link, Kind::JobAssignUniq, JOB, at(6));
        assert_eq!((link.owed_since, link.heard), (None, at(6)));
    }

    /// The rest of a large job comes slowly, or a large result goes slowly: neither is silence.
    #[test]
    fn a_part_of_a_packet_is_a_sign_of_life() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut link = link(start);
        link.output.resize(1000, 0);
        link.grab(at(1));
        let all = link.output.len();
        assert_eq!(link.silent_since(), Some(at(1)));
        link.sent = 900;
        link.wrote(900, false, at(20));
        assert_eq!((link.silent_since(), link.stuck_since), (Some(at(20)), Some(at(20))));
        link.wrote(0, false, at(25));
        assert_eq!((link.silent_since(), link.stuck_since), (Some(at(20)), Some(at(20))));
        link.output.resize(2000, 0);
        link.wrote(all - 900, false, at(30));
        assert_eq!((link.silent_since(), link.stuck_since), (Some(at(30)), Some(at(30))));
        link.wrote(2000 - all, true, at(40));
        assert_eq!((link.silent_since(), link.stuck_since), (Some(at(30)), None), "nothing of that was a question");
        link.hear(b"\0RES\0\0\0\x1f\0\0\x10\0half of it", at(50), &mut Vec::new()).expect("a part of a packet");
        assert_eq!((link.silent_since(), link.owed_since), (Some(at(50)), Some(at(1))));
    }

    proptest! {
        /// Whatever a server sends, in whatever pieces: the same news, and no panic.
        #[test]
        fn any_bytes_in_any_pieces(parts in prop::collection::vec((0..45_u32, prop::collection::vec(0..4_u8, 0..20), any::<bool>()), 0..12), cuts in prop::collection::vec(1..40_usize, 1..20)) {
            let mut bytes = Vec::new();
            for (code, body, is_response) in parts {
                bytes.extend_from_slice(if is_response { b"\0RES" } else { b"\0REQ" });
                bytes.extend_from_slice(&code.to_be_bytes());
                bytes.extend_from_slice(&(body.len() as u32).to_be_bytes());
                bytes.extend_from_slice(&body);
            }
            let now = Instant::now();
            let (mut whole, mut whole_news) = (link(now), Vec::new());
            let outcome = whole.hear(&bytes, now, &mut whole_news).is_ok();
            let (mut cut, mut news, mut rest, mut cuts) = (link(now), Vec::new(), bytes.as_slice(), cuts.iter().cycle());
            let mut is_good = true;
            while is_good && !rest.is_empty() {
                let (piece, others) = rest.split_at(rest.len().min(*cuts.next().expect("a cycle")));
                is_good = cut.hear(piece, now, &mut news).is_ok();
                rest = others;
            }
            prop_assert_eq!((outcome, whole_news, whole.output), (is_good, news, cut.output));
            prop_assert!(cut.input.len() < HEADER + 20);
        }
    }
}
