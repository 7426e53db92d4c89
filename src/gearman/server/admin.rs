//! What each text command answers.

use super::functions::Target;
use super::job::State;
use super::keys::{ConnKey, JobKey};
use super::status::ChangeError;
use super::table::Table;
use crate::gearman::text::{self, Command, TextError};
use std::io::Write;

/// What is to become of the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// At once.
    Now,
    /// When jobs in hand have ended.
    Graceful,
}

impl Table {
    /// Answers a line. Whether the server is to end.
    pub(super) fn line(&mut self, from: ConnKey, line: &[u8]) -> Option<Ending> {
        let (answer, ending) = match text::parse(line) {
            Ok(command) => {
                self.effort += self.cost(&command);
                self.answer(from, command)
            }
            Err(error) => (self.error_line(&error).into_bytes(), None),
        };
        self.effort += answer.len() / 32;
        self.send_text(from, &answer);
        self.settle();
        ending
    }

    /// About what it costs to look for what a command asks for; what is written comes on top of it.
    fn cost(&self, command: &Command) -> usize {
        let looks = match command {
            Command::Status | Command::PriorityStatus => self.functions.len(),
            Command::Workers => self.conns.len(),
            Command::Clients => self.conns.len() + self.places,
            Command::Jobs => self.jobs.places() + self.places,
            Command::ShowJobs => self.jobs.places(),
            Command::ShowUniqueJobs => self.functions.len() + self.keyed,
            Command::Explain(_) => self.functions.len(),
            Command::Gladiator { .. } => 100,
            _ => 0,
        };
        looks / 8
    }

    fn error_line(&self, error: &TextError) -> String {
        if !self.settings.perl_errors {
            return text::error_line(error);
        }
        match error {
            TextError::UnknownCommand(_) => text::refusal("unknown_command", "Unknown server command"),
            TextError::Incomplete(_) => {
                text::refusal("incomplete_args", "An incomplete set of arguments was sent to this command")
            }
            _ => text::refusal("unknown_args", "Unknown arguments to server command"),
        }
    }

    fn answer(&mut self, from: ConnKey, command: Command) -> (Vec<u8>, Option<Ending>) {
        let changes = matches!(
            command,
            Command::MaxQueue { .. }
                | Command::CancelJob(_)
                | Command::CreateFunction(_)
                | Command::DropFunction(_)
                | Command::Pause(_)
                | Command::Resume(_)
                | Command::Shutdown { .. }
        );
        if changes && !self.conns.get(from).is_some_and(|conn| conn.is_admin) {
            let text = "this listener takes no commands that change anything; use one that is for administration";
            return (text::refusal("NOT_ALLOWED", text).into_bytes(), None);
        }
        let answer = match command {
            Command::Status => self.status(),
            Command::PriorityStatus => self.priority_status(),
            Command::Workers => self.workers(),
            Command::Clients => self.clients(),
            Command::Jobs => self.list_jobs(),
            Command::ShowJobs => self.show_jobs(),
            Command::ShowUniqueJobs => self.show_unique_jobs(),
            Command::Gladiator { all } => self.gladiator(all),
            Command::GetPid => format!("OK {}\n", std::process::id()).into_bytes(),
            Command::Verbose => b"OK INFO\n".to_vec(),
            Command::Version if self.settings.perl_errors => format!("v{}\n", env!("CARGO_PKG_VERSION")).into_bytes(),
            Command::Version => format!("OK {}\n", env!("CARGO_PKG_VERSION")).into_bytes(),
            Command::MaxQueue { function, most } => {
                let done = self.on_function(&function, |table, key| table.set_max_queue(key, most));
                self.done(done)
            }
            Command::CreateFunction(name) => {
                let done = self.on_function(&name, |_, _| ());
                self.done(done)
            }
            Command::DropFunction(name) => {
                let done = self.remove_function(&name);
                self.done(done)
            }
            Command::Pause(name) => {
                let done = self.on_function(&name, |table, key| table.set_paused(key, true));
                self.done(done)
            }
            Command::Resume(name) => {
                let done = self.on_function(&name, |table, key| table.set_paused(key, false));
                self.done(done)
            }
            Command::CancelJob(handle) if self.cancel_job(&handle) => self.done(Ok(())),
            Command::CancelJob(_) => {
                text::refusal("UNKNOWN_JOB", "no queued or running job has this handle").into_bytes()
            }
            Command::Explain(what) => self.explain(&what),
            Command::Shutdown { .. } if !self.settings.allow_shutdown => {
                let text = "shutting down by command is not allowed here";
                text::refusal("NOT_ALLOWED", text).into_bytes()
            }
            Command::Shutdown { graceful } => {
                return (self.done(Ok(())), Some(if graceful { Ending::Graceful } else { Ending::Now }));
            }
        };
        (answer, None)
    }

    fn status(&self) -> Vec<u8> {
        self.rows(self.functions_by_name(), |row, key| {
            let entry = &self.functions[key];
            row.extend_from_slice(&text::escape(&entry.name));
            write_into(row, format_args!("\t{}\t{}\t{}", entry.total(), entry.counts().1, entry.capable()));
        })
    }

    fn priority_status(&self) -> Vec<u8> {
        self.rows(self.functions_by_name(), |row, key| {
            let entry = &self.functions[key];
            let [high, normal, low] = entry.counts().0;
            row.extend_from_slice(&text::escape(&entry.name));
            write_into(row, format_args!("\t{high}\t{}\t{low}\t{}", normal + entry.held, entry.capable()));
        })
    }

    fn workers(&self) -> Vec<u8> {
        self.rows(self.conns_by_number(), |row, key| {
            let conn = &self.conns[key];
            let address = conn.ip.map_or_else(|| conn.peer.clone(), |ip| ip.to_string());
            write_into(row, format_args!("{} {address} ", conn.number));
            row.extend_from_slice(&text::escape(&conn.id));
            row.extend_from_slice(b" :");
            let names = self.ability_names(key);
            if names.is_empty() && self.settings.perl_errors {
                row.push(b' ');
            }
            for name in names {
                row.push(b' ');
                row.extend_from_slice(&text::escape_word(name));
            }
        })
    }

    fn clients(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for key in self.conns_by_number() {
            if out.len() > self.settings.output_bytes {
                return self.too_long();
            }
            let conn = &self.conns[key];
            out.extend_from_slice(&text::escape(conn.peer.as_bytes()));
            out.push(b'\n');
            for job in self.listened_to(key) {
                out.push(b'\t');
                self.describe(&mut out, job);
                out.push(b'\n');
            }
        }
        out.extend_from_slice(b".\n");
        out
    }

    /// Function, key, worker.
    fn describe(&self, row: &mut Vec<u8>, key: JobKey) {
        let job = &self.jobs[key];
        row.extend_from_slice(&text::escape(&self.functions[job.function].name));
        row.push(b'\t');
        row.extend_from_slice(&text::escape(job.shown_unique()));
        row.push(b'\t');
        match job.state {
            State::Running(run) => {
                let peer = self.conns.get(self.runs[run].conn).map_or("-", |conn| &conn.peer);
                row.extend_from_slice(&text::escape(peer.as_bytes()));
            }
            State::Local => row.extend_from_slice(b"here"),
            _ => row.push(b'-'),
        }
    }

    pub(super) fn live_jobs(&self) -> Vec<JobKey> {
        let live = self.jobs.iter().filter(|(_, job)| job.state != State::Buried);
        let mut keys: Vec<JobKey> = live.map(|(key, _)| key).collect();
        keys.sort_unstable();
        keys
    }

    fn list_jobs(&self) -> Vec<u8> {
        self.rows(self.live_jobs(), |row, key| {
            self.describe(row, key);
            write_into(row, format_args!("\t{}", self.jobs[key].listeners.count()));
        })
    }

    fn show_jobs(&self) -> Vec<u8> {
        self.rows(self.live_jobs(), |row, key| {
            let job = &self.jobs[key];
            let is_queued = matches!(job.state, State::Queued | State::Held);
            row.extend_from_slice(self.handle(key).as_bytes());
            write_into(row, format_args!("\t{}\t0\t{}", job.attempts, u8::from(is_queued)));
        })
    }

    fn show_unique_jobs(&self) -> Vec<u8> {
        let mut keyed: Vec<JobKey> =
            self.functions.values().flat_map(|entry| entry.uniques.iter().map(|known| known.job)).collect();
        keyed.sort_unstable();
        self.rows(keyed, |row, key| row.extend_from_slice(&text::escape(self.jobs[key].shown_unique())))
    }

    pub(super) fn conns_by_number(&self) -> Vec<ConnKey> {
        let mut keys: Vec<ConnKey> = self.conns.keys().collect();
        keys.sort_by_key(|key| self.conns[*key].number);
        keys
    }

    fn rows<K>(&self, keys: Vec<K>, mut write: impl FnMut(&mut Vec<u8>, K)) -> Vec<u8> {
        let mut out = Vec::new();
        for key in keys {
            if out.len() > self.settings.output_bytes {
                return self.too_long();
            }
            write(&mut out, key);
            out.push(b'\n');
        }
        out.extend_from_slice(b".\n");
        out
    }

    /// A table of more bytes than may wait for a connection.
    fn too_long(&self) -> Vec<u8> {
        let text = format!("the answer has more than {} bytes", self.settings.output_bytes);
        text::refusal("TOO_LONG", &text).into_bytes()
    }

    /// The line that says that something is done, or why not.
    fn done(&self, done: Result<(), ChangeError>) -> Vec<u8> {
        let code = match &done {
            Ok(()) if self.settings.perl_errors => return b"OK\n".to_vec(),
            Ok(()) => return b"OK\r\n".to_vec(),
            Err(ChangeError::Unknown(_)) => "UNKNOWN_FUNCTION",
            Err(ChangeError::InUse) => "FUNCTION_IN_USE",
            Err(ChangeError::Refused(_)) => "SERVER_ERROR",
        };
        done.map_or_else(|why| text::refusal(code, &why.to_string()), |()| String::new()).into_bytes()
    }

    fn gladiator(&mut self, all: bool) -> Vec<u8> {
        let census: Vec<_> = self.census().into_iter().filter(|(count, _)| all || *count > 1).collect();
        self.rows(census, |row, (count, what)| write_into(row, format_args!("{count:7} {what}")))
    }

    fn explain(&mut self, what: &[u8]) -> Vec<u8> {
        let words = if let Some(key) = self.find(what) {
            self.explain_job(key)
        } else if let Some(key) = self.names.get(what).copied() {
            self.effort += self.functions[key].total() / 8;
            self.explain_function(key)
        } else {
            let text = format!("no job has the handle \"{0}\", and no function the name", what.escape_ascii());
            return text::refusal("UNKNOWN_JOB", &text).into_bytes();
        };
        let mut out = words.into_bytes();
        out.extend_from_slice(b"\n.\n");
        out
    }

    fn explain_job(&self, key: JobKey) -> String {
        let job = &self.jobs[key];
        let mut row = Vec::new();
        self.describe(&mut row, key);
        let handle = String::from_utf8_lossy(self.handle(key).as_bytes()).into_owned();
        let entry = &self.functions[job.function];
        let name = String::from_utf8_lossy(&text::escape(&entry.name)).into_owned();
        match job.state {
            State::Running(run) => {
                let conn = self.conns.get(self.runs[run].conn);
                let peer = conn.map_or("-", |conn| &conn.peer);
                format!("{handle} ({name}) is running at {peer}, hand-out {}", job.attempts)
            }
            State::Local => {
                format!("{handle} ({name}) is in the server's process\n{}", self.explain_function(job.function))
            }
            State::Held => format!("{handle} ({name}) is held until its time"),
            State::Queued | State::Buried => {
                format!("{handle} ({name}) is queued\n{}", self.explain_function(job.function))
            }
        }
    }
}

/// Appends text; a vector takes any.
fn write_into(row: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    let _ = row.write_fmt(text);
}

impl super::functions::Entry {
    /// Workers that can do it: this process counts as one.
    pub(super) fn capable(&self) -> usize {
        self.workers + usize::from(matches!(self.target, Target::Local(_)))
    }
}
