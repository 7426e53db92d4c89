//! The lane: every job pushed before the close comes out once, in each producer's order, with blocks of two slots.
#![cfg(layshaft_loom)]

use layshaft::model::queues::Queue;
use layshaft_loom_tests::{Threads, explore};
use loom::alloc::Track;
use loom::sync::Arc;
use loom::thread;

/// A tracked number: loom reports one that is lost or dropped twice.
type Item = Track<u32>;

fn drain(queue: &Queue<Item>) -> Vec<u32> {
    std::iter::from_fn(|| Some(queue.claim(9)).filter(|got| !got.is_empty())).flatten().map(Item::into_inner).collect()
}

fn claimer(queue: &Arc<Queue<Item>>, times: usize) -> thread::JoinHandle<Vec<u32>> {
    let queue = Arc::clone(queue);
    thread::spawn(move || (0..times).flat_map(|_| queue.claim(2)).map(Item::into_inner).collect())
}

fn producer(queue: &Arc<Queue<Item>>, items: std::ops::Range<u32>) -> thread::JoinHandle<()> {
    let queue = Arc::clone(queue);
    thread::spawn(move || items.for_each(|n| assert!(queue.push(Track::new(n)).is_ok())))
}

fn in_order(items: &[u32]) {
    assert!(items.is_sorted(), "out of order: {items:?}");
}

#[test]
fn one_producer_two_claimers() {
    explore("lane, one producer, two claimers, three items", Threads::Three, || {
        let queue = Arc::new(Queue::new());
        assert!(queue.push(Track::new(0)).is_ok());
        let claimers = [claimer(&queue, 1), claimer(&queue, 1)];
        (1..3).for_each(|n| assert!(queue.push(Track::new(n)).is_ok()));
        let mut all = Vec::new();
        for claimer in claimers {
            let got = claimer.join().unwrap();
            in_order(&got);
            all.extend(got);
        }
        all.extend(drain(&queue));
        all.sort_unstable();
        assert_eq!(all, [0, 1, 2]);
        assert!(queue.is_empty());
    });
}

#[test]
fn two_producers_one_claimer() {
    explore("lane, two producers, one claimer, four items", Threads::Three, || {
        let queue = Arc::new(Queue::new());
        let producers = [producer(&queue, 0..2), producer(&queue, 10..12)];
        let mut got: Vec<u32> = queue.claim(2).into_iter().map(Item::into_inner).collect();
        producers.into_iter().for_each(|producer| producer.join().unwrap());
        got.extend(drain(&queue));
        let of = |from: u32| got.iter().copied().filter(|n| (from..from + 10).contains(n)).collect::<Vec<_>>();
        assert_eq!((of(0), of(10)), (vec![0, 1], vec![10, 11]));
    });
}

/// Blocks that one lane has used up go to another while a producer may still hold them.
#[test]
fn blocks_move_between_lanes() {
    explore("lane, blocks move between two lanes", Threads::Two, || {
        let one: Arc<Queue<Item>> = Arc::new(Queue::new());
        let two = one.sibling();
        assert!(one.push(Track::new(0)).is_ok());
        let late = producer(&one, 1..4);
        let mut first: Vec<u32> = (0..2).flat_map(|_| one.claim(2)).map(Item::into_inner).collect();
        (5..8).for_each(|n| assert!(two.push(Track::new(n)).is_ok()));
        late.join().unwrap();
        first.extend(drain(&one));
        assert_eq!(first, [0, 1, 2, 3]);
        assert_eq!(drain(&two), [5, 6, 7]);
    });
}

#[test]
fn closed_while_pushed() {
    explore("lane, push against close", Threads::Two, || {
        let queue = Arc::new(Queue::new());
        let pusher = {
            let queue = Arc::clone(&queue);
            thread::spawn(move || (0..3).take_while(|n| queue.push(Track::new(*n)).is_ok()).count())
        };
        queue.close();
        let accepted = pusher.join().unwrap() as u32;
        assert_eq!(drain(&queue), (0..accepted).collect::<Vec<_>>());
        assert!(queue.push(Track::new(9)).is_err());
    });
}

/// The block of an empty lane goes back while a producer comes and a claimer looks.
#[test]
fn retired_while_used() {
    explore("lane, retire against push and claim", Threads::Three, || {
        let queue = Arc::new(Queue::new());
        assert!(queue.push(Track::new(0)).is_ok());
        let mut got: Vec<u32> = queue.claim(1).into_iter().map(Item::into_inner).collect();
        let pusher = producer(&queue, 1..3);
        let retirer = {
            let queue = Arc::clone(&queue);
            thread::spawn(move || queue.retire())
        };
        got.extend(queue.claim(2).into_iter().map(Item::into_inner));
        pusher.join().unwrap();
        retirer.join().unwrap();
        got.extend(drain(&queue));
        assert_eq!(got, [0, 1, 2]);
        // A producer that came late may have linked a successor to a block that was back in the pool: then the first
        // attempt only goes on to that successor.
        assert!(queue.retire() || queue.retire(), "an empty lane gives its block back");
        assert!(queue.push(Track::new(3)).is_ok());
        assert_eq!(drain(&queue), [3]);
    });
}

/// Two producers bring the first block at once; the slower one must not keep the lane from giving its block back.
#[test]
fn first_block_brought_twice() {
    explore("lane, two bring the first block", Threads::Two, || {
        let queue = Arc::new(Queue::new());
        let pusher = producer(&queue, 0..1);
        assert!(queue.push(Track::new(10)).is_ok());
        let mut got: Vec<u32> = queue.claim(2).into_iter().map(Item::into_inner).collect();
        pusher.join().unwrap();
        got.extend(drain(&queue));
        got.sort_unstable();
        assert_eq!(got, [0, 10]);
        for _ in 0..3 {
            queue.retire();
        }
        assert_eq!(queue.blocks_out(), 0, "an idle lane keeps no block");
    });
}

/// A lane that is closed just as a block is full gives back that block, too.
#[test]
fn closed_at_the_end_of_a_block() {
    explore("lane, close at the end of a block", Threads::Two, || {
        let queue = Arc::new(Queue::new());
        assert!(queue.push(Track::new(0)).is_ok());
        let pusher = {
            let queue = Arc::clone(&queue);
            thread::spawn(move || (1..3).take_while(|n| queue.push(Track::new(*n)).is_ok()).count())
        };
        queue.close();
        let accepted = pusher.join().unwrap() as u32;
        assert_eq!(drain(&queue), (0..=accepted).collect::<Vec<_>>());
        for _ in 0..2 {
            queue.retire();
        }
        assert_eq!(queue.blocks_out(), 0, "a closed and empty lane keeps no block");
    });
}

/// A block is filled again only after the slowest claimer has moved its job out.
#[test]
fn a_block_used_again() {
    explore("lane, a slow claimer against the reuse of its block", Threads::Two, || {
        let queue = Arc::new(Queue::new());
        (0..2).for_each(|n| assert!(queue.push(Track::new(n)).is_ok()));
        let slow = claimer_of(&queue, 1);
        let mut got: Vec<u32> = (0..2).flat_map(|_| queue.claim(1)).map(Item::into_inner).collect();
        (2..5).for_each(|n| assert!(queue.push(Track::new(n)).is_ok()));
        got.extend(slow.join().unwrap());
        got.extend(drain(&queue));
        got.sort_unstable();
        assert_eq!(got, [0, 1, 2, 3, 4]);
    });
}

/// Claims one job at a time.
fn claimer_of(queue: &Arc<Queue<Item>>, times: usize) -> thread::JoinHandle<Vec<u32>> {
    let queue = Arc::clone(queue);
    thread::spawn(move || (0..times).flat_map(|_| queue.claim(1)).map(Item::into_inner).collect())
}

/// A block that comes back uncleared is cleared before a claimer looks into it, whoever moved the head there.
#[test]
fn cleared_before_it_is_entered() {
    explore("lane, two claimers enter a block that was used before", Threads::Three, || {
        let queue = Arc::new(Queue::new());
        (0..3).for_each(|n| assert!(queue.push(Track::new(n)).is_ok()));
        let mut got = drain(&queue);
        let claimers = [claimer_of(&queue, 2), claimer_of(&queue, 1)];
        assert!(queue.push(Track::new(3)).is_ok());
        claimers.into_iter().for_each(|claimer| got.extend(claimer.join().unwrap()));
        got.extend(drain(&queue));
        assert_eq!(got, [0, 1, 2, 3]);
    });
}

/// Who retires finds the blocks at both ends, though it saw none of them being made.
#[test]
fn retired_by_a_stranger() {
    explore("lane, retire against the first block", Threads::Two, || {
        let queue = Arc::new(Queue::new());
        let retirer = {
            let queue = Arc::clone(&queue);
            thread::spawn(move || queue.retire())
        };
        (0..2).for_each(|n| assert!(queue.push(Track::new(n)).is_ok()));
        let mut got: Vec<u32> = queue.claim(2).into_iter().map(Item::into_inner).collect();
        retirer.join().unwrap();
        got.extend(drain(&queue));
        assert_eq!(got, [0, 1]);
    });
}

/// Who retires may move the tail on to a block that a producer has just linked: another producer finds that block.
#[test]
fn retired_between_two_producers() {
    explore("lane, retire against two producers", Threads::Three, || {
        let queue = Arc::new(Queue::new());
        assert!(queue.push(Track::new(0)).is_ok());
        let mut got = drain(&queue);
        let pusher = producer(&queue, 1..2);
        let retirer = {
            let queue = Arc::clone(&queue);
            thread::spawn(move || queue.retire())
        };
        assert!(queue.push(Track::new(2)).is_ok());
        pusher.join().unwrap();
        retirer.join().unwrap();
        got.extend(drain(&queue));
        got.sort_unstable();
        assert_eq!(got, [0, 1, 2]);
    });
}
