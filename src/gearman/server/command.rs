//! What each packet does, one function a command.

use super::conn::Conn;
use super::functions::{NAME_BYTES, NoFunction, Target};
use super::job::{Job, LISTENER_BYTES, State, Unique};
use super::keys::{ConnKey, FunctionKey, JobKey, RunKey};
use super::table::{End, Refused, Table};
use super::timers::wall_seconds;
use crate::Priority;
use crate::gearman::packet::{Frame, Kind, Magic, Packet, PacketError};
use std::time::{Duration, Instant};

/// Codes of ERROR packets. They are stable.
pub(super) mod code {
    /// No packet has this type, or it is none for servers.
    pub(crate) const INVALID_COMMAND: &str = "INVALID_COMMAND";
    /// Arguments are missing, or make no sense.
    pub(crate) const INVALID_ARGS: &str = "invalid_args";
    /// The job is not in this connection's hands.
    pub(crate) const NOT_WORKER: &str = "not_worker";
    /// There is no such option.
    pub(crate) const UNKNOWN_OPTION: &str = "unknown_option";
    /// The server cannot do it.
    pub(crate) const SERVER_ERROR: &str = "server_error";
    /// There are as many connections as there may be, of all peers or of this one.
    pub(crate) const TOO_MANY: &str = "too_many_connections";
    /// Who may come was said, and this peer is not among them.
    pub(crate) const NOT_ALLOWED: &str = "peer_not_allowed";
    /// Without TLS nobody is heard here.
    pub(crate) const TLS_REQUIRED: &str = "tls_required";
    /// There is no TLS here.
    pub(crate) const TLS_UNEXPECTED: &str = "tls_unexpected";
    /// What was to come did not come in time.
    pub(crate) const TOO_SLOW: &str = "too_slow";
    /// More was to wait for the connection, or for all of them, than may.
    pub(crate) const OUTPUT_FULL: &str = "output_full";
    /// The function's queue, or the budget for all jobs, is full.
    pub(crate) const QUEUE_FULL: &str = "queue_full";
}

/// So many functions of a worker are looked at in a microsecond, and so many entered in lists or looked into.
const LOOKS: usize = 256;
const PARTS: usize = 8;
/// So many jobs are looked through for a number before it is made a key.
const FEW: usize = 8;

/// How a job is submitted.
struct Submit<'a> {
    function: &'a [u8],
    unique: &'a [u8],
    payload: &'a [u8],
    reducer: Option<&'a [u8]>,
    priority: Priority,
    background: bool,
    /// Seconds since 1970.
    at: Option<u64>,
}

impl Table {
    /// Does what a frame says.
    pub(super) fn frame(&mut self, from: ConnKey, frame: &Frame<'_>, now: Instant) {
        match frame.packet() {
            // Some workers answer with the magic of a server.
            Ok(packet) if packet.magic == Magic::Request || is_workers(packet.kind) => self.packet(from, &packet, now),
            Ok(packet) => {
                let text = format!("{} with the magic of a response", packet.kind);
                self.send_error(from, code::INVALID_COMMAND, &text);
            }
            Err(error @ PacketError::Arity { .. }) => self.send_error(from, code::INVALID_ARGS, &error.to_string()),
            Err(error) => self.send_error(from, code::INVALID_COMMAND, &error.to_string()),
        }
    }

    fn packet(&mut self, from: ConnKey, packet: &Packet<'_>, now: Instant) {
        use Priority::{High, Low, Normal};
        match packet.kind {
            Kind::SubmitJob => self.submit_plain(from, packet, Normal, false),
            Kind::SubmitJobBg => self.submit_plain(from, packet, Normal, true),
            Kind::SubmitJobHigh => self.submit_plain(from, packet, High, false),
            Kind::SubmitJobHighBg => self.submit_plain(from, packet, High, true),
            Kind::SubmitJobLow => self.submit_plain(from, packet, Low, false),
            Kind::SubmitJobLowBg => self.submit_plain(from, packet, Low, true),
            Kind::SubmitJobEpoch => self.submit_epoch(from, packet),
            Kind::SubmitJobSched => self.refuse_sched(from),
            Kind::SubmitReduceJob => self.submit_reduce(from, packet, false),
            Kind::SubmitReduceJobBackground => self.submit_reduce(from, packet, true),
            Kind::GrabJob | Kind::GrabJobUniq | Kind::GrabJobAll => self.grab(from, packet.kind, now),
            Kind::PreSleep => self.pre_sleep(from),
            Kind::WorkComplete => self.work_complete(from, packet),
            Kind::WorkFail => self.work_fail(from, packet),
            Kind::WorkException => self.work_exception(from, packet),
            Kind::WorkStatus => self.work_status(from, packet),
            Kind::WorkData | Kind::WorkWarning => self.work_data(from, packet),
            Kind::CanDo => self.can_do(from, packet.arg(0), None),
            Kind::CanDoTimeout => self.can_do_timeout(from, packet),
            Kind::CantDo => self.cant_do(from, packet.arg(0)),
            Kind::ResetAbilities => self.reset_abilities(from),
            Kind::GetStatus => self.get_status(from, packet.arg(0)),
            Kind::GetStatusUnique => self.get_status_unique(from, packet.arg(0)),
            Kind::EchoReq => self.send(from, Kind::EchoRes, &[packet.arg(0)]),
            Kind::OptionReq => self.option(from, packet.arg(0)),
            Kind::SetClientId => self.set_client_id(from, packet.arg(0)),
            Kind::AllYours => {}
            kind => self.send_error(from, code::INVALID_COMMAND, &format!("{kind} is sent by servers only")),
        }
    }

    // Clients.

    fn submit_plain(&mut self, from: ConnKey, packet: &Packet<'_>, priority: Priority, background: bool) {
        let (function, unique, payload) = (packet.arg(0), packet.arg(1), packet.arg(2));
        self.submit(from, Submit { function, unique, payload, reducer: None, priority, background, at: None });
    }

    fn submit_epoch(&mut self, from: ConnKey, packet: &Packet<'_>) {
        let at = std::str::from_utf8(packet.arg(2)).ok().and_then(|text| text.trim().parse::<u64>().ok());
        let Some(at) = at else {
            let text = format!("\"{}\" is no number of seconds since 1970", packet.arg(2).escape_ascii());
            return self.send_error(from, code::INVALID_ARGS, &text);
        };
        let (function, unique, payload) = (packet.arg(0), packet.arg(1), packet.arg(3));
        let (priority, background) = (Priority::Normal, true);
        let at = Some(at).filter(|at| *at > wall_seconds());
        self.submit(from, Submit { function, unique, payload, reducer: None, priority, background, at });
    }

    fn submit_reduce(&mut self, from: ConnKey, packet: &Packet<'_>, background: bool) {
        let (function, unique, reducer) = (packet.arg(0), packet.arg(1), packet.arg(2));
        let payload = packet.args().last().copied().unwrap_or_default();
        let (priority, reducer) = (Priority::Normal, Some(reducer));
        self.submit(from, Submit { function, unique, payload, reducer, priority, background, at: None });
    }

    fn refuse_sched(&mut self, from: ConnKey) {
        let text = "SUBMIT_JOB_SCHED is served by no known server; use SUBMIT_JOB_EPOCH with the seconds since 1970";
        self.send_error(from, code::INVALID_COMMAND, text);
    }

    fn submit(&mut self, from: ConnKey, submit: Submit<'_>) {
        self.counters.submits += 1;
        let function = match self.function_for(from, submit.function) {
            Ok(function) => function,
            Err(why) => return self.refuse(from, why.code(), &why.text()),
        };
        if submit.unique.len() > self.settings.unique_bytes {
            let text = format!(
                "the unique key has {} bytes; {} are the most",
                submit.unique.len(),
                self.settings.unique_bytes
            );
            return self.refuse(from, code::INVALID_ARGS, &text);
        }
        let reducer = submit.reducer.unwrap_or_default();
        if reducer.len() > NAME_BYTES {
            let text = format!("the reducer's name has {} bytes; {NAME_BYTES} are the most", reducer.len());
            return self.refuse(from, code::INVALID_ARGS, &text);
        }
        let unique = match submit.unique {
            b"" => Unique::None,
            b"-" => Unique::Payload(submit.payload),
            key => Unique::Key(key),
        };
        let hash = self.hash(unique);
        if let Some(joined) = self.unique_job(function, unique, hash) {
            if self.is_draining && !is_started(self.jobs[joined].state) {
                return self.refuse_job(from, function, &Refused::Closed);
            }
            let listens_more = !submit.background && !self.jobs[joined].listeners.contains(from);
            if listens_more && self.bytes + LISTENER_BYTES > self.settings.job_bytes {
                return self.refuse_bytes(from);
            }
            self.counters.coalesced += 1;
            self.jobs[joined].detached |= submit.background;
            return self.created(from, joined, submit.background);
        }
        if let Err(why) = self.may_promise(function, &submit) {
            return self.refuse_job(from, function, &why);
        }
        if self.bytes + submit.payload.len() + reducer.len() > self.settings.job_bytes {
            return self.refuse_bytes(from);
        }
        let mut job = Job::new(function, unique, submit.payload, submit.priority, submit.background);
        if let Some(reducer) = submit.reducer {
            job.extra().reducer = Some(reducer.into());
        }
        let key = self.enter(job, hash);
        if !submit.background {
            self.listen(from, key);
        }
        if let Some(at) = submit.at {
            self.jobs[key].state = State::Held;
            self.functions[function].held += 1;
            self.timers.start_at(at, key);
        } else if let Err(why) = self.enqueue(key, false) {
            self.withdraw(key);
            return self.refuse_job(from, function, &why);
        }
        let handle = self.handle(key);
        self.send(from, Kind::JobCreated, &[handle.as_bytes()]);
    }

    /// Whether a new job will run, as far as is known before it is queued.
    fn may_promise(&self, function: FunctionKey, submit: &Submit<'_>) -> Result<(), Refused> {
        if self.is_draining {
            return Err(Refused::Closed);
        }
        match &self.functions[function].target {
            // When its time has come nobody is there to be told.
            Target::Local(local) if submit.at.is_some() => local.check(submit.payload).map_err(Refused::Payload),
            _ => Ok(()),
        }
    }

    /// A function that a client submits to: most likely the same as before.
    fn function_for(&mut self, from: ConnKey, name: &[u8]) -> Result<FunctionKey, NoFunction> {
        let last = self.conns.get(from).and_then(|conn| conn.last_function);
        if let Some(last) = last.filter(|last| self.functions.get(*last).is_some_and(|entry| *entry.name == *name)) {
            return Ok(last);
        }
        let function = self.function(name)?;
        if let Some(conn) = self.conns.get_mut(from) {
            conn.last_function = Some(function);
        }
        Ok(function)
    }

    /// A client has joined a job.
    fn created(&mut self, from: ConnKey, key: JobKey, background: bool) {
        if !background {
            self.listen(from, key);
        }
        let handle = self.handle(key);
        self.send(from, Kind::JobCreated, &[handle.as_bytes()]);
    }

    fn listen(&mut self, from: ConnKey, key: JobKey) {
        let listeners = &mut self.jobs[key].listeners;
        let is_first = listeners.is_empty();
        if listeners.add(from)
            && let Some(conn) = self.conns.get_mut(from)
        {
            let (jobs, before) = (&self.jobs, conn.listening.capacity());
            conn.listen(key, |job| jobs.get(job).is_some_and(|job| job.state != State::Buried));
            self.places += conn.listening.capacity() - before;
            self.bytes += if is_first { 0 } else { LISTENER_BYTES };
        }
    }

    fn refuse(&mut self, from: ConnKey, code: &str, text: &str) {
        self.counters.refused += 1;
        self.send_error(from, code, text);
    }

    fn refuse_bytes(&mut self, from: ConnKey) {
        let (bytes, most) = (self.bytes, self.settings.job_bytes);
        let text = format!("all queued jobs together take {bytes} bytes, of {most} that the server has for them");
        self.refuse(from, code::QUEUE_FULL, &text);
    }

    fn refuse_job(&mut self, from: ConnKey, function: FunctionKey, why: &Refused) {
        let entry = &self.functions[function];
        let name = entry.name.escape_ascii();
        let (code, text) = match why {
            Refused::Full => {
                let queued: usize = entry.counts().0.into_iter().sum();
                (code::QUEUE_FULL, format!("Job queue is full: \"{name}\" has {queued} queued jobs"))
            }
            Refused::Closed => (code::SERVER_ERROR, format!("\"{name}\" takes no jobs any more: the server is ending")),
            Refused::Payload(why) => (code::INVALID_ARGS, format!("\"{name}\" cannot read this payload: {why}")),
        };
        self.refuse(from, code, &text);
    }

    fn get_status(&mut self, from: ConnKey, handle: &[u8]) {
        if handle.contains(&0) {
            return self.send_error(from, code::INVALID_ARGS, "a handle has no NUL");
        }
        let Some(job) = self.find(handle).map(|key| &self.jobs[key]) else {
            return self.send(from, Kind::StatusRes, &[handle, b"0", b"0", b"0", b"0"]);
        };
        let (done, total) = job.progress();
        let (done, total) = (done.to_vec(), total.to_vec());
        let running: &[u8] = if is_started(job.state) { b"1" } else { b"0" };
        self.send(from, Kind::StatusRes, &[handle, b"1", running, &done, &total]);
    }

    fn get_status_unique(&mut self, from: ConnKey, unique: &[u8]) {
        if unique.contains(&0) {
            return self.send_error(from, code::INVALID_ARGS, "a unique key has no NUL");
        }
        // Not on the way of any job: a look at each function.
        self.effort += self.functions.len() / 8;
        let mut keyed = self.functions.iter().filter(|(_, entry)| !entry.uniques.is_empty());
        let (key, hash) = (Unique::Key(unique), self.hash(Unique::Key(unique)));
        let found = keyed.find_map(|(function, _)| self.unique_job(function, key, hash));
        let Some(job) = found.and_then(|key| self.jobs.get(key)) else {
            return self.send(from, Kind::StatusResUnique, &[unique, b"0", b"0", b"0", b"0", b"0"]);
        };
        let (done, total) = job.progress();
        let (done, total) = (done.to_vec(), total.to_vec());
        let clients = job.listeners.count().to_string();
        self.effort += job.listeners.len() / 32;
        let running: &[u8] = if is_started(job.state) { b"1" } else { b"0" };
        self.send(from, Kind::StatusResUnique, &[unique, b"1", running, &done, &total, clients.as_bytes()]);
    }

    fn option(&mut self, from: ConnKey, option: &[u8]) {
        if option != b"exceptions" {
            let text = format!("there is no option \"{}\"; there is \"exceptions\"", option.escape_ascii());
            return self.send_error(from, code::UNKNOWN_OPTION, &text);
        }
        if let Some(conn) = self.conns.get_mut(from) {
            conn.exceptions = true;
        }
        self.send(from, Kind::OptionRes, &[option]);
    }

    // Workers.

    fn can_do_timeout(&mut self, from: ConnKey, packet: &Packet<'_>) {
        let text = std::str::from_utf8(packet.arg(1)).unwrap_or("?").trim();
        let number = if text.is_empty() { Ok(0.0) } else { text.parse::<f64>() };
        match number.ok().filter(|number| (0.0..1e12).contains(number)) {
            Some(number) => {
                let unit = self.settings.timeout_unit.as_secs_f64();
                let limit = Duration::from_secs_f64(number * unit).max(self.settings.least_timeout);
                self.can_do(from, packet.arg(0), Some(limit).filter(|_| number > 0.0));
            }
            None => {
                let text = format!("\"{}\" is no timeout", packet.arg(1).escape_ascii());
                self.send_error(from, code::INVALID_ARGS, &text);
            }
        }
    }

    fn can_do(&mut self, from: ConnKey, name: &[u8], limit: Option<Duration>) {
        let function = match self.function(name) {
            Ok(function) => function,
            Err(why) => return self.send_error(from, why.code(), &why.text()),
        };
        let Target::Remote(queue) = &self.functions[function].target else {
            let text = format!("\"{}\" is done by the server itself", name.escape_ascii());
            return self.send_error(from, code::SERVER_ERROR, &text);
        };
        let queue = queue.clone();
        let Some(conn) = self.conns.get_mut(from) else { return };
        self.workers += usize::from(conn.worker.is_none());
        let worker = conn.worker(from, &self.engine, &self.notices);
        self.effort += worker.abilities.len() / LOOKS;
        let most = self.settings.most_abilities;
        if worker.abilities.len() >= most && !worker.abilities.contains_key(&function) {
            let text = format!("this connection can do {most} functions already");
            return self.send_error(from, code::SERVER_ERROR, &text);
        }
        if worker.abilities.insert(function, limit).is_none() {
            worker.set.add(&queue);
            self.functions[function].workers += 1;
        }
    }

    fn cant_do(&mut self, from: ConnKey, name: &[u8]) {
        if let Some(function) = self.names.get(name).copied() {
            self.forget_ability(from, function);
        }
    }

    fn forget_ability(&mut self, from: ConnKey, function: FunctionKey) {
        let Some(worker) = self.conns.get_mut(from).and_then(|conn| conn.worker.as_mut()) else { return };
        self.effort += worker.abilities.len() / LOOKS;
        if worker.abilities.remove(&function).is_some() {
            let entry = &mut self.functions[function];
            entry.workers -= 1;
            if let Target::Remote(queue) = &entry.target {
                worker.set.remove(queue);
            }
        }
    }

    fn reset_abilities(&mut self, from: ConnKey) {
        let Some(worker) = self.conns.get_mut(from).and_then(|conn| conn.worker.as_mut()) else { return };
        self.effort += worker.abilities.len() / PARTS;
        // Another set, as one by one each would be looked for among all. What the old one was woken for goes to others.
        worker.set = self.engine.consumer_set();
        for (function, _) in worker.abilities.drain() {
            self.functions[function].workers -= 1;
        }
        if worker.is_sleeping {
            self.sleep(from);
        }
    }

    fn set_client_id(&mut self, from: ConnKey, id: &[u8]) {
        let mut id: Vec<u8> = id.iter().copied().filter(|byte| !byte.is_ascii_whitespace() && *byte != 0).collect();
        id.truncate(256);
        if id.is_empty() {
            id.push(b'-');
        }
        if let Some(conn) = self.conns.get_mut(from) {
            conn.id = id;
        }
    }

    fn pre_sleep(&mut self, from: ConnKey) {
        let Some(conn) = self.conns.get_mut(from) else { return };
        self.workers += usize::from(conn.worker.is_none());
        let worker = conn.worker(from, &self.engine, &self.notices);
        if !worker.is_sleeping {
            self.effort += worker.abilities.len() / PARTS;
            self.sleep(from);
        }
    }

    fn grab(&mut self, from: ConnKey, how: Kind, now: Instant) {
        let Some(worker) = self.conns.get_mut(from).and_then(|conn: &mut Conn| conn.worker.as_mut()) else {
            return self.send(from, Kind::NoJob, &[]);
        };
        worker.is_sleeping = false;
        self.effort += worker.abilities.len() / PARTS;
        let Some((key, pulled)) = self.take(from) else {
            // It is awake, and takes nothing: a wake-up that was for it goes to another worker.
            if let Some(worker) = self.conns.get(from).and_then(|conn| conn.worker.as_ref()) {
                worker.set.unpark();
            }
            return self.send(from, Kind::NoJob, &[]);
        };
        let number = self.handles.permute(key.number());
        self.assign(from, key, number, pulled, now);
        let handle = self.handles.handle(number);
        let Table { conns, jobs, functions, outbox, .. } = self;
        let job = &jobs[key];
        let (handle, name) = (handle.as_bytes(), &functions[job.function].name[..]);
        let (unique, payload) = (job.shown_unique(), job.payload());
        let mut send = |kind, args: &[&[u8]]| _ = outbox.push(conns, from, kind, args);
        match (how, job.reducer()) {
            (Kind::GrabJob, _) => send(Kind::JobAssign, &[handle, name, payload]),
            (Kind::GrabJobAll, Some(reducer)) => send(Kind::JobAssignAll, &[handle, name, unique, reducer, payload]),
            _ => send(Kind::JobAssignUniq, &[handle, name, unique, payload]),
        }
    }

    /// The job that a worker speaks of, if it is in its hands. Otherwise it is told, unless it could not know.
    fn in_hand(&mut self, from: ConnKey, packet: &Packet<'_>, is_last: bool) -> Option<(JobKey, RunKey)> {
        let handle = packet.arg(0);
        // Some libraries send the NUL that ends their string.
        let handle = handle.strip_suffix(b"\0").unwrap_or(handle);
        let number = self.handles.number(handle);
        if let Some(number) = number {
            if let Some(found) = self.found_in_hand(from, number) {
                return Some(found);
            }
            let key = JobKey::from_number(self.handles.restore(number));
            if let Some(State::Running(run)) = self.jobs.get(key).map(|job| job.state)
                && self.runs[run].conn == from
            {
                return Some((key, run));
            }
            let worker = self.conns.get_mut(from).and_then(|conn| conn.worker.as_mut());
            if worker.is_some_and(|worker| worker.had(key, is_last)) {
                return None;
            }
        }
        let shown = &handle[..handle.len().min(64)];
        let text = format!("the job \"{}\" is not in this connection's hands", shown.escape_ascii());
        self.send_error(from, code::NOT_WORKER, &text);
        None
    }

    /// A job that a worker speaks of, where that is one of few: most workers have one or some in their hands.
    fn found_in_hand(&self, from: ConnKey, number: u64) -> Option<(JobKey, RunKey)> {
        let in_hand = &self.conns.get(from)?.worker.as_ref()?.in_hand;
        in_hand.iter().take(FEW).find_map(|key| {
            let run = &self.runs[*key];
            (run.number == number).then_some((run.job, *key))
        })
    }

    fn work_complete(&mut self, from: ConnKey, packet: &Packet<'_>) {
        if let Some((_, run)) = self.in_hand(from, packet, true) {
            self.finish(run, End::Complete(packet.arg(1)));
        }
    }

    fn work_fail(&mut self, from: ConnKey, packet: &Packet<'_>) {
        if let Some((_, run)) = self.in_hand(from, packet, true) {
            self.finish(run, End::Fail);
        }
    }

    fn work_exception(&mut self, from: ConnKey, packet: &Packet<'_>) {
        if let Some((key, run)) = self.in_hand(from, packet, false) {
            // A WORK_FAIL that some workers send after it is expected.
            if let Some(worker) = self.conns.get_mut(from).and_then(|conn| conn.worker.as_mut()) {
                worker.was_taken(key);
            }
            self.finish(run, End::Exception(packet.arg(1)));
        }
    }

    fn work_status(&mut self, from: ConnKey, packet: &Packet<'_>) {
        if let Some((key, _)) = self.in_hand(from, packet, false) {
            let (done, total) = (packet.arg(1), packet.arg(2));
            // Where it is told later there may be something behind it.
            let upto = memchr::memchr(0, total).unwrap_or(total.len());
            self.keep_progress(key, done, &total[..upto]);
            let handle = self.handle(key);
            self.relay(key, Kind::WorkStatus, &[handle.as_bytes(), done, total]);
        }
    }

    pub(super) fn keep_progress(&mut self, key: JobKey, done: &[u8], total: &[u8]) {
        let Some(job) = self.jobs.get_mut(key) else { return };
        let before = job.bytes();
        job.keep_progress(done, total);
        self.bytes = self.bytes - before + job.bytes();
    }

    fn work_data(&mut self, from: ConnKey, packet: &Packet<'_>) {
        if let Some((key, _)) = self.in_hand(from, packet, false) {
            let handle = self.handle(key);
            self.relay(key, packet.kind, &[handle.as_bytes(), packet.arg(1)]);
        }
    }
}

/// What workers send of their jobs.
fn is_workers(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::WorkComplete
            | Kind::WorkFail
            | Kind::WorkException
            | Kind::WorkStatus
            | Kind::WorkData
            | Kind::WorkWarning
    )
}

fn is_started(state: State) -> bool {
    matches!(state, State::Running(_) | State::Local)
}
