//! What is to be served, and how: from flags and environment, and a file.

use crate::args::serve::{
    Abandon, Compat, HighOrder, JobOptions, LogFormat, Loss, Overflow, Serve, ServerOptions, WakeOrder,
};
use crate::config::Config;
use crate::serve::units::{Place, Size, Time};
use layshaft::gearman::{Compat as With, FunctionSettings, OnLoss, Server, ServerBuilder, Tls};
use layshaft::{Engine, Overflow as On};
use std::path::{Path, PathBuf};
use std::time::Duration;

const ADDRESS: &str = "127.0.0.1";
pub(super) const PORT: u16 = 4730;
/// Of a server without other settings.
const DRAIN: Duration = Duration::from_secs(30);
const DEADLINE: Duration = Duration::from_secs(60);

/// What is spoken on an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Door {
    Plain,
    /// And everybody may change things.
    Admin,
    Tls,
}

/// All settings.
pub(crate) struct Plan {
    pub(crate) server: ServerOptions,
    jobs: JobOptions,
    /// Of single functions, by name.
    functions: Vec<(String, JobOptions)>,
}

impl Plan {
    /// Puts together what flags, environment and file say, in this order.
    ///
    /// # Errors
    /// What is wrong with the file.
    pub(crate) fn new(options: &Serve, base: &Path) -> Result<Plan, String> {
        let config = match &options.config {
            Some(path) => Config::read(&base.join(path), path)?,
            None => Config::default(),
        };
        let mut asked = options.jobs.clone();
        if let Some(workers) = options.worker_wakeup {
            asked.wakeup = Some(crate::serve::units::Count(if workers == 0 { usize::MAX } else { workers }));
        }
        let functions = config.functions().map(|(name, own)| (name.to_owned(), own.clone())).collect();
        let mut server = options.server.clone().over(&config.server);
        let files = [&mut server.tls_cert, &mut server.tls_key, &mut server.tls_client_ca];
        for path in files.into_iter().chain([&mut server.pidfile, &mut server.log_file]).flatten() {
            *path = base.join(&*path);
        }
        let places =
            [&mut server.listen, &mut server.admin_listen, &mut server.tls_listen].into_iter().flatten().flatten();
        for place in places.chain(server.metrics.as_mut()) {
            if let Place::Unix(path) = place {
                *path = base.join(&*path);
            }
        }
        Ok(Plan { server, jobs: asked.over(&config.jobs()), functions })
    }

    /// A builder with all that is set, but for what is listened on.
    pub(crate) fn builder(&self, engine: &Engine) -> ServerBuilder {
        let ServerOptions { compat, accept, threads, backlog, unix_mode, wake_order, busy_poll, .. } = &self.server;
        let mut builder = Server::builder(engine);
        builder = compat.iter().fold(builder, |builder, compat| {
            builder.compat(match compat {
                Compat::Gearmand => With::Gearmand,
                Compat::Perl => With::Perl,
            })
        });
        builder = threads.iter().fold(builder, |builder, threads| builder.threads(usize::from(*threads).max(1)));
        builder = backlog.iter().fold(builder, |builder, backlog| builder.backlog(*backlog));
        builder =
            unix_mode.iter().fold(builder, |builder, mode| builder.unix_mode(mode.0)).insecure(self.is_insecure());
        builder = accept.iter().fold(builder, |builder, batch| builder.accept_batch((*batch).max(1)));
        builder = busy_poll.iter().fold(builder, |builder, most| builder.busy_poll(most.0));
        builder = wake_order.iter().fold(builder, |builder, order| builder.wake_busy_first(*order == WakeOrder::Busy));
        let functions = self.functions.iter().map(|(name, own)| (name, settings(own)));
        builder = functions.fold(self.jobs_of(builder), |builder, (name, own)| builder.function(name, own));
        self.limits_of(builder)
    }

    fn limits_of(&self, mut builder: ServerBuilder) -> ServerBuilder {
        let server = &self.server;
        let limit = |time: Option<Time>| time.map_or(DEADLINE, |time| time.0);
        builder = builder.deadlines(limit(server.message_deadline), limit(server.write_stall));
        builder = server.silence.iter().fold(builder, |builder, limit| builder.silence(limit.0));
        if let Some(Size(bytes)) = server.max_packet {
            builder = builder.packet_bytes(bytes);
        }
        if let Some(Size(bytes)) = server.max_job_bytes {
            builder = builder.job_bytes(bytes);
        }
        if let Some(Size(bytes)) = server.max_output {
            builder = builder.output_bytes(bytes);
        }
        if let Some(Size(bytes)) = server.max_total_output {
            builder = builder.all_output_bytes(bytes);
        }
        if let Some(Size(bytes)) = server.max_unique {
            builder = builder.unique_bytes(bytes);
        }
        if let Some(Size(bytes)) = server.max_line {
            builder = builder.line_bytes(bytes);
        }
        if let Some(most) = server.max_functions {
            builder = builder.most_functions(most);
        }
        if let Some(most) = server.max_abilities {
            builder = builder.most_abilities(most);
        }
        if let Some(most) = server.max_connections {
            builder = builder.connections(most);
        }
        if let Some(most) = server.max_connections_per_peer {
            builder = builder.connections_of_peer(most);
        }
        if let Some(host) = &server.handle_host {
            builder = builder.host(host);
        }
        builder = builder.allow(server.allow.iter().flatten().map(|allowed| allowed.0));
        builder.allow_shutdown(server.allow_shutdown.unwrap_or(false))
    }

    /// What holds for all functions, where it is set: what is not is as `compat` has it.
    fn jobs_of(&self, builder: ServerBuilder) -> ServerBuilder {
        builder.all_functions(settings(&self.jobs))
    }

    /// Where to listen: `None` is not said.
    pub(crate) fn places(&self) -> Option<Vec<(Place, Door)>> {
        let ServerOptions { listen, admin_listen, tls_listen, port, .. } = &self.server;
        let port = port.unwrap_or(PORT);
        if listen.is_none() && admin_listen.is_none() && tls_listen.is_none() {
            return None;
        }
        let of = |places: &Option<Vec<Place>>, door| {
            let places = places.iter().flatten();
            places.map(move |place| (with_port(place, port), door)).collect::<Vec<_>>()
        };
        Some([of(listen, Door::Plain), of(admin_listen, Door::Admin), of(tls_listen, Door::Tls)].concat())
    }

    /// Where to listen when it is not said.
    pub(crate) fn default_place(&self) -> Place {
        Place::Tcp(ADDRESS.to_owned(), Some(self.server.port.unwrap_or(PORT)))
    }

    /// How TLS is spoken, where it is.
    ///
    /// # Errors
    /// When it is not said with which certificate.
    pub(crate) fn tls(&self) -> Result<Tls, String> {
        let ServerOptions { tls_cert: Some(cert), tls_key: Some(key), tls_client_ca, .. } = &self.server else {
            return Err("TLS needs a certificate and its key: --tls-cert FILE --tls-key FILE".to_owned());
        };
        let tls = Tls::files(cert, key);
        Ok(tls_client_ca.iter().fold(tls, Tls::client_ca_file))
    }

    /// Where metrics are told: there is no port that everybody expects.
    ///
    /// # Errors
    /// When none is said.
    pub(crate) fn with_metrics_port(&self, place: &Place) -> Result<Place, String> {
        match place {
            Place::Tcp(_, Some(_)) => Ok(place.clone()),
            _ => Err("--metrics wants an address with a port, such as 127.0.0.1:9477".to_owned()),
        }
    }

    pub(crate) fn drain(&self) -> Duration {
        self.server.drain.map_or(DRAIN, |time| time.0)
    }

    /// Whether an address may be one that other machines reach. The server asks the same when it starts, not when the settings
    /// change, nor does `config check` start one.
    pub(crate) fn may_be_reached(&self, door: Door) -> bool {
        let has_certificates = door == Door::Tls && self.server.tls_client_ca.is_some();
        let has_list = self.server.allow.as_ref().is_some_and(|networks| !networks.is_empty());
        self.is_insecure() || has_certificates || has_list
    }

    pub(crate) fn is_insecure(&self) -> bool {
        self.server.insecure.unwrap_or(false)
    }

    pub(crate) fn log_format(&self) -> LogFormat {
        self.server.log_format.unwrap_or(LogFormat::Text)
    }

    pub(crate) fn log_file(&self) -> Option<PathBuf> {
        self.server.log_file.clone()
    }

    /// Takes over another plan, but for what is only looked at when the server starts.
    pub(crate) fn follow(&mut self, other: Plan) {
        self.server.drain = other.server.drain;
        self.jobs = other.jobs;
        self.functions = other.functions;
    }

    /// Settings that a running server does not take from another plan, and which differ there.
    pub(crate) fn only_at_start(&self, other: &Plan) -> Vec<&'static str> {
        let (a, b) = (&self.server, &other.server);
        let differs = [
            ("listen", a.listen != b.listen),
            ("admin_listen", a.admin_listen != b.admin_listen),
            ("tls_listen", a.tls_listen != b.tls_listen),
            ("tls_cert", a.tls_cert != b.tls_cert),
            ("tls_key", a.tls_key != b.tls_key),
            ("tls_client_ca", a.tls_client_ca != b.tls_client_ca),
            ("port", a.port != b.port),
            ("unix_mode", a.unix_mode != b.unix_mode),
            ("backlog", a.backlog != b.backlog),
            ("accept", a.accept != b.accept),
            ("metrics", a.metrics != b.metrics),
            ("function", a.function != b.function),
            ("busy_poll", a.busy_poll != b.busy_poll),
            ("threads", a.threads != b.threads),
            ("handle_host", a.handle_host != b.handle_host),
            ("file_descriptors", a.file_descriptors != b.file_descriptors),
            ("pidfile", a.pidfile != b.pidfile),
            ("log_format", a.log_format != b.log_format),
        ];
        differs.into_iter().filter(|(_, differs)| *differs).map(|(name, _)| name).collect()
    }
}

fn with_port(place: &Place, port: u16) -> Place {
    match place {
        Place::Tcp(host, None) => Place::Tcp(host.clone(), Some(port)),
        place => place.clone(),
    }
}

fn settings(jobs: &JobOptions) -> FunctionSettings {
    let JobOptions { wakeup, wakeup_delay, max_queue, overflow, job_retries, run_timeout, .. } = jobs;
    let loss = |loss| match loss {
        Loss::Requeue => OnLoss::Requeue,
        Loss::Fail => OnLoss::Fail,
    };
    let mut own = FunctionSettings::new();
    own = wakeup.iter().fold(own, |own, count| own.wakeups(count.0));
    own = wakeup_delay.iter().fold(own, |own, delay| own.wakeup_delay(delay.0));
    own = max_queue.iter().fold(own, |own, most| own.max_queue(Some(*most).filter(|most| *most > 0)));
    own = overflow.iter().fold(own, |own, overflow| {
        own.overflow(match overflow {
            Overflow::Reject => On::Reject,
            Overflow::EvictNewest => On::EvictNewest,
            Overflow::EvictOldest => On::EvictOldest,
        })
    });
    own = job_retries.iter().fold(own, |own, most| own.job_retries(Some(*most).filter(|most| *most > 0)));
    own = run_timeout.iter().fold(own, |own, limit| own.run_timeout(limit.0));
    own = jobs.on_timeout.iter().fold(own, |own, what| own.on_timeout(loss(*what)));
    own = jobs.on_worker_lost.iter().fold(own, |own, what| own.on_worker_lost(loss(*what)));
    own = jobs.high_order.iter().fold(own, |own, order| own.newest_high_first(*order == HighOrder::Lifo));
    jobs.on_abandon.iter().fold(own, |own, what| own.run_abandoned(*what == Abandon::Run))
}
