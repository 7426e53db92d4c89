//! Operations of an engine, checked one by one against a sequential model.
//!
//! The engine has one worker, held in a gate while operations are applied, so what is queued where is known exactly.
//! [`Operation::Run`](operation::Operation::Run) opens the gate, waits until everything queued has run, and closes it
//! again. Time passes when an operation says so ([`Elapse`](operation::Operation::Elapse)), but for what is due at once: that is
//! the engine's clock's to do, and is waited for. The property test draws operations, the fuzz target and its replay decode them from bytes.

mod batches;
mod borrows;
mod consumers;
pub(crate) mod driver;
mod finish;
pub(crate) mod operation;
mod reference;
mod room;
mod runs;
mod started;
mod times;
mod waiters;

/// Decodes `bytes`, which may be any, and runs them.
pub(crate) fn run_bytes(bytes: &[u8]) {
    let (operations, finish) = operation::decode(bytes);
    driver::run(&operations, finish);
}
