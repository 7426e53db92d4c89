//! Jobs that borrow: scopes and joins, outside and inside of jobs.

use super::driver::Driver;
use super::reference::{Kind, result};
use crate::common::Held;
use layshaft::Engine;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Mutex;
use std::thread;

/// From this many closures on the first one panics.
const PANICS: usize = 7;

impl Driver {
    /// Closures of a scope, which are queued before the worker goes on: they run in their order, and what they spawn as well.
    pub(super) fn borrow(&mut self, closures: usize) {
        let (started, mut values) = (Mutex::new(Vec::new()), vec![0; closures]);
        let scoped = self.run_with(|engine, held| {
            let note = |n: usize| started.lock().unwrap().push(n);
            let (note, values) = (&note, &mut values);
            catch_unwind(AssertUnwindSafe(|| {
                engine.scope(|scope| {
                    for (n, value) in values.iter_mut().enumerate() {
                        scope.spawn(move || {
                            note(n);
                            scope.spawn(move || *value = n + 1);
                            if n == 0 && closures >= PANICS {
                                resume_unwind(Box::new("meant"));
                            }
                        });
                    }
                    held.open();
                    closures
                })
            }))
        });
        let is_panic = closures >= PANICS;
        self.model.panicked += u64::from(is_panic);
        match scoped {
            Ok(returned) => assert_eq!((returned, is_panic), (closures, false)),
            Err(panic) => assert_eq!((panic.downcast_ref(), is_panic), (Some(&"meant"), true)),
        }
        assert!(values.into_iter().eq(1..=closures), "closures of closures ran otherwise than once each");
        assert!(started.into_inner().unwrap().into_iter().eq(0..closures), "closures started in another order");
    }

    /// Two closures, of which one has to wait for the worker.
    pub(super) fn fork(&mut self) {
        let (mut a, mut b) = (0, 0);
        let returned = self.run_with(|engine, held| {
            let first = || {
                held.open();
                a += 1;
                "a"
            };
            let second = || {
                b += 1;
                "b"
            };
            engine.join(first, second)
        });
        assert_eq!((returned, a, b), (("a", "b"), 1, 1));
    }

    /// Calls `f` while closures of a scope are queued, and returns when all of them have run.
    pub(super) fn with_closures<T>(held: &Held, f: impl FnOnce() -> T) -> T {
        let mut values = [0; 5];
        let (tell, told) = std::sync::mpsc::channel();
        let returned = thread::scope(|threads| {
            threads.spawn(|| {
                held.engine.scope(|scope| {
                    values.iter_mut().for_each(|value| scope.spawn(move || *value += 1));
                    tell.send(()).unwrap();
                });
            });
            told.recv().unwrap();
            f()
        });
        assert_eq!(values, [1; 5], "closures of a scope that was discarded");
        returned
    }
}

/// What a body gives, which some compute with the help of others.
pub(super) fn value(kind: Kind, n: u8) -> u64 {
    let engine = || -> Engine { layshaft::current().expect("inside a job").engine() };
    let whole = result(n);
    match kind {
        Kind::Joined => {
            let (a, b) = engine().join(|| whole / 2, || whole - whole / 2);
            a + b
        }
        Kind::Scoped(parts) => {
            let mut done = vec![0; parts as usize];
            engine().scope(|scope| {
                for part in &mut done {
                    scope.spawn(move || *part += 1);
                }
                if kind.panics(1) {
                    scope.spawn(|| resume_unwind(Box::new("meant")));
                }
            });
            whole - u64::from(parts) + done.into_iter().sum::<u64>()
        }
        _ => whole,
    }
}
