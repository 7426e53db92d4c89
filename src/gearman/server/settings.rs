//! What can be set of a server, and the defaults of the two ancestors.

use super::Builder;
use super::rules::{FunctionSettings, Rules};
use crate::Overflow;
use crate::gearman::network::Network;
use crate::gearman::packet::Limits;
use std::collections::HashMap;
use std::time::Duration;

/// What becomes of a job whose worker is gone, or whose time is up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum OnLoss {
    /// It is queued again, before all others of its priority, for the next worker.
    Requeue,
    /// It fails.
    Fail,
}

/// The defaults of an older server, where they differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Compat {
    /// C gearmand: jobs whose time is up are queued again; all sleeping workers are woken for a job.
    Gearmand,
    /// Perl's Gearman::Server: jobs whose worker is gone fail; timeouts are in seconds; a full queue drops its newest job;
    /// three sleeping workers are woken for a job; WORK_FAIL follows WORK_EXCEPTION.
    Perl,
}

/// All settings.
#[derive(Debug, Clone)]
pub(super) struct Settings {
    pub(super) host: String,
    pub(super) packets: Limits,
    /// Of functions that have none of their own.
    pub(super) rules: Rules,
    pub(super) functions: HashMap<Vec<u8>, FunctionSettings>,
    /// What a number in CAN_DO_TIMEOUT stands for, and what is the least.
    pub(super) timeout_unit: Duration,
    pub(super) least_timeout: Duration,
    /// Workers that did something since they slept last are woken before others.
    pub(super) hot_first: bool,
    pub(super) fails_after_exception: bool,
    pub(super) most_functions: usize,
    pub(super) most_abilities: usize,
    pub(super) unique_bytes: usize,
    /// Of all jobs together.
    pub(super) job_bytes: usize,
    pub(super) allow_shutdown: bool,
    pub(super) perl_errors: bool,
    /// Where peers may come from; empty: from anywhere.
    pub(super) allowed: Vec<Network>,
    pub(super) connections: usize,
    pub(super) connections_of_peer: usize,
    /// Until a connection has sent anything.
    pub(super) silence: Option<Duration>,
    /// Until a message that has begun is complete, or has grown by 64 KiB.
    pub(super) message_deadline: Duration,
    /// Without anything sent though there is something to send.
    pub(super) write_stall: Duration,
    /// Bytes that wait for a connection to read them.
    pub(super) output_bytes: usize,
    /// The same for all of them.
    pub(super) all_output_bytes: usize,
    pub(super) accept_batch: usize,
    /// How long a thread looks for events before it blocks, at most.
    pub(super) busy_poll: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            host: host_name(),
            packets: Limits::default(),
            rules: Rules::default(),
            functions: HashMap::new(),
            timeout_unit: Duration::from_millis(1),
            least_timeout: Duration::ZERO,
            hot_first: true,
            fails_after_exception: false,
            most_functions: 100_000,
            most_abilities: 10_000,
            unique_bytes: 1024,
            job_bytes: 4 << 30,
            allow_shutdown: false,
            perl_errors: false,
            allowed: Vec::new(),
            connections: 100_000,
            connections_of_peer: usize::MAX,
            silence: Some(Duration::from_secs(60)),
            message_deadline: Duration::from_secs(60),
            write_stall: Duration::from_secs(60),
            output_bytes: 256 << 20,
            all_output_bytes: 1 << 30,
            accept_batch: 64,
            busy_poll: Duration::from_micros(100),
        }
    }
}

impl Settings {
    pub(super) fn make_compatible(&mut self, with: Compat) {
        match with {
            Compat::Gearmand => {
                self.rules.on_timeout = OnLoss::Requeue;
                self.least_timeout = Duration::from_secs(1);
                self.rules.wakeups = usize::MAX;
            }
            Compat::Perl => {
                self.rules.on_loss = OnLoss::Fail;
                self.timeout_unit = Duration::from_secs(1);
                self.rules.overflow = Overflow::EvictNewest;
                self.fails_after_exception = true;
                self.rules.high_is_lifo = true;
                self.perl_errors = true;
                self.rules.wakeups = 3;
                self.rules.wakeup_delay = Some(Duration::from_millis(100));
            }
        }
    }
}

impl Builder {
    /// Functions at most. Where there are more, those go that have no jobs, no workers, and no settings of their own. Default:
    /// 100,000.
    pub fn most_functions(mut self, most: usize) -> Self {
        self.settings.most_functions = most;
        self
    }

    /// Functions that one connection can do at most. Default: 10,000.
    pub fn most_abilities(mut self, most: usize) -> Self {
        self.settings.most_abilities = most;
        self
    }

    /// Bytes of a unique key at most; no more than 65,535. Default: 1 KiB.
    pub fn unique_bytes(mut self, bytes: usize) -> Self {
        self.settings.unique_bytes = bytes.min(u16::MAX.into());
        self
    }

    /// Bytes of a text command at most; no more than 64 KiB. Default: 8 KiB.
    pub fn line_bytes(mut self, bytes: usize) -> Self {
        self.settings.packets.line = bytes.min(64 << 10);
        self
    }
}

/// The machine's name.
fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    name.trim().to_owned()
}
