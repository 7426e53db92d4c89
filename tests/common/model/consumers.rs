//! The consumer sets of a run, and the jobs that they have pulled.

use super::driver::{Arg, Driver, Reply, pick, until};
use super::reference::{State, result};
use super::started::Attempt;
use crate::common::wake::CountingWaker;
use layshaft::{Completer, ConsumerSet, Engine, Function};
use std::sync::Arc;
use std::task::Context;

pub(super) struct Set {
    set: ConsumerSet<Arg, Reply>,
    /// Functions, in the order in which they came.
    members: Vec<usize>,
    /// Whose turn is next.
    cursor: usize,
    /// The waker it parked with, until it polls or pulls again.
    parked: Option<Arc<CountingWaker>>,
}

impl Set {
    pub(super) fn new(engine: &Engine) -> Set {
        Set { set: engine.consumer_set(), members: Vec::new(), cursor: 0, parked: None }
    }

    pub(super) fn add(&mut self, at: usize, function: &Function<Arg, Reply>) {
        self.set.add(function);
        if !self.members.contains(&at) {
            self.members.push(at);
        }
    }
}

impl Driver {
    pub(super) fn join(&mut self, set: usize, function: usize) {
        let Some(at) = pick(&self.functions, function) else { return };
        if self.model.functions[at].remote {
            self.sets[set].add(at, &self.functions[at]);
        }
    }

    pub(super) fn leave(&mut self, set: usize, function: usize) {
        let Some(at) = pick(&self.functions, function) else { return };
        if self.model.functions[at].remote {
            self.sets[set].set.remove(&self.functions[at]);
            self.sets[set].members.retain(|member| *member != at);
        }
    }

    pub(super) fn park(&mut self, set: usize) {
        let (counter, waker) = CountingWaker::pair();
        let ready = self.sets[set].set.poll_ready(&mut Context::from_waker(&waker)).is_ready();
        self.sets[set].parked = (!ready).then_some(counter);
        // Ready without work is allowed: a cancelled job that still lies in a queue, or an end to learn of.
        let has_work = self.sets[set].members.iter().any(|at| self.model.may_start(*at));
        assert!(ready || !has_work, "set {set} parked with work");
    }

    pub(super) fn pull(&mut self, set: usize) {
        self.sets[set].parked = None;
        let empty = Set::new(self.engine());
        let mut of = std::mem::replace(&mut self.sets[set], empty);
        self.pull_by(&mut of);
        self.sets[set] = of;
    }

    /// Pulls the job that the model says, or none: whether there was one.
    pub(super) fn pull_by(&mut self, set: &mut Set) -> bool {
        let expected = self.model.pull(&set.members, &mut set.cursor);
        let pulled = set.set.try_next();
        let id = pulled.as_ref().map(|pulled| pulled.arg().id);
        assert_eq!(id, expected.map(|attempt| self.model.jobs[attempt.job].id), "the job that was pulled");
        let (Some(pulled), Some(attempt)) = (pulled, expected) else { return false };
        let of = &self.model.jobs[attempt.job];
        assert_eq!((pulled.function(), pulled.priority()), (self.functions[of.function].name(), of.terms.priority));
        self.pulled.push((pulled, attempt));
        true
    }

    pub(super) fn put_back(&mut self, at: usize) {
        let Some(at) = pick(&self.pulled, at) else { return };
        let (pulled, attempt) = self.pulled.swap_remove(at);
        pulled.put_back();
        self.model.put_back(attempt);
    }

    fn take(&mut self, at: usize) -> Option<(Arg, Completer<Reply>, Attempt)> {
        let at = pick(&self.pulled, at)?;
        let (pulled, attempt) = self.pulled.swap_remove(at);
        let (arg, completer) = pulled.take();
        assert_eq!(completer.is_cancelled(), self.model.is_unwanted(attempt), "nobody wants the result");
        Some((arg, completer, attempt))
    }

    pub(super) fn complete(&mut self, at: usize) {
        let Some((arg, completer, attempt)) = self.take(at) else { return };
        completer.complete(Reply::new(result(arg.n), &self.live));
        self.model.finish(attempt, State::Value);
    }

    pub(super) fn fail(&mut self, at: usize) {
        let Some((_, completer, attempt)) = self.take(at) else { return };
        completer.fail("meant");
        self.model.finish(attempt, State::Failed);
    }

    pub(super) fn lose(&mut self, at: usize) {
        let Some((_, completer, attempt)) = self.take(at) else { return };
        drop(completer);
        self.model.drop_attempt(attempt);
    }

    /// Work and only sleeping members is a lost wake.
    pub(super) fn check_wakes(&self) {
        for at in 0..self.functions.len() {
            let members = || self.sets.iter().filter(|set| set.members.contains(&at));
            let asleep = |set: &Set| set.parked.as_ref().is_some_and(|wakes| wakes.wakes() == 0);
            let all_sleep = || members().next().is_some() && members().all(asleep);
            if self.model.may_start(at) {
                // What the clock has made ready it tells a moment later.
                until(|| !all_sleep());
                assert!(!all_sleep(), "function {at} has work, and all its sets sleep");
            }
        }
    }
}
