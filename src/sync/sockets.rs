//! What the standard library does not set of a socket.

use std::os::fd::{AsRawFd, BorrowedFd};

/// Lets so many connections wait to be accepted on a socket that is listened on; the kernel has a limit of its own
/// (`net.core.somaxconn`).
pub(crate) fn set_backlog(socket: BorrowedFd<'_>, connections: libc::c_int) {
    // SAFETY: the descriptor is open while it is borrowed, and the call takes no memory. Called again it sets the backlog.
    let done = unsafe { libc::listen(socket.as_raw_fd(), connections) };
    debug_assert_eq!(done, 0, "{}", std::io::Error::last_os_error());
}
