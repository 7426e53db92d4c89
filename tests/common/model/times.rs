//! The model's times: what falls due when hours pass.

use super::reference::{Reference, State};

/// In so many hours after it was set, and which time of the run it is: those of the same hour fall due in this order.
pub(crate) type Due = (u8, u64);

impl Reference {
    pub(crate) fn due(&mut self, hours: Option<u8>) -> Option<Due> {
        self.times += 1;
        hours.map(|hours| (hours, self.times))
    }

    /// So many hours pass for a function, or none: then what is due at once happens.
    pub(crate) fn fall_due(&mut self, function: usize, hours: u8) {
        let is_over = |due: Option<Due>| due.is_some_and(|due| due.0 <= hours);
        let of = &mut self.functions[function];
        if is_over(of.resume_at) {
            (of.paused, of.resume_at) = (false, None);
        }
        let jobs = self.jobs.iter().enumerate().filter(|(_, job)| job.function == function && !job.state.is_ended());
        let times = jobs.flat_map(|(at, job)| [job.at, job.deadline, job.run_until].map(|due| (due, at)));
        let mut due: Vec<_> = times.filter(|(due, _)| is_over(*due)).collect();
        due.sort_unstable();
        let mut lost = Vec::new();
        for (_, job) in due {
            let of = &mut self.jobs[job];
            if of.state.is_ended() || lost.contains(&job) {
                continue;
            }
            if is_over(of.deadline) {
                self.time_out(job);
            } else if is_over(of.run_until) {
                if !self.functions[function].policy.timeouts {
                    self.time_out(job);
                } else if self.lose(job, State::TimedOut) {
                    lost.push(job);
                }
            } else if is_over(of.at.take()) {
                self.functions[function].delayed.retain(|delayed| *delayed != job);
                self.append(job);
            }
        }
        lost.into_iter().for_each(|job| self.run_again(job));
    }

    /// A job's time is up, wherever it is.
    fn time_out(&mut self, job: usize) {
        self.take_out(job);
        self.settle(job, State::TimedOut);
    }
}
