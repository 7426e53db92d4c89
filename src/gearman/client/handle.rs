//! The caller's end of a job.

use super::error::ClientError;
use super::reply::Reply;
use super::update::RemoteId;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

/// A foreground job: wait for its result, or poll it as a future of any executor.
///
/// # Cancel safety
/// Dropping it detaches the job: the job runs, and its result is thrown away. The protocol has no way to take a job back
/// but the text command `cancel job`.
#[must_use = "dropping a handle detaches the job; submit it in the background if no result is wanted"]
pub struct RemoteHandle(pub(super) Reply<Vec<u8>>);

impl RemoteHandle {
    /// Waits for the result.
    ///
    /// # Errors
    /// Why there is none.
    pub fn wait(self) -> Result<Vec<u8>, ClientError> {
        self.0.wait()
    }

    /// Waits for the result, but not longer than `limit`.
    ///
    /// # Errors
    /// Hands itself back when the job has not ended yet.
    pub fn wait_timeout(self, limit: Duration) -> Result<Result<Vec<u8>, ClientError>, Self> {
        self.0.wait_timeout(limit).map_err(RemoteHandle)
    }

    /// Whether the job has ended.
    pub fn is_finished(&self) -> bool {
        self.0.is_finished()
    }

    /// Under which name the server knows the job, once it has accepted it. A job that is submitted again gets another.
    pub fn id(&self) -> Option<RemoteId> {
        self.0.id()
    }

    /// Waits until the server has accepted the job: its name there; nothing when it has ended without being accepted.
    pub fn wait_created(&self) -> Option<RemoteId> {
        self.0.wait_created();
        self.id()
    }
}

impl Future for RemoteHandle {
    type Output = Result<Vec<u8>, ClientError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(cx)
    }
}

impl fmt::Debug for RemoteHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemoteHandle")
            .field("id", &self.id())
            .field("is_finished", &self.is_finished())
            .finish_non_exhaustive()
    }
}
