//! What servers say, and whom it concerns.

use super::ask::{Ask, number};
use super::cause::Cause;
use super::core::{Core, PING};
use super::error::ClientError;
use super::job::Caller;
use super::jobs::Attempt;
use super::link::{Link, Owed, Read};
use super::update::{RemoteId, RemoteUpdate};
use crate::gearman::error::protocol_of;
use crate::gearman::packet::{Kind, Packet, PacketError};
use std::sync::Arc;
use std::time::Instant;

impl From<PacketError> for Cause {
    fn from(error: PacketError) -> Cause {
        Cause::Packet(error)
    }
}

/// The first bytes of a TLS alert.
const TLS_ALERT: &[u8] = &[0x15, 0x03];

impl Core {
    /// Bytes have come from server `i`.
    pub(super) fn read(&mut self, i: usize, bytes: &[u8], now: Instant) {
        let partial = self.servers[i].link.lend();
        let limits = self.settings.limits.clone();
        let result = match !self.servers[i].link.is_known && bytes.starts_with(TLS_ALERT) {
            true => Err(Cause::Foreign("TLS")),
            false => Link::read(bytes, partial, &limits, |read| self.message(i, &read, now)),
        };
        match result {
            Ok(partial) => {
                let link = &mut self.servers[i].link;
                link.restore(partial);
                link.heard_at = now;
            }
            Err(cause) => self.lose(i, cause, now),
        }
    }

    fn message(&mut self, i: usize, read: &Read<'_>, now: Instant) -> Result<(), Cause> {
        match read {
            Read::Frame(frame) => {
                let packet = frame.packet()?;
                let server = &mut self.servers[i];
                if let Some(cause) = Cause::of_first(&packet).filter(|_| !server.link.is_known) {
                    return Err(cause);
                }
                (server.trouble, server.link.is_known) = (Default::default(), true);
                self.packet(i, &packet, now)
            }
            Read::Line(line) => self.line(i, line),
        }
    }

    /// A line of text: part of the answer to a text command, or a sign that something else listens there.
    fn line(&mut self, i: usize, line: &[u8]) -> Result<(), Cause> {
        if let Some(protocol) = protocol_of(line) {
            return Err(Cause::Foreign(protocol));
        }
        let server = &mut self.servers[i];
        let is_text = |owed: &Owed| matches!(owed, Owed::Question(question) if matches!(question.ask, Ask::Text(..)));
        let Some((_, Owed::Question(question))) = server.link.owed.iter_mut().find(|(_, owed)| is_text(owed)) else {
            return Err(Cause::Foreign("some text protocol"));
        };
        let Ask::Text(text, _) = &mut question.ask else { return Ok(()) };
        let Some(answer) = text.line(line) else { return Ok(()) };
        let answer = answer.map_err(|(code, text)| {
            let server = server.address.to_string();
            ClientError::Server { server, code, text }
        });
        server.trouble = Default::default();
        if let Some(Owed::Question(question)) = server.link.settle(is_text)
            && let Ask::Text(_, completer) = question.ask
        {
            completer.complete(answer);
        }
        Ok(())
    }

    fn packet(&mut self, i: usize, packet: &Packet<'_>, now: Instant) -> Result<(), Cause> {
        let data = || packet.arg(1).to_vec();
        match packet.kind {
            Kind::JobCreated => self.created(i, packet),
            Kind::Error => self.refused(i, packet),
            Kind::WorkComplete => self.ended(i, packet, |core, attempt| {
                if let Some(job) = core.take(attempt.key) {
                    job.complete(packet.arg(1));
                }
            }),
            Kind::WorkFail => {
                self.ended(i, packet, |core, attempt| core.fail_attempt(attempt.key, ClientError::Failed, now))
            }
            Kind::WorkException => self.ended(i, packet, |core, attempt| {
                if let Some(job) = core.jobs.get(attempt.key) {
                    job.tell(&RemoteUpdate::Exception(data()));
                }
                core.fail_attempt(attempt.key, ClientError::Exception(data()), now);
            }),
            Kind::WorkData => self.tell(i, packet, &RemoteUpdate::Data(data())),
            Kind::WorkWarning => self.tell(i, packet, &RemoteUpdate::Warning(data())),
            Kind::WorkStatus => {
                let (numerator, denominator) = (number(packet.arg(1)), number(packet.arg(2)));
                self.tell(i, packet, &RemoteUpdate::Status { numerator, denominator })
            }
            Kind::EchoRes if packet.arg(0) == PING => self.settle(i, packet, |owed| matches!(owed, Owed::Ping)),
            Kind::OptionRes => self.settle(i, packet, |owed| matches!(owed, Owed::Option)),
            Kind::EchoRes | Kind::StatusRes | Kind::StatusResUnique => self.settle(
                i,
                packet,
                |owed| matches!(owed, Owed::Question(question) if question.is_answered_by(packet)),
            ),
            // What workers are told, and what only others send: nobody waits for it.
            _ => Ok(()),
        }
    }

    /// Answers the question that it answers. An answer to nothing is no harm: nothing can be mistaken for it.
    fn settle(&mut self, i: usize, packet: &Packet<'_>, is_answered: impl Fn(&Owed) -> bool) -> Result<(), Cause> {
        if let Some(Owed::Question(question)) = self.servers[i].link.settle(is_answered) {
            question.answer(packet);
        }
        Ok(())
    }

    /// The oldest submit is accepted.
    fn created(&mut self, i: usize, packet: &Packet<'_>) -> Result<(), Cause> {
        let server = &mut self.servers[i];
        let owed = server.link.settle(|owed| matches!(owed, Owed::Submit(_)));
        let Some(Owed::Submit(attempt)) = owed else { return Err(Cause::Unexpected(packet.kind)) };
        // Given up meanwhile: its result, too, will concern nobody.
        let Some(job) = self.jobs.current(attempt) else { return Ok(()) };
        let name: Arc<[u8]> = name(packet).into();
        let id = RemoteId::of(Arc::clone(&server.address), Arc::clone(&name));
        (job.is_sent, job.parked_at) = (true, None);
        if !job.may_be_sent_again() {
            job.spec.payload = Vec::new();
        }
        job.tell(&RemoteUpdate::Created(id.clone()));
        if let Caller::Foreground(completer) = &job.caller {
            completer.created(id);
            job.id = Some(Arc::clone(&name));
            server.link.accepted.entry(name).or_default().push(attempt);
        } else if let Some(job) = self.take(attempt.key) {
            job.accept(id);
        }
        Ok(())
    }

    /// The oldest question, or submit, is refused.
    fn refused(&mut self, i: usize, packet: &Packet<'_>) -> Result<(), Cause> {
        let text = |at| String::from_utf8_lossy(packet.arg(at)).into_owned();
        let server = &mut self.servers[i];
        let error = ClientError::Server { server: server.address.to_string(), code: text(0), text: text(1) };
        match server.link.settle(|_| true) {
            Some(Owed::Submit(attempt)) if self.jobs.current(attempt).is_some() => self.end(attempt.key, error),
            Some(Owed::Question(question)) => question.fail(error),
            _ => {}
        }
        Ok(())
    }

    /// A job is over: all that it stands for here end. Nothing is known of one that was given up.
    fn ended(&mut self, i: usize, packet: &Packet<'_>, mut end: impl FnMut(&mut Core, Attempt)) -> Result<(), Cause> {
        for attempt in self.servers[i].link.accepted.remove(name(packet)).unwrap_or_default() {
            if self.jobs.current(attempt).is_some() {
                end(self, attempt);
            }
        }
        Ok(())
    }

    fn tell(&mut self, i: usize, packet: &Packet<'_>, update: &RemoteUpdate) -> Result<(), Cause> {
        let attempts = self.servers[i].link.accepted.get(name(packet)).map_or(&[][..], Vec::as_slice);
        for attempt in attempts {
            if let Some(job) = self.jobs.current(*attempt) {
                job.tell(update);
            }
        }
        Ok(())
    }
}

/// The job's name. Some servers leave a NUL at its end.
fn name<'a>(packet: &Packet<'a>) -> &'a [u8] {
    let name = packet.arg(0);
    name.strip_suffix(b"\0").unwrap_or(name)
}
