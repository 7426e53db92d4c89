//! Where inputs come from: names, the files below folders, and lists; one at a time, and never waiting.

mod list;
mod walk;

use crate::bell::Bell;
pub(crate) use list::List;
use std::io;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;
use std::task::Poll;

/// The name that stands for standard input.
pub(crate) const STDIN: &str = "-";

/// An input, or a place where there might be some.
pub(crate) type Input = Result<PathBuf, Unreadable>;

/// A place that could not be looked at.
#[derive(Debug)]
pub(crate) struct Unreadable {
    pub(crate) path: PathBuf,
    pub(crate) error: io::Error,
}

/// What the command line names.
pub(crate) enum Place {
    /// A file, a folder, or a word for a command.
    Named(PathBuf),
    /// The bytes of standard input, for a body to read.
    Stdin,
    List(List),
}

/// All inputs, in order. [`Poll::Pending`] when a list has no entry yet: the bell rings when it has.
pub(crate) struct Inputs {
    places: std::vec::IntoIter<Place>,
    list: Option<list::Entries>,
    files: Option<Box<dyn Iterator<Item = Input> + Send>>,
    /// A list comes from standard input, and bodies read it.
    dash_is_taken: bool,
    bell: Arc<Bell>,
}

impl Inputs {
    /// With `dash_is_taken`, an entry `-` of a list is an error.
    pub(crate) fn new(places: Vec<Place>, dash_is_taken: bool, bell: Arc<Bell>) -> Inputs {
        Inputs { places: places.into_iter(), list: None, files: None, dash_is_taken, bell }
    }

    /// Whether some are read from a list, which can be read only once. Asked before the first one is taken.
    pub(crate) fn have_lists(&self) -> bool {
        self.places.as_slice().iter().any(|place| matches!(place, Place::List(_)))
    }

    /// Opens the next entry of the open list, or the next place; breaks with what is no folder to open.
    fn open_next(&mut self) -> ControlFlow<Option<Poll<Input>>> {
        let path = if let Some(list) = &self.list {
            match list.next() {
                Poll::Ready(Some(Ok(path))) if self.dash_is_taken && path.as_os_str() == STDIN => {
                    let error = io::Error::other("standard input is the list; write ./- for a file of that name");
                    return ControlFlow::Break(Some(Poll::Ready(Err(Unreadable { path, error }))));
                }
                Poll::Ready(Some(Ok(path))) => path,
                Poll::Ready(Some(Err(error))) => return ControlFlow::Break(Some(Poll::Ready(Err(error)))),
                Poll::Pending => return ControlFlow::Break(Some(Poll::Pending)),
                Poll::Ready(None) => {
                    self.list = None;
                    return ControlFlow::Continue(());
                }
            }
        } else {
            match self.places.next() {
                Some(Place::Named(path)) => path,
                Some(Place::Stdin) => return ControlFlow::Break(Some(Poll::Ready(Ok(STDIN.into())))),
                Some(Place::List(list)) => {
                    self.list = Some(list.start(Arc::clone(&self.bell)));
                    return ControlFlow::Continue(());
                }
                None => return ControlFlow::Break(None),
            }
        };
        self.files = Some(walk::files(path));
        ControlFlow::Continue(())
    }
}

impl Iterator for Inputs {
    type Item = Poll<Input>;

    fn next(&mut self) -> Option<Poll<Input>> {
        loop {
            if let Some(input) = self.files.as_mut().and_then(Iterator::next) {
                return Some(Poll::Ready(input));
            }
            self.files = None;
            if let ControlFlow::Break(next) = self.open_next() {
                return next;
            }
        }
    }
}
