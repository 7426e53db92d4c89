//! What the standard library does not set of a socket.

use std::os::fd::{AsRawFd, BorrowedFd};

/// Connections that may wait to be accepted; the kernel has a limit of its own (`net.core.somaxconn`).
const BACKLOG: libc::c_int = 1024;

/// Lets more connections wait on a socket that is listened on than the standard library's 128.
pub(crate) fn deepen_backlog(socket: BorrowedFd<'_>) {
    // SAFETY: the descriptor is open while it is borrowed, and the call takes no memory. Called again it sets the backlog.
    let done = unsafe { libc::listen(socket.as_raw_fd(), BACKLOG) };
    debug_assert_eq!(done, 0, "{}", std::io::Error::last_os_error());
}
