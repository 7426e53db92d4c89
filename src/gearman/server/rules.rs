//! What holds for the jobs of one function: the server's settings, and what a function has of its own.

use super::functions::Target;
use super::keys::FunctionKey;
use super::settings::{OnLoss, Settings};
use super::table::Table;
use super::{Builder, Server};
use crate::Overflow;
use crate::gearman::text::MaxQueue;
use std::sync::Arc;
use std::time::Duration;

/// What a function has of its own; the rest is the server's. See [`ServerBuilder::function`](Builder::function).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[must_use = "it is to be given to a server's builder"]
pub struct FunctionSettings {
    wakeups: Option<usize>,
    wakeup_delay: Option<Option<Duration>>,
    max_queue: Option<Option<usize>>,
    overflow: Option<Overflow>,
    job_retries: Option<Option<u32>>,
    run_timeout: Option<Option<Duration>>,
    on_worker_lost: Option<OnLoss>,
    on_timeout: Option<OnLoss>,
    runs_abandoned: Option<bool>,
    high_is_lifo: Option<bool>,
}

impl FunctionSettings {
    /// Nothing of its own.
    pub fn new() -> FunctionSettings {
        FunctionSettings::default()
    }

    /// How many sleeping workers are woken for a job: 0 none, `usize::MAX` all.
    pub fn wakeups(mut self, workers: usize) -> Self {
        self.wakeups = Some(workers);
        self
    }

    /// After which time as many more are woken while jobs are queued, and so on; `None`: none. Default: a second.
    pub fn wakeup_delay(mut self, more_after: impl Into<Option<Duration>>) -> Self {
        self.wakeup_delay = Some(more_after.into());
        self
    }

    /// Queued jobs at most; `None` is no limit.
    pub fn max_queue(mut self, jobs: impl Into<Option<usize>>) -> Self {
        self.max_queue = Some(jobs.into());
        self
    }

    /// What becomes of a submit to a full queue.
    pub fn overflow(mut self, overflow: Overflow) -> Self {
        self.overflow = Some(overflow);
        self
    }

    /// How often a job is handed out at most; `None` is no limit.
    pub fn job_retries(mut self, hand_outs: impl Into<Option<u32>>) -> Self {
        self.job_retries = Some(hand_outs.into());
        self
    }

    /// How long a job may be in a worker's hands, if its worker has not said less; `None` is no limit.
    pub fn run_timeout(mut self, limit: impl Into<Option<Duration>>) -> Self {
        self.run_timeout = Some(limit.into());
        self
    }

    /// What becomes of a job whose worker is gone.
    pub fn on_worker_lost(mut self, what: OnLoss) -> Self {
        self.on_worker_lost = Some(what);
        self
    }

    /// What becomes of a job that runs too long.
    pub fn on_timeout(mut self, what: OnLoss) -> Self {
        self.on_timeout = Some(what);
        self
    }

    /// Whether a queued job runs though all clients that waited for it are gone.
    pub fn run_abandoned(mut self, run: bool) -> Self {
        self.runs_abandoned = Some(run);
        self
    }

    /// Whether the newest job of high priority comes first, instead of the oldest.
    pub fn newest_high_first(mut self, newest_first: bool) -> Self {
        self.high_is_lifo = Some(newest_first);
        self
    }

    fn over(&self, rules: Rules) -> Rules {
        Rules {
            wakeups: self.wakeups.unwrap_or(rules.wakeups),
            wakeup_delay: self.wakeup_delay.unwrap_or(rules.wakeup_delay),
            max_queue: self.max_queue.map_or(rules.max_queue, MaxQueue::All),
            overflow: self.overflow.unwrap_or(rules.overflow),
            job_retries: self.job_retries.unwrap_or(rules.job_retries),
            run_timeout: self.run_timeout.unwrap_or(rules.run_timeout),
            on_loss: self.on_worker_lost.unwrap_or(rules.on_loss),
            on_timeout: self.on_timeout.unwrap_or(rules.on_timeout),
            runs_abandoned: self.runs_abandoned.unwrap_or(rules.runs_abandoned),
            high_is_lifo: self.high_is_lifo.unwrap_or(rules.high_is_lifo),
        }
        .tidy()
    }
}

/// What holds for the jobs of a function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rules {
    /// Sleeping workers that are woken for a job, and after which time as many more while it is not taken.
    pub(super) wakeups: usize,
    pub(super) wakeup_delay: Option<Duration>,
    pub(super) max_queue: MaxQueue,
    pub(super) overflow: Overflow,
    pub(super) job_retries: Option<u32>,
    pub(super) run_timeout: Option<Duration>,
    pub(super) on_loss: OnLoss,
    pub(super) on_timeout: OnLoss,
    pub(super) runs_abandoned: bool,
    /// The newest job of high priority comes first.
    pub(super) high_is_lifo: bool,
}

impl Default for Rules {
    fn default() -> Self {
        Rules {
            wakeups: 1,
            wakeup_delay: Some(Duration::from_secs(1)),
            max_queue: MaxQueue::All(None),
            overflow: Overflow::Reject,
            job_retries: None,
            run_timeout: None,
            on_loss: OnLoss::Requeue,
            on_timeout: OnLoss::Fail,
            runs_abandoned: false,
            high_is_lifo: false,
        }
    }
}

impl Rules {
    /// A network client is not kept waiting, and nothing is handed out no times.
    fn tidy(mut self) -> Rules {
        if self.overflow == Overflow::Block {
            self.overflow = Overflow::Reject;
        }
        self.job_retries = self.job_retries.filter(|n| *n > 0);
        self
    }
}

impl Settings {
    pub(super) fn rules_of(&self, function: &[u8]) -> Rules {
        let rules = self.rules.tidy();
        self.functions.get(function).map_or(rules, |own| own.over(rules))
    }
}

impl Builder {
    /// Gives the function of this name settings of its own, whoever registers it.
    pub fn function(mut self, name: impl AsRef<[u8]>, settings: FunctionSettings) -> Self {
        self.settings.functions.insert(name.as_ref().to_vec(), settings);
        self
    }

    /// The same for all functions that have none of their own.
    pub fn all_functions(mut self, settings: FunctionSettings) -> Self {
        self.settings.rules = settings.over(self.settings.rules);
        self
    }

    /// How long a job may be in a worker's hands, if its worker has not said less. Default: no limit.
    pub fn run_timeout(mut self, limit: impl Into<Option<Duration>>) -> Self {
        self.settings.rules.run_timeout = limit.into();
        self
    }

    /// Whether a queued job runs though all clients that waited for it are gone. Default: no, it is dropped.
    pub fn run_abandoned(mut self, run: bool) -> Self {
        self.settings.rules.runs_abandoned = run;
        self
    }
}

impl Server {
    /// Changes the settings of a running server to those of another builder. Jobs that are queued or running stay as they are;
    /// limits of queues that were set by the text command `maxqueue` stay while the settings' are the same as before.
    ///
    /// Addresses, threads, the name of the host, functions of this process and who hears of events are those of the start.
    pub fn reconfigure(&self, with: Builder) {
        self.hub.with(usize::MAX, |table| {
            let host = table.settings.host.clone();
            table.settings = Arc::new(Settings { host, ..with.settings });
            table.outbox.follow(&table.settings);
            let functions: Vec<FunctionKey> = table.functions.keys().collect();
            functions.into_iter().for_each(|function| table.apply_rules(function));
        });
    }
}

impl Table {
    /// Has a function follow the settings.
    fn apply_rules(&mut self, key: FunctionKey) {
        let entry = &mut self.functions[key];
        let rules = self.settings.rules_of(&entry.name);
        entry.is_kept |= self.settings.functions.contains_key(&*entry.name);
        let old = std::mem::replace(&mut entry.rules, rules);
        if let Target::Remote(function) = &entry.target
            && old.wakeups != rules.wakeups
        {
            function.set_wakeups(rules.wakeups);
        }
        if old.wakeup_delay != rules.wakeup_delay {
            // A timer that there is looks at the new setting when it is due.
            self.rewake_later(key);
        }
        let entry = &mut self.functions[key];
        if old.max_queue != rules.max_queue {
            self.set_max_queue(key, rules.max_queue);
        } else if old.overflow != rules.overflow {
            let most = entry.max_queue;
            self.set_max_queue(key, most);
        }
    }
}
