//! The functions of a server: who does their jobs, and how many there are.

use super::job::{Job, State};
use super::keys::{FunctionKey, JobKey};
use super::local::Local;
use super::notices::Ticket;
use super::rules::Rules;
use super::table::{Known, Table, index};
use super::times::{Ticks, Timings};
use crate::gearman::text::{self, MaxQueue};
use crate::{Engine, Function, Limits, Priority, RegisterError};
use hashbrown::HashTable;
use std::sync::Arc;

/// Bytes of a name at most: the engine's limit.
pub(super) const NAME_BYTES: usize = 512;
/// So many functions are forgotten at once when there are too many.
const RECLAIMED: usize = 1000;
/// What it costs to make or forget one, in about microseconds.
const MADE: usize = 4;
/// Names that a message lists at most.
const SHOWN: usize = 10;
/// Tombstones that a queue may have besides as many as it has jobs.
const TOMBSTONES: usize = 1024;

/// A function.
pub(super) struct Entry {
    pub(super) name: Arc<[u8]>,
    pub(super) target: Target,
    /// Jobs in the queue, by priority, without tombstones.
    pub(super) queued: [usize; 3],
    /// Jobs that wait for their time.
    pub(super) held: usize,
    /// Jobs in remote workers' hands.
    pub(super) running: usize,
    /// Tickets in the queue whose jobs are over.
    pub(super) tombstones: usize,
    /// Connections that can do it.
    pub(super) workers: usize,
    /// Live jobs by unique key.
    pub(super) uniques: HashTable<Known>,
    /// The engine limits its queue.
    pub(super) is_limited: bool,
    pub(super) max_queue: MaxQueue,
    /// It has settings of its own, or was asked for by an administrator: it stays.
    pub(super) is_kept: bool,
    /// There is a timer that looks whether more sleepers have to be woken.
    pub(super) has_rewake: bool,
    /// When jobs began to be queued, or more sleepers were woken for them.
    pub(super) waits_since: Ticks,
    pub(super) rules: Rules,
    pub(super) done: u64,
    pub(super) failed: u64,
    pub(super) requeued: u64,
    pub(super) timed_out: u64,
    pub(super) evicted: u64,
    pub(super) timings: Option<Box<Timings>>,
}

/// Who does its jobs.
pub(super) enum Target {
    /// Remote workers, who pull them.
    Remote(Function<Ticket, ()>),
    /// This process.
    Local(Box<dyn Local>),
}

/// Why there is no function of a name.
#[derive(Debug)]
pub(super) enum NoFunction {
    Empty,
    Nul,
    TooLong(usize),
    TooMany(usize),
    /// For the engine.
    Invalid(String),
    /// The engine has one of this name that is not served here.
    Taken,
    Closed,
}

impl NoFunction {
    pub(super) fn code(&self) -> &'static str {
        match self {
            NoFunction::Empty | NoFunction::Nul | NoFunction::TooLong(_) | NoFunction::Invalid(_) => "invalid_args",
            NoFunction::TooMany(_) | NoFunction::Taken | NoFunction::Closed => "server_error",
        }
    }

    pub(super) fn text(&self) -> String {
        match self {
            NoFunction::Empty => "the name of the function is empty".into(),
            NoFunction::Nul => "the name of the function has a NUL".into(),
            NoFunction::TooLong(bytes) => {
                format!("the name of the function has {bytes} bytes; {NAME_BYTES} are the most")
            }
            NoFunction::TooMany(most) => format!("there are {most} functions already; drop some that nobody needs"),
            NoFunction::Invalid(why) => format!("the name of the function cannot be used: {why}"),
            NoFunction::Taken => "the name belongs to a function of the server's process that is not served".into(),
            NoFunction::Closed => "the server is shutting down".into(),
        }
    }
}

impl From<RegisterError> for NoFunction {
    fn from(why: RegisterError) -> NoFunction {
        match why {
            RegisterError::NameTaken(_) => NoFunction::Taken,
            RegisterError::InvalidName(why) => NoFunction::Invalid(why),
            RegisterError::Closed => NoFunction::Closed,
            RegisterError::TooMany(most) => NoFunction::TooMany(most),
        }
    }
}

impl Entry {
    pub(super) fn new(name: Arc<[u8]>, target: Target, rules: Rules) -> Entry {
        Entry {
            name,
            target,
            queued: [0; 3],
            held: 0,
            running: 0,
            tombstones: 0,
            workers: 0,
            uniques: HashTable::new(),
            is_limited: false,
            max_queue: rules.max_queue,
            is_kept: false,
            has_rewake: false,
            waits_since: Ticks::NONE,
            rules,
            done: 0,
            failed: 0,
            requeued: 0,
            timed_out: 0,
            evicted: 0,
            timings: None,
        }
    }

    /// Queued jobs of each priority, and running ones.
    pub(super) fn counts(&self) -> ([usize; 3], usize) {
        match &self.target {
            Target::Remote(_) => (self.queued, self.running),
            Target::Local(local) => local.counts(),
        }
    }

    /// Jobs of any kind.
    pub(super) fn total(&self) -> usize {
        let (queued, running) = self.counts();
        queued.into_iter().sum::<usize>() + running + self.held
    }

    /// Nobody would miss it.
    fn is_idle(&self) -> bool {
        matches!(self.target, Target::Remote(_)) && !self.is_kept && self.workers == 0 && self.total() == 0
    }

    pub(super) fn has_queued(&self) -> bool {
        self.queued != [0; 3]
    }

    /// A job has come into the queue.
    pub(super) fn add_queued(&mut self, priority: Priority, now: Ticks) {
        if !self.has_queued() {
            self.waits_since = now;
        }
        self.queued[index(priority)] += 1;
    }

    /// More tombstones than jobs.
    pub(super) fn is_crowded(&self) -> bool {
        self.tombstones > TOMBSTONES + self.queued.iter().sum::<usize>()
    }
}

/// Removes a function from the engine: the jobs whose tickets were in its queue.
fn remove_from(engine: &Engine, function: &Function<Ticket, ()>) -> Vec<JobKey> {
    let set = engine.consumer_set();
    set.add(function);
    let mut jobs = Vec::new();
    while let Some(pulled) = set.try_next() {
        let (ticket, completer) = pulled.take();
        jobs.push(ticket.spend());
        completer.complete(());
    }
    // What is paused stays in the queue: the engine drops it, and each ticket tells.
    engine.remove(function.name());
    jobs
}

/// The engine's name of a function: the same, if that is text without a backslash. No two are alike; `number` is used once, for
/// one that is too long when it is escaped.
fn engine_name(name: &[u8], number: usize) -> String {
    match std::str::from_utf8(name) {
        Ok(text) if !text.contains('\\') => text.to_owned(),
        _ => {
            let is_text = |byte: &u8| byte.is_ascii() && *byte != b'\\';
            let shown = |byte: u8| if is_text(&byte) { (byte as char).to_string() } else { format!("\\x{byte:02x}") };
            let mut escaped: String = name.iter().map(|byte| shown(*byte)).collect();
            if escaped.len() > NAME_BYTES {
                escaped.truncate(NAME_BYTES - 32);
                escaped.push_str(&format!("\\#{number}"));
            }
            escaped
        }
    }
}

impl Table {
    /// The function of this name, which is made if there is none.
    pub(super) fn function(&mut self, name: &[u8]) -> Result<FunctionKey, NoFunction> {
        if let Some(known) = self.names.get(name) {
            return Ok(*known);
        }
        if self.has_left {
            return Err(NoFunction::Closed);
        }
        if name.is_empty() {
            return Err(NoFunction::Empty);
        }
        if name.contains(&0) {
            return Err(NoFunction::Nul);
        }
        if name.len() > NAME_BYTES {
            return Err(NoFunction::TooLong(name.len()));
        }
        let most = self.settings.most_functions;
        if self.functions.len() >= most && !self.reclaim() {
            return Err(NoFunction::TooMany(most));
        }
        self.functions_made += 1;
        self.effort += MADE;
        let function = self.engine.consumer::<Ticket, ()>(&engine_name(name, self.functions_made))?;
        let rules = self.settings.rules_of(name);
        function.set_wakeups(rules.wakeups);
        let is_kept = self.settings.functions.contains_key(name);
        Ok(self.add_function(Entry { is_kept, ..Entry::new(name.into(), Target::Remote(function), rules) }))
    }

    /// Forgets some functions that nobody would miss: whether there were any.
    #[cold]
    fn reclaim(&mut self) -> bool {
        let idle = self.functions.iter().filter(|(_, entry)| entry.is_idle()).map(|(key, _)| key);
        let idle: Vec<FunctionKey> = idle.take(RECLAIMED).collect();
        self.effort += self.functions.len() / 8 + idle.len() * MADE;
        idle.iter().for_each(|key| self.forget_function(*key));
        !idle.is_empty()
    }

    pub(super) fn add_function(&mut self, entry: Entry) -> FunctionKey {
        let name = Arc::clone(&entry.name);
        let has_limit = entry.max_queue != MaxQueue::All(None);
        let max_queue = entry.max_queue;
        let key = self.functions.insert(entry);
        self.names.insert(name, key);
        if has_limit {
            self.set_max_queue(key, max_queue);
        }
        key
    }

    /// Limits a function's queue.
    pub(super) fn set_max_queue(&mut self, key: FunctionKey, most: MaxQueue) {
        let mut limits = Limits::new().overflow(self.functions[key].rules.overflow);
        match most {
            MaxQueue::All(Some(most)) => limits = limits.capacity(most),
            MaxQueue::All(None) => {}
            MaxQueue::Each(each) => {
                for (priority, most) in [Priority::High, Priority::Normal, Priority::Low].into_iter().zip(each) {
                    if let Some(most) = most {
                        limits = limits.capacity_of(priority, most);
                    }
                }
            }
        }
        let entry = &mut self.functions[key];
        entry.max_queue = most;
        match &entry.target {
            Target::Remote(function) => {
                entry.is_limited = most != MaxQueue::All(None);
                function.set_limits(limits);
            }
            Target::Local(local) => local.set_limits(limits),
        }
    }

    /// Forgets a function, with its jobs.
    pub(super) fn drop_function(&mut self, key: FunctionKey) {
        self.effort += self.jobs.places() / 8;
        let is_live = |job: &Job| job.function == key && job.state != State::Buried;
        let jobs: Vec<JobKey> = self.jobs.iter().filter(|(_, job)| is_live(job)).map(|(job, _)| job).collect();
        for job in &jobs {
            self.end(*job, super::table::End::Fail);
        }
        self.forget_function(key);
    }

    /// Forgets a function without jobs.
    fn forget_function(&mut self, key: FunctionKey) {
        let Some(entry) = self.functions.get(key) else { return };
        // With what is left of its jobs' tickets.
        if let Target::Remote(function) = &entry.target {
            for job in remove_from(&self.engine, function) {
                self.clear(job);
            }
        }
        if let Some(entry) = self.functions.remove(key) {
            self.names.remove(&entry.name);
        }
    }

    /// Takes the functions out of the engine, where another server may want them. What was queued stays in the table, for
    /// whoever asks what was left.
    pub(super) fn leave_engine(&mut self) {
        if std::mem::replace(&mut self.has_left, true) {
            // What has these names by now is somebody else's.
            return;
        }
        for entry in self.functions.values() {
            if let Target::Remote(function) = &entry.target {
                remove_from(&self.engine, function);
            }
        }
        // What the engine dropped is lost with the rest.
        self.notices.take(&mut Vec::new());
    }

    /// All functions, by name.
    pub(super) fn functions_by_name(&self) -> Vec<FunctionKey> {
        let mut keys: Vec<FunctionKey> = self.functions.keys().collect();
        keys.sort_by(|a, b| self.functions[*a].name.cmp(&self.functions[*b].name));
        keys
    }

    /// Why a function's jobs do not run, in words.
    pub(super) fn explain_function(&self, key: FunctionKey) -> String {
        let entry = &self.functions[key];
        let shown = String::from_utf8_lossy(&text::escape(&entry.name)).into_owned();
        let (queued, running) = entry.counts();
        let queued: usize = queued.into_iter().sum();
        let mut lines = vec![format!(
            "{shown}: {queued} queued, {running} running, {} held until their time, {} workers can do it",
            entry.held, entry.workers
        )];
        match &entry.target {
            Target::Remote(function) => {
                if entry.workers == 0 {
                    lines.push(format!("no worker has registered \"{shown}\"{}", self.registered()));
                } else {
                    lines.extend(function.explain().to_string().lines().map(str::to_owned));
                }
            }
            Target::Local(local) => lines.extend(local.explain().to_string().lines().map(str::to_owned)),
        }
        lines.join("\n")
    }

    /// Functions that workers can do, for messages.
    pub(super) fn registered(&self) -> String {
        let done =
            self.functions.values().filter(|entry| entry.workers > 0 || matches!(entry.target, Target::Local(_)));
        let (mut first, mut count): (Vec<&[u8]>, usize) = (Vec::new(), 0);
        for entry in done {
            count += 1;
            let at = first.partition_point(|name| **name < *entry.name);
            if at < SHOWN {
                first.insert(at, &entry.name);
                first.truncate(SHOWN);
            }
        }
        let names: Vec<String> =
            first.iter().map(|name| String::from_utf8_lossy(&text::escape(name)).into_owned()).collect();
        let more = count - names.len();
        match (names.is_empty(), more) {
            (true, _) => "; none has registered anything".to_owned(),
            (false, 0) => format!("; registered: {}", names.join(", ")),
            (false, more) => format!("; registered: {}, and {more} more", names.join(", ")),
        }
    }

    /// A function of the engine that is served by this process.
    pub(super) fn serve(&mut self, name: &str, local: Box<dyn Local>) -> Result<(), RegisterError> {
        if self.names.contains_key(name.as_bytes()) {
            return Err(RegisterError::NameTaken(name.to_owned()));
        }
        let rules = self.settings.rules_of(name.as_bytes());
        self.add_function(Entry::new(name.as_bytes().into(), Target::Local(local), rules));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is wrong is said as it is, and not as something else.
    #[test]
    fn why_the_engine_has_no_function() {
        let why = |error: RegisterError| {
            let why = NoFunction::from(error);
            (why.code(), why.text())
        };
        let (code, text) = why(RegisterError::TooMany(7));
        assert!(code == "server_error" && text.contains("7 functions already"), "{text}");
        let (code, text) = why(RegisterError::InvalidName("it is odd".into()));
        assert!(code == "invalid_args" && text.contains("it is odd"), "{text}");
        assert!(matches!(NoFunction::from(RegisterError::Closed), NoFunction::Closed));
        assert!(matches!(NoFunction::from(RegisterError::NameTaken("f".into())), NoFunction::Taken));
    }
}
