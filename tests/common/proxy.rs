//! A connection that misbehaves: cuts what passes into pieces, stops for a while, and breaks off, as a seed says.

use super::rng::Rng;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

/// What happens to connections.
#[derive(Clone, Copy)]
pub(crate) struct Faults {
    /// Bytes of a piece at most.
    pub(crate) piece: u64,
    /// One piece in so many is held back until others had their turn; 0 none.
    pub(crate) stall: u64,
    /// One piece in so many is the last one, and not even whole; 0 none.
    pub(crate) reset: u64,
}

pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    faults: Faults,
    seed: u64,
    connections: AtomicU64,
    resets: AtomicU64,
    is_over: AtomicBool,
}

impl Proxy {
    pub(crate) fn new(to: SocketAddr, faults: Faults, seed: u64) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (connections, resets, is_over) = (AtomicU64::new(0), AtomicU64::new(0), AtomicBool::new(false));
        let shared = Arc::new(Shared { faults, seed, connections, resets, is_over });
        let of = Arc::clone(&shared);
        let thread = std::thread::spawn(move || of.accept(&listener, to));
        Proxy { address, shared, thread: Some(thread) }
    }

    /// Connections that were broken off.
    pub(crate) fn resets(&self) -> u64 {
        self.shared.resets.load(Ordering::Relaxed)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::Relaxed);
        // Has the thread look.
        drop(TcpStream::connect(self.address));
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

impl Shared {
    fn accept(self: &Arc<Self>, listener: &TcpListener, to: SocketAddr) {
        for near in listener.incoming() {
            if self.is_over.load(Ordering::Relaxed) {
                return;
            }
            let (Ok(near), Ok(far)) = (near, TcpStream::connect(to)) else { continue };
            let number = self.connections.fetch_add(1, Ordering::Relaxed);
            for (i, (from, into)) in [(&near, &far), (&far, &near)].into_iter().enumerate() {
                from.set_nodelay(true).unwrap();
                let (from, into) = (from.try_clone().unwrap(), into.try_clone().unwrap());
                let (shared, seed) = (Arc::clone(self), self.seed ^ (2 * number + i as u64).wrapping_mul(0x9e37_79b9));
                // It ends with its connection.
                std::thread::spawn(move || shared.pump(&from, &into, &mut Rng::new(seed)));
            }
        }
    }

    fn pump(&self, mut from: &TcpStream, mut into: &TcpStream, rng: &mut Rng) {
        let mut buffer = [0; 16 << 10];
        let happens = |rng: &mut Rng, n: u64| n > 0 && rng.one_in(n);
        loop {
            let piece = 1 + rng.below(self.faults.piece.min(buffer.len() as u64)) as usize;
            let read = match from.read(&mut buffer[..piece]) {
                Ok(0) => {
                    let _ = into.shutdown(Shutdown::Write);
                    return;
                }
                Ok(read) => read,
                Err(_) => break,
            };
            if happens(rng, self.faults.stall) {
                (0..rng.below(200)).for_each(|_| std::thread::yield_now());
            }
            let is_last = happens(rng, self.faults.reset);
            let passes = if is_last { rng.below(read as u64 + 1) as usize } else { read };
            if into.write_all(&buffer[..passes]).is_err() {
                break;
            }
            if is_last {
                self.resets.fetch_add(1, Ordering::Relaxed);
                break;
            }
        }
        let _ = from.shutdown(Shutdown::Both);
        let _ = into.shutdown(Shutdown::Both);
    }
}
