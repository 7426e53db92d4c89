//! The jobs, functions and connections of a server, without I/O: what a packet does to them, and what is to be sent to whom.
//!
//! Each function is one of the engine's: without a body, and then its jobs wait in the engine's queue as [`Ticket`]s, and
//! remote workers pull them through consumer sets; or one of this process. The queue, priorities, limits, pauses and wake-ups
//! are the engine's. What belongs to the wire is here: one name for a job however many clients have joined it, who they
//! are, and what they were told.
//!
//! A job that ends while its ticket is in the queue stays as a tombstone until the ticket is met, or until there are more
//! tombstones than jobs.

#[cfg(test)]
mod costs;
#[cfg(test)]
mod model;

use super::conn::Conn;
use super::events::ServerEvent;
use super::functions::{Entry, Target};
use super::handles::{Handle, Handles};
use super::job::{Job, Run, State, Unique};
use super::keys::{ConnKey, FunctionKey, JobKey, RunKey};
use super::notices::{Notice, Notices, Ticket};
use super::output::Outbox;
use super::settings::{OnLoss, Settings};
use super::slots::Slots;
use super::status::ServerCounters;
use super::timers::{Due, Timers, wall_seconds};
use super::times::Ticks;
use crate::{Engine, Priority};
use slotmap::SlotMap;
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

/// All that a server knows.
pub(super) struct Table {
    pub(super) engine: Engine,
    pub(super) settings: Arc<Settings>,
    pub(super) handles: Handles,
    pub(super) notices: Arc<Notices>,
    pub(super) functions: SlotMap<FunctionKey, Entry>,
    pub(super) names: HashMap<Arc<[u8]>, FunctionKey>,
    pub(super) jobs: Slots<Job>,
    pub(super) runs: SlotMap<RunKey, Run>,
    pub(super) conns: SlotMap<ConnKey, Conn>,
    pub(super) timers: Timers,
    /// Of unique keys.
    hashing: RandomState,
    /// What queued and running jobs take.
    pub(super) bytes: usize,
    pub(super) outbox: Outbox,
    pub(super) counters: ServerCounters,
    /// No job is given out any more.
    pub(super) is_draining: bool,
    /// The server has ended, and its functions are not the engine's any more.
    pub(super) has_left: bool,
    /// When the server ends in any case.
    pub(super) end_by: Option<Instant>,
    /// Jobs in this process.
    pub(super) locals: usize,
    taken: Vec<Notice>,
    /// What the messages since the last turn have cost, in about microseconds.
    pub(super) effort: usize,
    /// Jobs with a unique key, tickets of jobs that are over, connections that are workers, places for jobs that are listened to.
    pub(super) keyed: usize,
    pub(super) tombstones: usize,
    pub(super) workers: usize,
    pub(super) places: usize,
    /// What the process has in memory, and when that was looked at.
    pub(super) resident: Option<(Instant, usize)>,
    /// Functions so far.
    pub(super) functions_made: usize,
    /// Connections from each address.
    pub(super) peers: HashMap<IpAddr, usize>,
    /// What happened since they were taken; `None` when nobody hears of it.
    pub(super) events: Option<Vec<ServerEvent>>,
    started: Instant,
    /// The time of what is dealt with.
    pub(super) clock: Ticks,
}

/// How a job ends.
#[derive(Clone, Copy)]
pub(super) enum End<'a> {
    Complete(&'a [u8]),
    Fail,
    Exception(&'a [u8]),
}

impl Table {
    pub(super) fn new(engine: Engine, settings: Arc<Settings>, notices: Arc<Notices>, shards: usize) -> Table {
        Table {
            engine,
            handles: Handles::new(&settings.host),
            outbox: Outbox::new(&settings, shards),
            settings,
            notices,
            functions: SlotMap::with_key(),
            names: HashMap::new(),
            jobs: Slots::new(),
            hashing: RandomState::new(),
            runs: SlotMap::with_key(),
            conns: SlotMap::with_key(),
            timers: Timers::default(),
            bytes: 0,
            counters: ServerCounters::default(),
            is_draining: false,
            has_left: false,
            end_by: None,
            locals: 0,
            taken: Vec::new(),
            effort: 0,
            keyed: 0,
            tombstones: 0,
            workers: 0,
            places: 0,
            resident: None,
            functions_made: 0,
            peers: HashMap::new(),
            events: None,
            started: Instant::now(),
            clock: Ticks::NONE,
        }
    }

    pub(super) fn set_clock(&mut self, now: Instant) {
        self.clock = Ticks::since(self.started, now);
        self.outbox.clock = self.clock;
    }

    pub(super) fn handle(&self, job: JobKey) -> Handle {
        self.handles.name(job.number())
    }

    /// The job with this handle, unless it is over.
    pub(super) fn find(&self, handle: &[u8]) -> Option<JobKey> {
        let job = JobKey::from_number(self.handles.key(handle)?);
        self.jobs.get(job).filter(|job| job.state != State::Buried).map(|_| job)
    }

    // The life of a job.

    /// Puts a job into its function's queue, or hands it to this process; one that was accepted before, whatever the limits.
    ///
    /// # Errors
    /// Why it is not accepted. It is still in the table.
    pub(super) fn enqueue(&mut self, key: JobKey, is_accepted: bool) -> Result<(), Refused> {
        let job = &mut self.jobs[key];
        job.since = self.clock;
        let entry = &mut self.functions[job.function];
        match &entry.target {
            Target::Remote(function) => {
                let mut submit = function.job(Ticket::new(key, &self.notices)).priority(job.priority);
                if entry.rules.high_is_lifo && job.priority == Priority::High {
                    submit = submit.ahead();
                }
                if is_accepted {
                    submit = submit.beyond_limits();
                }
                let handle = if entry.is_limited { submit.submit().map(Some) } else { submit.send().map(|()| None) };
                match handle {
                    Ok(None) => {}
                    Ok(Some(handle)) => job.extra().handle = Some(handle),
                    Err(error) => {
                        let why = if error.is_full() { Refused::Full } else { Refused::Closed };
                        error.into_arg().spend();
                        return Err(why);
                    }
                }
                job.state = State::Queued;
                entry.add_queued(job.priority, self.clock);
                let function = job.function;
                self.rewake_later(function);
                Ok(())
            }
            Target::Local(_) => self.start_local(key, is_accepted),
        }
    }

    /// Takes the next job that this worker can do.
    pub(super) fn take(&mut self, conn: ConnKey) -> Option<(JobKey, crate::Pulled<Ticket, ()>)> {
        if self.is_draining {
            return None;
        }
        loop {
            let pulled = self.conns.get(conn)?.worker.as_ref()?.set.try_next()?;
            let key = pulled.arg().job();
            if self.jobs[key].state == State::Queued {
                return Some((key, pulled));
            }
            self.clear(key);
            let (ticket, completer) = pulled.take();
            ticket.spend();
            completer.complete(());
        }
    }

    /// Gives a job that was taken from the queue to a worker.
    pub(super) fn assign(
        &mut self,
        conn: ConnKey,
        key: JobKey,
        number: u64,
        pulled: crate::Pulled<Ticket, ()>,
        now: Instant,
    ) {
        let job = &mut self.jobs[key];
        let entry = &mut self.functions[job.function];
        entry.queued[index(job.priority)] -= 1;
        entry.running += 1;
        entry.has_waited(std::mem::replace(&mut job.since, self.clock), self.clock);
        job.attempts = job.attempts.saturating_add(1);
        let worker = self.conns.get_mut(conn).and_then(|conn| conn.worker.as_mut()).expect("it has just pulled");
        let limit = worker.abilities.get(&job.function).copied().flatten();
        let limit = limit.into_iter().chain(entry.rules.run_timeout).min().and_then(|limit| now.checked_add(limit));
        let (turn, position) = (self.counters.handed_out, worker.in_hand.len());
        let run = self.runs.insert(Run { job: key, conn, pulled, number, turn, position, limit });
        worker.in_hand.push(run);
        worker.has_worked = true;
        job.state = State::Running(run);
        if let Some(limit) = limit {
            self.timers.push(limit, Due::Over(run));
        }
        self.counters.handed_out += 1;
    }

    /// Takes a job out of its worker's hands: what was pulled, and by whom.
    pub(super) fn take_back(&mut self, run: RunKey) -> Option<Run> {
        let run = self.runs.remove(run)?;
        if run.limit.is_some() {
            let runs = &self.runs;
            self.timers.forget_limit(|run| runs.contains_key(run));
        }
        let job = &self.jobs[run.job];
        let entry = &mut self.functions[job.function];
        entry.running -= 1;
        entry.has_run(job.since, self.clock);
        // Of a connection that is closed nothing is left.
        if let Some(worker) = self.conns.get_mut(run.conn).and_then(|conn| conn.worker.as_mut()) {
            worker.in_hand.swap_remove(run.position);
            if let Some(moved) = worker.in_hand.get(run.position) {
                self.runs[*moved].position = run.position;
            }
        }
        Some(run)
    }

    /// A job's attempt has come to nothing: it is queued again, before others of its priority, or ends.
    pub(super) fn lose(&mut self, run: RunKey, what: OnLoss) {
        let Some(run) = self.take_back(run) else { return };
        let key = run.job;
        let job = &mut self.jobs[key];
        job.since = self.clock;
        let entry = &mut self.functions[job.function];
        let is_spent = entry.rules.job_retries.is_some_and(|most| u32::from(job.attempts) >= most);
        if what == OnLoss::Fail || is_spent || (job.is_abandoned() && !entry.rules.runs_abandoned) {
            job.state = State::Buried;
            spend(run);
            self.end(key, End::Fail);
            return;
        }
        job.state = State::Queued;
        entry.add_queued(job.priority, self.clock);
        entry.requeued += 1;
        let function = job.function;
        self.counters.requeued += 1;
        run.pulled.put_back();
        self.rewake_later(function);
    }

    /// A job in a worker's hands ends.
    pub(super) fn finish(&mut self, run: RunKey, how: End<'_>) {
        if let Some(run) = self.take_back(run) {
            let (key, number) = (run.job, run.number);
            self.jobs[key].state = State::Buried;
            spend(run);
            self.end_as(key, Some(number), how);
        }
    }

    /// Ends a job wherever it is, and tells those who listen.
    pub(super) fn end(&mut self, key: JobKey, how: End<'_>) {
        self.end_as(key, None, how);
    }

    /// The same, where the number in its handle is known.
    fn end_as(&mut self, key: JobKey, number: Option<u64>, how: End<'_>) {
        let Some(mut job) = self.leave(key) else { return };
        let listeners = std::mem::take(&mut job.listeners);
        if !listeners.is_empty() {
            let number = number.unwrap_or_else(|| self.handles.permute(key.number()));
            self.tell_end(self.handles.handle(number), &listeners, how);
        }
        let entry = &mut self.functions[job.function];
        match how {
            End::Complete(_) => entry.done += 1,
            End::Fail | End::Exception(_) => entry.failed += 1,
        }
    }

    /// Takes a job out of the table; one in its function's queue stays there as a tombstone.
    fn leave(&mut self, key: JobKey) -> Option<Job> {
        let job = self.jobs.get_mut(key)?;
        let entry = &mut self.functions[job.function];
        if job.unique() != Unique::None {
            let hash = self.hashing.hash_one(job.unique()) as u32;
            if let Ok(found) = entry.uniques.find_entry(spread(hash), |known| known.job == key) {
                found.remove();
                self.keyed -= 1;
            }
        }
        self.bytes -= job.bytes();
        match job.state {
            State::Running(run) => {
                if let Some(run) = self.take_back(run) {
                    if let Some(worker) = self.conns.get_mut(run.conn).and_then(|conn| conn.worker.as_mut()) {
                        worker.was_taken(key);
                    }
                    spend(run);
                }
                self.jobs.remove(key)
            }
            State::Queued => {
                entry.queued[index(job.priority)] -= 1;
                // The engine's queue has room at once, where that matters; then the ticket is gone, too.
                let handle = job.extra.as_mut().and_then(|extra| extra.handle.take());
                entry.tombstones += 1;
                self.tombstones += 1;
                let function = job.function;
                let left = job.bury();
                // One that is cancelled makes room at once; the engine drops its ticket when it meets it.
                let takes_room = !handle.is_some_and(|handle| handle.cancel()) && entry.is_limited;
                if takes_room || entry.is_crowded() {
                    self.purge(function);
                }
                Some(left)
            }
            State::Held => {
                entry.held -= 1;
                let job = self.jobs.remove(key);
                let jobs = &self.jobs;
                self.timers.forget_start(|job| jobs.get(job).is_some_and(|job| job.state == State::Held));
                job
            }
            State::Local => {
                self.locals -= 1;
                entry.has_run(job.since, self.clock);
                if let Some(local) = job.extra.as_ref().and_then(|extra| extra.local.as_ref()) {
                    local.cancel();
                }
                self.jobs.remove(key)
            }
            State::Buried => self.jobs.remove(key),
        }
    }

    /// A tombstone's ticket was met.
    pub(super) fn clear(&mut self, key: JobKey) {
        let Some(job) = self.jobs.remove(key) else { return };
        self.tombstones -= 1;
        if let Some(entry) = self.functions.get_mut(job.function) {
            entry.tombstones -= 1;
        }
    }

    /// Takes all tombstones out of a function's queue. What is left keeps its order; where the engine limits the queue it has
    /// handles from now on, so that each job makes room by itself.
    fn purge(&mut self, function: FunctionKey) {
        let entry = &self.functions[function];
        let Target::Remote(queue) = &entry.target else { return };
        let (queue, is_limited, wakeups) = (queue.clone(), entry.is_limited, entry.rules.wakeups);
        // What is paused cannot be pulled; nobody is to be woken for that.
        let is_paused = queue.is_paused();
        if is_paused {
            queue.set_wakeups(0);
            queue.resume();
        }
        let set = self.engine.consumer_set();
        set.add(&queue);
        let mut left = Vec::new();
        while let Some(pulled) = set.try_next() {
            let key = pulled.arg().job();
            if self.jobs[key].state == State::Queued {
                left.push(pulled);
                continue;
            }
            self.clear(key);
            let (ticket, completer) = pulled.take();
            ticket.spend();
            completer.complete(());
        }
        self.effort += left.len() / 8;
        if is_limited {
            self.enter_again(&queue, left);
        } else {
            // To the front, the last one first.
            left.into_iter().rev().for_each(crate::Pulled::put_back);
        }
        if is_paused {
            queue.pause();
            queue.set_wakeups(wakeups);
        }
        // What the engine has dropped is over now, not when there is time for it: else the next one would be one too many, too.
        let mut notices = Vec::new();
        self.notices.take(&mut notices);
        for notice in notices {
            match notice {
                Notice::Dropped(job) if self.jobs.get(job).is_none_or(|job| job.state == State::Buried) => {
                    self.clear(job)
                }
                notice => self.notices.push(notice),
            }
        }
    }

    /// Queues jobs that were taken out of a function with limits, each with a handle.
    fn enter_again(&mut self, queue: &crate::Function<Ticket, ()>, left: Vec<crate::Pulled<Ticket, ()>>) {
        for pulled in left {
            let (ticket, completer) = pulled.take();
            completer.complete(());
            let job = &mut self.jobs[ticket.job()];
            // Without a handle it is dropped, and tells.
            if let Ok(handle) = queue.job(ticket).priority(job.priority).beyond_limits().submit() {
                job.extra().handle = Some(handle);
            }
        }
    }

    /// A client does not listen to a job any more.
    pub(super) fn stop_listening(&mut self, key: JobKey, conn: ConnKey) {
        let Some(job) = self.jobs.get_mut(key) else { return };
        let before = job.bytes();
        if job.listeners.remove(conn)
            && let Some(conn) = self.conns.get_mut(conn)
        {
            conn.live -= 1;
        }
        self.bytes -= before - job.bytes();
        let is_waiting = matches!(job.state, State::Queued | State::Held | State::Local);
        if job.is_abandoned() && is_waiting && !self.functions[job.function].rules.runs_abandoned {
            self.end(key, End::Fail);
        }
    }

    // What happens by itself.

    /// Deals with what was noted. To be called before the table is let go of.
    pub(super) fn settle(&mut self) {
        let mut taken = std::mem::take(&mut self.taken);
        loop {
            self.notices.take(&mut taken);
            if taken.is_empty() {
                break;
            }
            for notice in taken.drain(..) {
                match notice {
                    Notice::Woken(conn) => self.wake(conn),
                    Notice::Dropped(job) => self.dropped(job),
                    Notice::Ended(job) => self.look_at_local(job),
                    Notice::Told(job, update) => self.pass_on(job, &update),
                }
            }
        }
        self.taken = taken;
        self.note_cut();
    }

    /// The engine has dropped a ticket: of a tombstone, or of a job that had to make room.
    fn dropped(&mut self, key: JobKey) {
        match self.jobs.get(key).map(|job| job.state) {
            Some(State::Buried) => self.clear(key),
            Some(State::Queued) => {
                self.functions[self.jobs[key].function].evicted += 1;
                // Its ticket is gone already: it leaves no tombstone.
                let job = &mut self.jobs[key];
                self.functions[job.function].queued[index(job.priority)] -= 1;
                job.state = State::Buried;
                self.end(key, End::Fail);
            }
            _ => {}
        }
    }

    /// Ends what has run too long, and starts what is due. When to look again.
    pub(super) fn tick(&mut self, now: Instant) -> Option<Instant> {
        let seconds = wall_seconds();
        self.set_clock(now);
        while let Some(due) = self.timers.next_due(now) {
            match due {
                Due::Over(run) => match self.runs.get(run).map(|run| (run.job, run.conn)) {
                    None => self.timers.was_stale(),
                    Some((job, conn)) => self.time_out(run, job, conn),
                },
                Due::Rewake(function) => self.rewake(function, now),
            }
        }
        while let Some(job) = self.timers.next_start(seconds) {
            match self.jobs.get(job).map(|job| job.state) {
                // In a server that ends it would only keep it from ending.
                Some(State::Held) if !self.is_draining => self.start_held(job),
                Some(State::Held) => {}
                _ => self.timers.was_stale_start(),
            }
        }
        self.settle();
        self.timers.next(now, seconds)
    }

    /// The time of a job has come. It was promised a place: no limit keeps it out.
    fn start_held(&mut self, key: JobKey) {
        self.functions[self.jobs[key].function].held -= 1;
        if self.enqueue(key, true).is_err() {
            // Its function is closed, or reads its payload differently now.
            self.jobs[key].state = State::Buried;
            self.end(key, End::Fail);
        }
    }

    fn time_out(&mut self, run: RunKey, job: JobKey, conn: ConnKey) {
        if let Some(worker) = self.conns.get_mut(conn).and_then(|conn| conn.worker.as_mut()) {
            worker.was_taken(job);
        }
        self.note_loss(run, true);
        // Its timer is over.
        if let Some(run) = self.runs.get_mut(run) {
            run.limit = None;
        }
        let entry = &mut self.functions[self.jobs[job].function];
        entry.timed_out += 1;
        match entry.rules.on_timeout {
            OnLoss::Fail => self.finish(run, End::Fail),
            OnLoss::Requeue => self.lose(run, OnLoss::Requeue),
        }
    }
}

/// Why a job was not accepted.
pub(super) enum Refused {
    Full,
    Closed,
    Payload(String),
}

/// What was pulled is over for the engine.
fn spend(run: Run) {
    let (ticket, completer) = run.pulled.take();
    ticket.spend();
    completer.complete(());
}

pub(super) fn index(priority: Priority) -> usize {
    match priority {
        Priority::High => 0,
        Priority::Normal => 1,
        Priority::Low => 2,
    }
}

/// A live job with a unique key.
pub(super) struct Known {
    hash: u32,
    pub(super) job: JobKey,
}

/// The hash that a table of `Known` wants.
fn spread(hash: u32) -> u64 {
    u64::from(hash) << 32 | u64::from(hash)
}

impl Table {
    /// The hash of a unique key, if it is one.
    pub(super) fn hash(&self, unique: Unique<'_>) -> Option<u32> {
        (unique != Unique::None).then(|| self.hashing.hash_one(unique) as u32)
    }

    /// The live job of a function with this unique key, of which this is the hash.
    pub(super) fn unique_job(&self, function: FunctionKey, unique: Unique<'_>, hash: Option<u32>) -> Option<JobKey> {
        let hash = hash?;
        let uniques = &self.functions[function].uniques;
        let is_it = |known: &Known| known.hash == hash && self.jobs[known.job].unique() == unique;
        uniques.find(spread(hash), is_it).map(|known| known.job)
    }

    /// Enters a job, which is in no queue yet; this is the hash of its unique key.
    pub(super) fn enter(&mut self, job: Job, hash: Option<u32>) -> JobKey {
        self.bytes += job.bytes();
        let function = job.function;
        let key = self.jobs.insert(job);
        if let Some(hash) = hash {
            self.keyed += 1;
            let known = Known { hash, job: key };
            self.functions[function].uniques.insert_unique(spread(hash), known, |known| spread(known.hash));
        }
        key
    }

    /// Takes a job back that was refused.
    pub(super) fn withdraw(&mut self, key: JobKey) {
        if let Some(mut job) = self.leave(key) {
            for listener in std::mem::take(&mut job.listeners).iter() {
                if let Some(conn) = self.conns.get_mut(listener.conn) {
                    conn.live -= 1;
                }
            }
        }
    }
}
