//! layshaft, through its public API.

use crate::peers::{Body, Patience, Peer, at_home};
use futures_lite::future::block_on;
use layshaft::{Engine, Function, JobHandle};

pub(crate) struct Layshaft<A> {
    first: Function<A, u64>,
    all: Vec<Function<A, u64>>,
    /// Dropping it would end the workers.
    _engine: Engine,
}

impl<A: Send + 'static> Peer<A> for Layshaft<A> {
    type Handle = JobHandle<u64>;

    fn start<B: Body<A>>(workers: usize, functions: usize) -> Self {
        let engine = Engine::builder().workers(workers).start().expect("an engine starts");
        let register = |n: usize| {
            let name = format!("f{n}");
            engine.function(&name, |arg: A| -> u64 { B::run(arg) }).expect("the name is free")
        };
        let all: Vec<Function<A, u64>> = (0..functions).map(register).collect();
        Layshaft { first: all[0].clone(), all, _engine: engine }
    }

    #[inline(always)]
    fn send(&self, arg: A) {
        assert!(self.first.send(arg).is_ok(), "the function is open");
    }

    #[inline(always)]
    fn send_to(&self, function: usize, arg: A) {
        assert!(self.all[function].send(arg).is_ok(), "the function is open");
    }

    #[inline(always)]
    fn send_batch(&self, args: impl Iterator<Item = A>) {
        assert!(self.first.send_batch(args).is_ok(), "the function is open");
    }

    #[inline(always)]
    fn submit(&self, arg: A) -> Self::Handle {
        self.first.submit(arg).expect("the function is open")
    }

    #[inline(always)]
    fn wait(handle: Self::Handle, patience: Patience) -> u64 {
        match patience {
            Patience::Spin => handle.wait().expect("the job returned"),
            Patience::Park => block_on(handle).expect("the job returned"),
        }
    }
}

at_home!(Layshaft<u64>);
