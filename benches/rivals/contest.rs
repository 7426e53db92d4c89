//! The parent's side: contestants alternate, each figure from a fresh child process.

use crate::alloc;
use crate::rows::{CONTESTANTS, OURS, Row};
use crate::workload::Effort;
use std::env;
use std::io::{self, Read};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// After that a child is stuck.
const LIMIT: Duration = Duration::from_secs(60);

/// What is run.
pub(crate) struct Plan {
    pub(crate) rounds: usize,
    pub(crate) effort: Effort,
    pub(crate) is_system: bool,
    pub(crate) only: String,
}

impl Plan {
    /// Whether the pattern chooses this cell. Ours comes along with any other, for the ratio.
    pub(crate) fn chooses(&self, row: &Row, contestant: &str) -> bool {
        let is_chosen = |name: &str| row.has(name) && format!("{} / {name}", row.name).contains(&self.only);
        is_chosen(contestant) || contestant == OURS && CONTESTANTS.iter().any(|name| is_chosen(name))
    }
}

/// What one child came to.
pub(crate) enum Outcome {
    Figure(f64),
    TimedOut,
    Failed,
}

/// A row's outcomes: by contestant, by round. Empty for those that did not take part.
pub(crate) fn run(plan: &Plan, row: &Row) -> io::Result<Vec<Vec<Outcome>>> {
    let mut outcomes: Vec<Vec<Outcome>> = CONTESTANTS.iter().map(|_| Vec::new()).collect();
    for round in 0..plan.rounds {
        for turn in 0..CONTESTANTS.len() {
            // Each goes first in some round: a machine that slows down favours nobody.
            let at = (turn + round) % CONTESTANTS.len();
            if plan.chooses(row, CONTESTANTS[at]) {
                outcomes[at].push(measure(plan, row, CONTESTANTS[at])?);
            }
        }
    }
    Ok(outcomes)
}

fn measure(plan: &Plan, row: &Row, contestant: &str) -> io::Result<Outcome> {
    let args = ["--child", row.name, contestant, plan.effort.name()];
    match ask_child(&args, &alloc::setting(plan.is_system, row.workload.counts_allocations()))? {
        Answer::Text(text) => Ok(text.trim().parse().map_or(Outcome::Failed, Outcome::Figure)),
        Answer::Late => Ok(Outcome::TimedOut),
    }
}

/// Whether children get a scheduler group of their own.
pub(crate) fn has_group() -> io::Result<bool> {
    let answer = ask_child(&["--child-group"], &alloc::setting(false, false))?;
    Ok(matches!(answer, Answer::Text(text) if text.trim() == "true"))
}

enum Answer {
    Text(String),
    Late,
}

/// Runs this program as a child, and ends it if it takes too long.
fn ask_child(args: &[&str], allocator: &str) -> io::Result<Answer> {
    let mut child = Command::new(env::current_exe()?)
        .args(args)
        .env(alloc::VARIABLE, allocator)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut stdout = child.stdout.take().expect("the child's output is a pipe");
    let (sender, receiver) = mpsc::channel();
    let reader = thread::spawn(move || {
        let mut text = String::new();
        let read = stdout.read_to_string(&mut text);
        // Nobody listens any more if it came too late.
        let _ = sender.send(read.map(|_| text));
    });
    let answer = match receiver.recv_timeout(LIMIT) {
        Ok(text) => Answer::Text(text?),
        Err(_) => {
            child.kill()?;
            Answer::Late
        }
    };
    reader.join().expect("the reader does not panic");
    let status = child.wait()?;
    Ok(match answer {
        Answer::Text(_) if !status.success() => Answer::Text(String::new()),
        answer => answer,
    })
}
