//! What `serve` is asked.

use crate::builtin::Builtin;
use crate::serve::units::{Allowed, Count, Limit, Mode, Place, Size, Time};
use serde::Deserialize;
use std::path::PathBuf;

/// Serve the Gearman protocol: clients submit jobs, workers grab them
///
/// Clients and workers of any Gearman library can use it unchanged. It listens on 127.0.0.1:4730 unless it is told otherwise.
///
/// Most options can also be set in a file (--config), there named as here with underscores, in the section [server] or, for those
/// under "Jobs", [function."*"] and, of one function, [function."NAME"]; and by the environment: LAYSHAFT_SERVE_MAX_QUEUE for
/// --max-queue. A flag goes before the environment, that before the file. Options of gearmand and of Perl's gearmand are
/// understood; where the two mean different things by one name, it is said.
#[derive(Debug, Clone, clap::Args)]
#[command(
    version,
    disable_version_flag = true,
    after_help = "Signals: TERM and INT end the server when jobs in hand have ended, or after --drain; a second one at once. USR1 ends it \
when jobs in hand have ended, however long that takes. HUP opens the log file again and reads --config again; what is wrong changes nothing.

Exit codes: 0 ended as asked, 1 jobs in hand had no time to end, 2 usage, configuration, or an address in use, 128 and more: a second signal"
)]
pub(crate) struct Serve {
    /// Take settings from a TOML file
    #[arg(long, value_name = "FILE", env = "LAYSHAFT_SERVE_CONFIG", hide_env = true)]
    pub(crate) config: Option<PathBuf>,

    /// Go to the background when the server listens; what fails before is told here. Without --log-file there is no log then
    #[arg(long, short, visible_alias = "daemon", help_heading = "Process")]
    pub(crate) daemonize: bool,

    /// Send USR1 to a process when the server listens
    #[arg(long, short, value_name = "PID", visible_alias = "notifypid", help_heading = "Process")]
    pub(crate) notify_pid: Option<i32>,

    /// Become this user, by name or number, before anything else: root only, and ports below 1024 cannot be listened on then
    #[arg(long, short, value_name = "USER", help_heading = "Process")]
    pub(crate) user: Option<String>,

    /// Wake N sleeping workers for a job, as gearmand counts: 0 is all. The same as --wakeup, where 0 is none
    #[arg(long, short, value_name = "N", conflicts_with = "wakeup", help_heading = "Jobs")]
    pub(crate) worker_wakeup: Option<usize>,

    /// A worker's functions take turns, as gearmand's -R: always so, the option changes nothing
    #[arg(long, short = 'R', help_heading = "Jobs")]
    pub(crate) round_robin: bool,

    /// Print the version
    #[arg(long, short = 'V', action = clap::ArgAction::Version)]
    version: Option<bool>,

    /// Started by --daemonize: standard output is to be told when the server listens.
    #[arg(long, hide = true)]
    pub(crate) is_daemon: bool,

    #[command(flatten)]
    pub(crate) server: ServerOptions,

    #[command(flatten)]
    pub(crate) jobs: JobOptions,
}

/// Settings of the server: the section `[server]`.
#[derive(Debug, Clone, Default, clap::Args, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ServerOptions {
    /// Listen on HOST, HOST:PORT, [V6]:PORT or the path of a Unix socket; may be repeated [default: 127.0.0.1, or the sockets of
    /// a service manager]
    #[arg(long, short = 'L', value_name = "ADDRESS", value_delimiter = ',')]
    #[arg(env = "LAYSHAFT_SERVE_LISTEN", hide_env = true, help_heading = "Addresses")]
    pub(crate) listen: Option<Vec<Place>>,

    /// Listen on an address on which text commands that change something are taken from everybody; may be repeated. Elsewhere they
    /// are taken on addresses of this machine itself
    #[arg(long, value_name = "ADDRESS", value_delimiter = ',')]
    #[arg(env = "LAYSHAFT_SERVE_ADMIN_LISTEN", hide_env = true, help_heading = "Addresses")]
    pub(crate) admin_listen: Option<Vec<Place>>,

    /// Listen on an address on which only TLS is spoken; may be repeated. Needs --tls-cert and --tls-key
    #[arg(long, value_name = "ADDRESS", value_delimiter = ',')]
    #[arg(env = "LAYSHAFT_SERVE_TLS_LISTEN", hide_env = true, help_heading = "Addresses")]
    pub(crate) tls_listen: Option<Vec<Place>>,

    /// The server's certificate, and those between it and the authority's, in PEM. HUP reads these files again
    #[arg(long, value_name = "FILE", env = "LAYSHAFT_SERVE_TLS_CERT", hide_env = true, help_heading = "Addresses")]
    pub(crate) tls_cert: Option<PathBuf>,

    /// The key of that certificate, in PEM
    #[arg(long, value_name = "FILE", env = "LAYSHAFT_SERVE_TLS_KEY", hide_env = true, help_heading = "Addresses")]
    pub(crate) tls_key: Option<PathBuf>,

    /// Take TLS connections only from peers with a certificate of an authority in FILE
    #[arg(long, value_name = "FILE", env = "LAYSHAFT_SERVE_TLS_CLIENT_CA", hide_env = true)]
    #[arg(help_heading = "Addresses")]
    pub(crate) tls_client_ca: Option<PathBuf>,

    /// Take connections from these networks only, such as 10.0.0.0/8 or 127.0.0.1; may be repeated
    #[arg(long, value_name = "CIDR", value_delimiter = ',', env = "LAYSHAFT_SERVE_ALLOW", hide_env = true)]
    #[arg(help_heading = "Addresses")]
    pub(crate) allow: Option<Vec<Allowed>>,

    /// The port of addresses that have none [default: 4730]
    #[arg(long, short, value_name = "PORT", env = "LAYSHAFT_SERVE_PORT", hide_env = true, help_heading = "Addresses")]
    pub(crate) port: Option<u16>,

    /// Listen on other addresses than those of this machine itself, for anyone who reaches them
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    #[arg(env = "LAYSHAFT_SERVE_INSECURE", hide_env = true, help_heading = "Addresses")]
    pub(crate) insecure: Option<bool>,

    /// The mode of the files of Unix sockets: who may connect to them [default: 0660]
    #[arg(long, value_name = "MODE", env = "LAYSHAFT_SERVE_UNIX_MODE", hide_env = true, help_heading = "Addresses")]
    pub(crate) unix_mode: Option<Mode>,

    /// Connections that may wait to be accepted [default: 1024]
    #[arg(long, short, value_name = "N", env = "LAYSHAFT_SERVE_BACKLOG", hide_env = true, help_heading = "Addresses")]
    pub(crate) backlog: Option<u32>,

    /// Connections that are accepted before other peers have their turn [default: 64]
    #[arg(long, visible_alias = "accept-batch", value_name = "N")]
    #[arg(env = "LAYSHAFT_SERVE_ACCEPT", hide_env = true, help_heading = "Addresses")]
    #[serde(alias = "accept_batch")]
    pub(crate) accept: Option<usize>,

    /// Tell metrics at http://ADDRESS/metrics, as Prometheus reads them
    #[arg(long, value_name = "ADDRESS", env = "LAYSHAFT_SERVE_METRICS", hide_env = true, help_heading = "Addresses")]
    pub(crate) metrics: Option<Place>,

    /// Functions that the server does itself, as `map` does; may be repeated
    #[arg(long, value_enum, value_name = "FUNCTION", value_delimiter = ',')]
    #[arg(env = "LAYSHAFT_SERVE_FUNCTION", hide_env = true)]
    #[serde(alias = "functions")]
    pub(crate) function: Option<Vec<Builtin>>,

    /// Which sleeping workers are woken first [default: busy]
    #[arg(long, value_enum, env = "LAYSHAFT_SERVE_WAKE_ORDER", hide_env = true)]
    pub(crate) wake_order: Option<WakeOrder>,

    /// Defaults of an older server where they differ
    #[arg(long, value_enum, env = "LAYSHAFT_SERVE_COMPAT", hide_env = true)]
    pub(crate) compat: Option<Compat>,

    /// Threads for sockets [default: 1]
    #[arg(long, short, value_name = "N", env = "LAYSHAFT_SERVE_THREADS", hide_env = true)]
    pub(crate) threads: Option<u16>,

    /// How long a thread looks for something to do before it blocks, while that pays; 0 for never [default: 100us]
    #[arg(long, value_name = "TIME", env = "LAYSHAFT_SERVE_BUSY_POLL", hide_env = true)]
    pub(crate) busy_poll: Option<Time>,

    /// The host in the names of jobs [default: the machine's name]
    #[arg(long, value_name = "NAME", env = "LAYSHAFT_SERVE_HANDLE_HOST", hide_env = true)]
    pub(crate) handle_host: Option<String>,

    /// Let the text command `shutdown` end the server
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    #[arg(env = "LAYSHAFT_SERVE_ALLOW_SHUTDOWN", hide_env = true)]
    pub(crate) allow_shutdown: Option<bool>,

    /// How long jobs in hand have at the end [default: 30s]
    #[arg(long, value_name = "TIME", env = "LAYSHAFT_SERVE_DRAIN", hide_env = true, help_heading = "Limits")]
    pub(crate) drain: Option<Time>,

    /// Bytes of a packet at most [default: 64MiB]
    #[arg(long, value_name = "SIZE", env = "LAYSHAFT_SERVE_MAX_PACKET", hide_env = true, help_heading = "Limits")]
    pub(crate) max_packet: Option<Size>,

    /// Bytes of all jobs together at most [default: 4GiB]
    #[arg(long, value_name = "SIZE", env = "LAYSHAFT_SERVE_MAX_JOB_BYTES", hide_env = true, help_heading = "Limits")]
    pub(crate) max_job_bytes: Option<Size>,

    /// Bytes that may wait for a connection to read them, besides one packet: one that is to be sent more is cut off
    /// [default: 256MiB]
    #[arg(long, value_name = "SIZE", env = "LAYSHAFT_SERVE_MAX_OUTPUT", hide_env = true, help_heading = "Limits")]
    pub(crate) max_output: Option<Size>,

    /// The same for all connections together: those are cut off that have read nothing for the longest time [default: 1GiB]
    #[arg(
        long,
        value_name = "SIZE",
        env = "LAYSHAFT_SERVE_MAX_TOTAL_OUTPUT",
        hide_env = true,
        help_heading = "Limits"
    )]
    pub(crate) max_total_output: Option<Size>,

    /// Bytes of a unique key at most; no more than 65535 [default: 1KiB]
    #[arg(long, value_name = "SIZE", env = "LAYSHAFT_SERVE_MAX_UNIQUE", hide_env = true, help_heading = "Limits")]
    pub(crate) max_unique: Option<Size>,

    /// Bytes of a text command at most; no more than 64KiB [default: 8KiB]
    #[arg(long, value_name = "SIZE", env = "LAYSHAFT_SERVE_MAX_LINE", hide_env = true, help_heading = "Limits")]
    pub(crate) max_line: Option<Size>,

    /// Functions at most; where there are more, those go that have no jobs, no workers, and no settings of their own
    /// [default: 100000]
    #[arg(long, value_name = "N", env = "LAYSHAFT_SERVE_MAX_FUNCTIONS", hide_env = true, help_heading = "Limits")]
    pub(crate) max_functions: Option<usize>,

    /// Functions that one connection can do at most [default: 10000]
    #[arg(long, value_name = "N", env = "LAYSHAFT_SERVE_MAX_ABILITIES", hide_env = true, help_heading = "Limits")]
    pub(crate) max_abilities: Option<usize>,

    /// Connections at most [default: 100000]
    #[arg(long, value_name = "N", env = "LAYSHAFT_SERVE_MAX_CONNECTIONS", hide_env = true, help_heading = "Limits")]
    pub(crate) max_connections: Option<usize>,

    /// Connections from one address at most [default: no limit]
    #[arg(long, value_name = "N", env = "LAYSHAFT_SERVE_MAX_CONNECTIONS_PER_PEER", hide_env = true)]
    #[arg(help_heading = "Limits")]
    pub(crate) max_connections_per_peer: Option<usize>,

    /// How long a connection may say nothing after it has come, or `off` [default: 60s]
    #[arg(long, value_name = "TIME", env = "LAYSHAFT_SERVE_SILENCE", hide_env = true, help_heading = "Limits")]
    #[arg(allow_negative_numbers = true)]
    pub(crate) silence: Option<Limit>,

    /// How long a message may take from its first byte to its last, or to grow by 64 KiB [default: 60s]
    #[arg(
        long,
        value_name = "TIME",
        env = "LAYSHAFT_SERVE_MESSAGE_DEADLINE",
        hide_env = true,
        help_heading = "Limits"
    )]
    pub(crate) message_deadline: Option<Time>,

    /// How long a peer may read nothing of what there is for it [default: 60s]
    #[arg(long, value_name = "TIME", env = "LAYSHAFT_SERVE_WRITE_STALL", hide_env = true, help_heading = "Limits")]
    pub(crate) write_stall: Option<Time>,

    /// Files that may be open at once, connections among them [default: as it is]
    #[arg(long, short, value_name = "N", env = "LAYSHAFT_SERVE_FILE_DESCRIPTORS", hide_env = true)]
    #[arg(help_heading = "Limits")]
    pub(crate) file_descriptors: Option<u64>,

    /// Write the process id to a file, which is locked, and removed at the end
    #[arg(long, short = 'P', value_name = "FILE", visible_alias = "pid-file", env = "LAYSHAFT_SERVE_PIDFILE")]
    #[arg(hide_env = true, help_heading = "Process")]
    pub(crate) pidfile: Option<PathBuf>,

    /// Write the log to the end of a file [default: standard error]
    #[arg(long, short, value_name = "FILE", env = "LAYSHAFT_SERVE_LOG_FILE", hide_env = true, help_heading = "Log")]
    pub(crate) log_file: Option<PathBuf>,

    /// What is logged; `debug` tells of each connection. Also as gearmand's levels: --verbose NOTICE [default: info]
    #[arg(long, value_enum, value_name = "LEVEL", visible_alias = "verbose", ignore_case = true)]
    #[arg(env = "LAYSHAFT_SERVE_LOG_LEVEL", hide_env = true, help_heading = "Log")]
    pub(crate) log_level: Option<Level>,

    /// How a line is written [default: text]
    #[arg(long, value_enum, env = "LAYSHAFT_SERVE_LOG_FORMAT", hide_env = true, help_heading = "Log")]
    pub(crate) log_format: Option<LogFormat>,
}

/// Settings of functions: the sections `[function."NAME"]`.
#[derive(Debug, Clone, Default, clap::Args, Deserialize)]
#[command(next_help_heading = "Jobs")]
#[serde(deny_unknown_fields)]
pub(crate) struct JobOptions {
    /// Wake N sleeping workers for a job: 0 none, `all` or -1 all [default: 1]
    #[arg(long, value_name = "N", allow_hyphen_values = true, env = "LAYSHAFT_SERVE_WAKEUP", hide_env = true)]
    pub(crate) wakeup: Option<Count>,

    /// Wake as many more after TIME, while the job is queued; `never` or -1: none [default: 1s]
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, env = "LAYSHAFT_SERVE_WAKEUP_DELAY", hide_env = true)]
    pub(crate) wakeup_delay: Option<Limit>,

    /// Queued jobs of each function at most; 0 is no limit [default: 0]
    #[arg(long, value_name = "N", env = "LAYSHAFT_SERVE_MAX_QUEUE", hide_env = true)]
    pub(crate) max_queue: Option<usize>,

    /// What becomes of a submit to a full queue [default: reject]
    #[arg(long, value_enum, env = "LAYSHAFT_SERVE_OVERFLOW", hide_env = true)]
    pub(crate) overflow: Option<Overflow>,

    /// How often a job is handed out at most before it fails; 0 is no limit [default: 0]
    #[arg(long, short = 'j', visible_alias = "max-attempts", value_name = "N")]
    #[arg(env = "LAYSHAFT_SERVE_JOB_RETRIES", hide_env = true)]
    #[serde(alias = "max_attempts")]
    pub(crate) job_retries: Option<u32>,

    /// How long a worker may have a job, if it has not said less itself [default: off]
    #[arg(long, value_name = "TIME", env = "LAYSHAFT_SERVE_RUN_TIMEOUT", hide_env = true)]
    pub(crate) run_timeout: Option<Limit>,

    /// What becomes of a job that a worker had for too long [default: fail]
    #[arg(long, value_enum, env = "LAYSHAFT_SERVE_ON_TIMEOUT", hide_env = true)]
    pub(crate) on_timeout: Option<Loss>,

    /// What becomes of a job whose worker is gone [default: requeue]
    #[arg(long, value_enum, env = "LAYSHAFT_SERVE_ON_WORKER_LOST", hide_env = true)]
    pub(crate) on_worker_lost: Option<Loss>,

    /// Which job of high priority comes first: the oldest, or the newest [default: fifo]
    #[arg(long, value_enum, env = "LAYSHAFT_SERVE_HIGH_ORDER", hide_env = true)]
    pub(crate) high_order: Option<HighOrder>,

    /// What becomes of a queued job when all clients that waited for it are gone [default: drop]
    #[arg(long, value_enum, env = "LAYSHAFT_SERVE_ON_ABANDON", hide_env = true)]
    pub(crate) on_abandon: Option<Abandon>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Compat {
    /// C gearmand
    Gearmand,
    /// Perl's Gearman::Server
    Perl,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum WakeOrder {
    /// Those that did something since they slept last
    Busy,
    /// Those that sleep longest
    First,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Overflow {
    /// It is refused
    Reject,
    /// It takes the place of the newest job of the lowest priority
    EvictNewest,
    /// It takes the place of the oldest job of the lowest priority
    EvictOldest,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Loss {
    /// It is queued again, before others
    Requeue,
    /// It fails
    Fail,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum HighOrder {
    /// The oldest
    Fifo,
    /// The newest
    Lifo,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Abandon {
    /// It fails
    Drop,
    /// It runs
    Run,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Level {
    /// What keeps the server from serving
    #[value(aliases = ["fatal", "emerg", "alert", "critical", "crit"])]
    Error,
    /// What is lost or turned away
    #[value(alias = "warning")]
    Warn,
    /// The server's own life, and errors that peers are told
    #[value(alias = "notice")]
    Info,
    /// Each connection
    Debug,
    /// Each connection's end, too
    Trace,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum LogFormat {
    /// A line for people
    Text,
    /// An object a line
    Json,
}

macro_rules! over {
    ($type:ident: $($field:ident)*) => {
        impl $type {
            /// These settings, and the others where these say nothing.
            pub(crate) fn over(self, others: &$type) -> $type {
                $type { $($field: self.$field.or_else(|| others.$field.clone()),)* }
            }
        }
    };
}
over!(ServerOptions: listen admin_listen tls_listen tls_cert tls_key tls_client_ca allow port insecure unix_mode backlog accept metrics function wake_order compat threads busy_poll handle_host allow_shutdown drain
    max_packet max_job_bytes max_output max_total_output max_unique max_line max_functions max_abilities max_connections max_connections_per_peer silence message_deadline write_stall file_descriptors pidfile log_file
    log_level log_format);
over!(JobOptions: wakeup wakeup_delay max_queue overflow job_retries run_timeout on_timeout on_worker_lost high_order on_abandon);
