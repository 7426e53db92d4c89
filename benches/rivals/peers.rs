//! What a contestant is, and the rivals but one: each driven as a user who knows it would, with a job type of his own.

use futures_lite::future::block_on;
use std::hint::spin_loop;
use std::sync::{Arc, OnceLock};
use std::thread;

/// Looks of a caller that spins before it parks, as many as layshaft's handle takes: about 10 microseconds.
const SPINS: u32 = 400;

/// What a function does with its argument. A type and not a value, so that contestants can inline it if they can.
pub(crate) trait Body<A>: 'static {
    fn run(arg: A) -> u64;
}

/// How a caller waits for a result.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Patience {
    /// Looks for about 10 microseconds, then parks.
    Spin,
    /// Parks unless the result is there.
    Park,
}

/// A contestant: workers that run jobs of numbered functions. All functions have the same body.
pub(crate) trait Peer<A>: Sized + Send + Sync + 'static {
    /// The caller's end of a job.
    type Handle;

    fn start<B: Body<A>>(workers: usize, functions: usize) -> Self;

    /// A job of function 0 that nobody waits for.
    fn send(&self, arg: A);

    /// A job of any function that nobody waits for.
    fn send_to(&self, function: usize, arg: A);

    /// Many at once, where the contestant has such a call.
    fn send_batch(&self, args: impl Iterator<Item = A>) {
        args.for_each(|arg| self.send(arg));
    }

    /// From inside a body.
    fn send_nested(&self, arg: A) {
        self.send(arg);
    }

    fn submit(&self, arg: A) -> Self::Handle;

    fn wait(handle: Self::Handle, patience: Patience) -> u64;
}

/// A contestant that bodies can find.
pub(crate) trait Home: Peer<u64> {
    fn home() -> &'static OnceLock<Self>;
}

/// Implements [`Home`].
macro_rules! at_home {
    ($peer:ty) => {
        impl $crate::peers::Home for $peer {
            fn home() -> &'static std::sync::OnceLock<Self> {
                static HOME: std::sync::OnceLock<$peer> = std::sync::OnceLock::new();
                &HOME
            }
        }
    };
}
pub(crate) use at_home;

/// The bodies, by function number.
pub(crate) type Table<A> = Arc<[fn(A) -> u64]>;

pub(crate) fn table<A, B: Body<A>>(functions: usize) -> Table<A> {
    vec![B::run as fn(A) -> u64; functions].into()
}

/// What travels through the queues.
pub(crate) struct Job<A> {
    pub(crate) function: u32,
    pub(crate) arg: A,
    pub(crate) reply: Option<oneshot::Sender<u64>>,
}

impl<A> Job<A> {
    #[inline(always)]
    pub(crate) fn run(self, table: &[fn(A) -> u64]) {
        let result = table[self.function as usize](self.arg);
        if let Some(reply) = self.reply {
            // The caller may have gone.
            let _ = reply.send(result);
        }
    }
}

/// Looks until `done` or until it is time to park.
fn spin(mut done: impl FnMut() -> bool) {
    for i in 0..SPINS {
        if done() {
            return;
        }
        if i % 64 == 63 { thread::yield_now() } else { spin_loop() }
    }
}

pub(crate) fn receive(reply: oneshot::Receiver<u64>, patience: Patience) -> u64 {
    if patience == Patience::Spin {
        spin(|| reply.has_message());
    }
    reply.recv().expect("a job that was submitted is answered")
}

/// A channel of jobs, and threads that receive from it.
macro_rules! channel {
    ($name:ident, $library:ident) => {
        pub(crate) struct $name<A>($library::Sender<Job<A>>);

        impl<A: Send + 'static> Peer<A> for $name<A> {
            type Handle = oneshot::Receiver<u64>;

            fn start<B: Body<A>>(workers: usize, functions: usize) -> Self {
                let (sender, receiver) = $library::unbounded::<Job<A>>();
                let table = table::<A, B>(functions);
                for _ in 0..workers {
                    let (receiver, table) = (receiver.clone(), table.clone());
                    thread::spawn(move || {
                        while let Ok(job) = receiver.recv() {
                            job.run(&table);
                        }
                    });
                }
                $name(sender)
            }

            #[inline(always)]
            fn send(&self, arg: A) {
                self.send_to(0, arg);
            }

            #[inline(always)]
            fn send_to(&self, function: usize, arg: A) {
                let job = Job { function: function as u32, arg, reply: None };
                assert!(self.0.send(job).is_ok(), "the workers hold receivers");
            }

            #[inline(always)]
            fn submit(&self, arg: A) -> Self::Handle {
                let (reply, handle) = oneshot::channel();
                let job = Job { function: 0, arg, reply: Some(reply) };
                assert!(self.0.send(job).is_ok(), "the workers hold receivers");
                handle
            }

            #[inline(always)]
            fn wait(handle: Self::Handle, patience: Patience) -> u64 {
                receive(handle, patience)
            }
        }

        at_home!($name<u64>);
    };
}

channel!(CrossbeamChannel, crossbeam_channel);
channel!(Kanal, kanal);
channel!(Flume, flume);

/// Closures in rayon's own threads; results through a one-shot channel, as its `spawn` returns nothing.
pub(crate) struct Rayon {
    threads: rayon_core::ThreadPool,
    table: Table<u64>,
}

impl Peer<u64> for Rayon {
    type Handle = oneshot::Receiver<u64>;

    fn start<B: Body<u64>>(workers: usize, functions: usize) -> Self {
        let threads = rayon_core::ThreadPoolBuilder::new().num_threads(workers).build().expect("rayon starts");
        Rayon { threads, table: table::<u64, B>(functions) }
    }

    #[inline(always)]
    fn send(&self, arg: u64) {
        self.send_to(0, arg);
    }

    #[inline(always)]
    fn send_to(&self, function: usize, arg: u64) {
        let body = self.table[function];
        self.threads.spawn(move || {
            body(arg);
        });
    }

    #[inline(always)]
    fn send_nested(&self, arg: u64) {
        let body = self.table[0];
        rayon_core::spawn(move || {
            body(arg);
        });
    }

    #[inline(always)]
    fn submit(&self, arg: u64) -> Self::Handle {
        let (reply, handle) = oneshot::channel();
        let body = self.table[0];
        self.threads.spawn(move || {
            // The caller may have gone.
            let _ = reply.send(body(arg));
        });
        handle
    }

    #[inline(always)]
    fn wait(handle: Self::Handle, patience: Patience) -> u64 {
        receive(handle, patience)
    }
}

at_home!(Rayon);

/// Async blocks on tokio's multi-threaded runtime, with its own join handles.
pub(crate) struct Tokio {
    runtime: tokio::runtime::Runtime,
    table: Table<u64>,
}

impl Peer<u64> for Tokio {
    type Handle = tokio::task::JoinHandle<u64>;

    fn start<B: Body<u64>>(workers: usize, functions: usize) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(workers).build();
        Tokio { runtime: runtime.expect("tokio starts"), table: table::<u64, B>(functions) }
    }

    #[inline(always)]
    fn send(&self, arg: u64) {
        self.send_to(0, arg);
    }

    #[inline(always)]
    fn send_to(&self, function: usize, arg: u64) {
        let body = self.table[function];
        drop(self.runtime.spawn(async move {
            body(arg);
        }));
    }

    #[inline(always)]
    fn send_nested(&self, arg: u64) {
        let body = self.table[0];
        drop(tokio::spawn(async move {
            body(arg);
        }));
    }

    #[inline(always)]
    fn submit(&self, arg: u64) -> Self::Handle {
        let body = self.table[0];
        self.runtime.spawn(async move { body(arg) })
    }

    #[inline(always)]
    fn wait(handle: Self::Handle, patience: Patience) -> u64 {
        if patience == Patience::Spin {
            spin(|| handle.is_finished());
        }
        block_on(handle).expect("a body that does not panic")
    }
}

at_home!(Tokio);
