//! Names of the table's entries: an index and a generation each, so that a name is never another entry's.

use slotmap::{Key, KeyData, new_key_type};

/// A job.
pub(super) type JobKey = super::slots::Key;

new_key_type! {
    /// A connection.
    pub(super) struct ConnKey;
    /// A function.
    pub(super) struct FunctionKey;
    /// A job in a remote worker's hands.
    pub(super) struct RunKey;
}

impl ConnKey {
    pub(super) fn number(self) -> u64 {
        self.data().as_ffi()
    }

    /// The key with this number, which need not be anybody's.
    pub(super) fn from_number(number: u64) -> ConnKey {
        KeyData::from_ffi(number).into()
    }
}
