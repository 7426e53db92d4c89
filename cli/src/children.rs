//! The processes that run now: started in groups of their own, killed all at once, reaped one by one.

use rustix::io::retry_on_intr;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock};
use std::thread;

/// Children that were not reaped. A number in it belongs to its process, dead or alive: the kernel gives it to no other
/// before the reaping, and that happens under the lock.
#[derive(Debug, Default)]
pub(crate) struct Children {
    /// Written only by who kills, who so waits for the starts that are under way.
    are_over: RwLock<bool>,
    running: Mutex<Vec<Pid>>,
    /// The process ends at once: nobody is to tell of what was killed.
    are_left: AtomicBool,
}

impl Children {
    /// Starts a child in a process group of its own: an interrupt from the terminal does not reach it.
    pub(crate) fn spawn(&self, command: &mut Command) -> io::Result<Child> {
        let are_over = self.are_over.read().unwrap_or_else(PoisonError::into_inner);
        if *are_over {
            drop(are_over);
            self.hold_if_left();
            return Err(io::Error::other("the run is over"));
        }
        let child = command.process_group(0).spawn()?;
        self.running().push(Pid::from_child(&child));
        Ok(child)
    }

    /// Waits for its end.
    pub(crate) fn reap(&self, child: &mut Child) -> io::Result<ExitStatus> {
        let pid = Pid::from_child(child);
        // Leaves it to be reaped, so that the lock is not held while it runs.
        retry_on_intr(|| waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT))?;
        self.hold_if_left();
        let mut running = self.running();
        running.retain(|other| *other != pid);
        child.wait()
    }

    /// Kills one that was not reaped, with what it started in its group.
    pub(crate) fn kill_one(&self, child: &Child) {
        // One that has ended, with all its group, needs no killing.
        let _ = kill_process_group(Pid::from_child(child), Signal::KILL);
    }

    /// Kills all, with what they started in their groups; none is started afterwards.
    pub(crate) fn kill(&self) {
        *self.are_over.write().unwrap_or_else(PoisonError::into_inner) = true;
        for child in self.running().iter() {
            // One that has ended, with all its group, needs no killing.
            let _ = kill_process_group(*child, Signal::KILL);
        }
    }

    /// The same for a process that ends right after it: whoever waits for a child, or wants to start one, waits for that end.
    pub(crate) fn leave(&self) {
        // Ordering: SeqCst, before any of them is killed: who sees its end sees this.
        self.are_left.store(true, Ordering::SeqCst);
        self.kill();
    }

    fn hold_if_left(&self) {
        // Ordering: SeqCst, after the end of a child; pairs with `leave`.
        while self.are_left.load(Ordering::SeqCst) {
            thread::park();
        }
    }

    fn running(&self) -> MutexGuard<'_, Vec<Pid>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
