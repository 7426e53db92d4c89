//! The pool's stack: a piece is in one place at a time, whatever was popped and pushed meanwhile.
#![cfg(layshaft_loom)]

use layshaft::model::queues::{Held, Stack};
use layshaft_loom_tests::{Threads, explore};
use loom::sync::Arc;
use loom::thread;
use std::collections::HashSet;

/// A pool with `n` free pieces.
fn with_free(n: usize, per_chunk: u32) -> Arc<Stack> {
    let stack = Stack::new(per_chunk);
    let pieces: Vec<Held> = (0..n).map(|_| stack.get()).collect();
    pieces.into_iter().for_each(|piece| stack.put(piece));
    Arc::new(stack)
}

fn spawn<T: 'static>(stack: &Arc<Stack>, f: impl FnOnce(&Stack) -> T + 'static) -> thread::JoinHandle<T> {
    let stack = Arc::clone(stack);
    thread::spawn(move || f(&stack))
}

/// Checks that these pieces, and those that are free, are all different.
fn check(stack: &Stack, held: Vec<Held>, free: usize) {
    let mut seen = HashSet::new();
    for piece in held.into_iter().chain((0..free).map(|_| stack.get())) {
        assert!(seen.insert(piece.index()), "piece {} is in two places", piece.index());
        piece.touch();
    }
}

/// The top is popped and pushed again while another thread is between its look and its exchange.
#[test]
fn top_comes_back() {
    explore("pool, the top comes back", Threads::Two, || {
        let stack = with_free(3, 1);
        let other = spawn(&stack, |stack| {
            let (a, b) = (stack.get(), stack.get());
            stack.put(a);
            b
        });
        let mine = stack.get();
        let theirs = other.join().unwrap();
        check(&stack, vec![mine, theirs], 2);
    });
}

#[test]
fn three_take_and_give() {
    explore("pool, three take and give", Threads::Three, || {
        let stack = with_free(2, 1);
        let others = [0; 2].map(|_| {
            spawn(&stack, |stack| {
                let piece = stack.get();
                stack.put(piece);
            })
        });
        let mine = stack.get();
        others.into_iter().for_each(|other| other.join().unwrap());
        check(&stack, vec![mine], 3);
    });
}

/// A chain is popped while its pieces go out and come back one by one.
#[test]
fn chains_and_single_pieces() {
    explore("pool, refill and spill against get and put", Threads::Three, || {
        let stack = with_free(3, 1);
        let caches = spawn(&stack, |stack| {
            let cache = stack.refill(2);
            stack.spill(cache);
        });
        let other = spawn(&stack, |stack| {
            let (a, b) = (stack.get(), stack.get());
            stack.put(a);
            b
        });
        let mine = stack.refill(2);
        let theirs = other.join().unwrap();
        caches.join().unwrap();
        check(&stack, mine.into_iter().chain([theirs]).collect(), 2);
    });
}

/// A reader of a chain may meet the link of a piece that has moved: what it names can be found all the same.
#[test]
fn a_chain_that_moves_while_the_pool_grows() {
    explore("pool, refill while it grows", Threads::Three, || {
        let stack = with_free(1, 1);
        let others = [0; 2].map(|_| spawn(&stack, |stack| stack.refill(2)));
        let (old, new) = (stack.get(), stack.get());
        stack.put(new);
        stack.put(old);
        let held = others.into_iter().flat_map(|other| other.join().unwrap()).collect();
        check(&stack, held, 2);
    });
}

/// As before; the piece above the new one is put there by a thread that did not make the new one.
#[test]
fn a_chain_that_another_thread_moves() {
    explore("pool, refill while two others move its chain", Threads::Three, || {
        let stack = with_free(1, 1);
        let reader = spawn(&stack, |stack| stack.refill(2));
        let mover = spawn(&stack, |stack| {
            let piece = stack.get();
            stack.put(piece);
        });
        let (old, new) = (stack.get(), stack.get());
        stack.put(new);
        stack.put(old);
        mover.join().unwrap();
        check(&stack, reader.join().unwrap(), 2);
    });
}

/// The link from a piece that a reader holds to a new one is written by a spill.
#[test]
fn a_chain_that_is_spilled() {
    explore("pool, refill against a spill of a new piece", Threads::Two, || {
        let stack = with_free(1, 1);
        let reader = spawn(&stack, |stack| stack.refill(2));
        let (old, new) = (stack.get(), stack.get());
        stack.spill(vec![old, new]);
        check(&stack, reader.join().unwrap(), 2);
    });
}

/// Two threads need the table's next segment at once.
#[test]
fn two_grow_a_segment() {
    explore("pool, two make a segment", Threads::Two, || {
        let stack = Arc::new(Stack::new(2));
        let other = spawn(&stack, |stack| (0..3).map(|_| stack.get()).collect::<Vec<_>>());
        let mut held: Vec<Held> = (0..3).map(|_| stack.get()).collect();
        held.extend(other.join().unwrap());
        check(&stack, held, 1);
    });
}
