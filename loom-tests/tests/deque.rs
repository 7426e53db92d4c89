//! The deque: every entry is taken exactly once, whatever the owner and two thieves do.
#![cfg(layshaft_loom)]

use layshaft::model::queues::Deque;
use layshaft_loom_tests::{Threads, explore};
use loom::sync::Arc;
use loom::thread;

/// Joins the thieves, empties the deque, and checks that 1..=n came out once each.
fn check(deque: &Deque, thieves: Vec<thread::JoinHandle<Vec<u64>>>, mut got: Vec<u64>, n: u64) {
    for thief in thieves {
        got.extend(thief.join().unwrap());
    }
    got.extend(std::iter::from_fn(|| deque.pop()));
    got.sort_unstable();
    assert_eq!(got, (1..=n).collect::<Vec<_>>());
}

fn thief(deque: &Arc<Deque>, steals: usize) -> thread::JoinHandle<Vec<u64>> {
    let deque = Arc::clone(deque);
    thread::spawn(move || (0..steals).filter_map(|_| deque.steal()).collect())
}

#[test]
fn two_thieves_and_three_items() {
    explore("deque, two thieves, three items", Threads::Three, || {
        let deque = Arc::new(Deque::new());
        assert!(deque.push(1) && deque.push(2));
        let thieves = vec![thief(&deque, 1), thief(&deque, 1)];
        let mut got = Vec::new();
        assert!(deque.push(3));
        got.extend(deque.pop());
        got.extend(deque.pop());
        check(&deque, thieves, got, 3);
    });
}

#[test]
fn the_last_item() {
    explore("deque, the last item", Threads::Two, || {
        let deque = Arc::new(Deque::new());
        let thieves = vec![thief(&deque, 2)];
        let mut got = Vec::new();
        for n in 1..=2 {
            assert!(deque.push(n));
            got.extend(deque.pop());
        }
        check(&deque, thieves, got, 2);
    });
}

/// An entry whose argument a thief has not moved out is not overwritten: the push is refused instead.
#[test]
fn an_entry_in_use_is_not_reused() {
    explore("deque, wrap-around", Threads::Two, || {
        let deque = Arc::new(Deque::new());
        (1..=4).for_each(|n| assert!(deque.push(n)));
        let thieves = vec![thief(&deque, 2)];
        let mut got = Vec::new();
        let mut pushed = 4;
        for _ in 0..2 {
            if deque.push(pushed + 1) {
                pushed += 1;
            }
        }
        got.extend(deque.pop());
        check(&deque, thieves, got, pushed);
    });
}

#[test]
fn two_thieves_while_it_wraps() {
    explore("deque, wrap-around, two thieves", Threads::Three, || {
        let deque = Arc::new(Deque::new());
        (1..=4).for_each(|n| assert!(deque.push(n)));
        let thieves = vec![thief(&deque, 1), thief(&deque, 1)];
        let pushed = 4 + u64::from(deque.push(5));
        let got = deque.pop().into_iter().collect();
        check(&deque, thieves, got, pushed);
    });
}

/// A job that waits for one of its own takes it out of the middle; what came later stays.
#[test]
fn taken_out_of_the_middle() {
    explore("deque, out of the middle against a thief", Threads::Two, || {
        let deque = Arc::new(Deque::new());
        (1..=3).for_each(|n| assert!(deque.push(n)));
        let thieves = vec![thief(&deque, 2)];
        let helped = deque.help(2);
        assert!(helped.is_none_or(|n| n == 2), "waited for 2 and ran {helped:?}");
        let mut got: Vec<u64> = helped.into_iter().collect();
        got.extend(deque.pop());
        check(&deque, thieves, got, 3);
    });
}

/// A thief reads the end that a pop stored: it must see what was pushed before that pop.
#[test]
fn stolen_after_a_pop() {
    explore("deque, a pop against a thief that came before it", Threads::Two, || {
        let deque = Arc::new(Deque::new());
        let thieves = vec![thief(&deque, 2)];
        let mut got = Vec::new();
        for n in [1, 3] {
            assert!(deque.push(n) && deque.push(n + 1));
            got.extend(deque.pop());
        }
        check(&deque, thieves, got, 4);
    });
}

/// The owner takes an entry again that a thief has emptied. It passes no fence in between.
#[test]
fn emptied_and_filled_again() {
    explore("deque, an entry emptied by a thief is filled again", Threads::Two, || {
        let deque = Arc::new(Deque::new());
        (1..=4).for_each(|n| assert!(deque.push(n)));
        let thieves = vec![thief(&deque, 1)];
        // Without this loom does not try the thief first.
        thread::yield_now();
        let pushed = 4 + u64::from(deque.push(5));
        check(&deque, thieves, Vec::new(), pushed);
    });
}

/// Entries that the owner has lifted and puts back are not overlooked: their function would be freed under them.
#[test]
fn lifted_entries_are_mentioned() {
    explore("deque, lifted entries against the collector", Threads::Two, || {
        let deque = Arc::new(Deque::new());
        (1..=3).for_each(|n| assert!(deque.push(n)));
        let collector = {
            let deque = Arc::clone(&deque);
            thread::spawn(move || assert!(deque.mentions(1) && deque.mentions(2), "a job was overlooked"))
        };
        assert!(deque.raise(1));
        collector.join().unwrap();
        assert_eq!((deque.pop(), deque.pop(), deque.pop()), (Some(1), Some(3), Some(2)));
        assert!(!deque.mentions(1) && !deque.mentions(2));
    });
}
