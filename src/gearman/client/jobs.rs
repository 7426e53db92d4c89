//! The table of a client's jobs.

use super::job::Job;

/// A job's place in the table; of one that has ended it is void, though another job may be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Key {
    index: u32,
    generation: u32,
}

/// An attempt of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Attempt {
    pub(super) key: Key,
    pub(super) number: u32,
}

/// All jobs whose end is not known.
#[derive(Default)]
pub(super) struct Jobs {
    places: Vec<(u32, Option<Box<Job>>)>,
    free: Vec<u32>,
}

impl Jobs {
    #[cfg(test)]
    pub(super) fn test_key(&mut self) -> Key {
        self.places.push((0, None));
        Key { index: self.places.len() as u32 - 1, generation: 0 }
    }

    pub(super) fn insert(&mut self, job: Box<Job>) -> Key {
        if let Some(index) = self.free.pop() {
            let place = &mut self.places[index as usize];
            place.1 = Some(job);
            return Key { index, generation: place.0 };
        }
        let index = u32::try_from(self.places.len()).expect("fewer than 2^32 jobs at a time");
        self.places.push((0, Some(job)));
        Key { index, generation: 0 }
    }

    pub(super) fn get(&mut self, key: Key) -> Option<&mut Job> {
        let place = self.places.get_mut(key.index as usize)?;
        place.1.as_deref_mut().filter(|_| place.0 == key.generation)
    }

    /// The job, if this is its attempt still.
    pub(super) fn current(&mut self, attempt: Attempt) -> Option<&mut Job> {
        self.get(attempt.key).filter(|job| job.attempt == attempt.number)
    }

    pub(super) fn remove(&mut self, key: Key) -> Option<Box<Job>> {
        self.get(key)?;
        let place = &mut self.places[key.index as usize];
        place.0 = place.0.wrapping_add(1);
        self.free.push(key.index);
        place.1.take()
    }
}
