//! Which server gets a job. Plain data: who can be reached, the caller says.

use super::crc::crc32;

/// Which server gets a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Routing {
    /// By the hash of its unique key, as the Perl client has it, so that equal keys of all clients meet on one server; a job
    /// without one as with [`Routing::RoundRobin`]. The default.
    #[default]
    UniqueHash,
    /// One after the other, as often as their weights say, from one that chance decides: see
    /// [`ClientBuilder::seed`](super::ClientBuilder::seed).
    RoundRobin,
    /// That with the fewest jobs of this client for its weight; of equals one that chance decides.
    FewestJobs,
}

/// Chooses.
#[derive(Debug)]
pub(super) struct Router {
    routing: Routing,
    weights: Vec<u32>,
    /// What each is owed: smooth weighted round robin, which spreads the turns of a heavy server.
    owed: Vec<i64>,
    /// Whose turn is first.
    first: usize,
}

impl Router {
    /// The seed decides whose turn is first, as often as the weights say.
    pub(super) fn new(routing: Routing, weights: Vec<u32>, seed: u64) -> Router {
        let total: u64 = weights.iter().map(|weight| u64::from(*weight)).sum();
        let mut left = seed % total.max(1);
        let is_before = |weight: &&u32| {
            let after = left.checked_sub(u64::from(**weight));
            left = after.unwrap_or(left);
            after.is_some()
        };
        let first = weights.iter().take_while(is_before).count();
        let mut owed = vec![0; weights.len()];
        if let (Some(owed), Some(weight)) = (owed.get_mut(first), weights.get(first)) {
            let most = weights.iter().max().unwrap_or(weight);
            // As little as makes it the first.
            *owed = i64::from(*most) - i64::from(*weight) + i64::from(first > 0);
        }
        Router { routing, owed, weights, first }
    }

    /// The server for a job with this unique key, of those that `is_usable`; `jobs` says how many each has.
    pub(super) fn pick(
        &mut self,
        key: Option<&[u8]>,
        is_usable: impl Fn(usize) -> bool,
        jobs: impl Fn(usize) -> usize,
    ) -> Option<usize> {
        let servers = self.weights.len();
        match (self.routing, key) {
            (Routing::UniqueHash, Some(key)) => {
                let first = hash(key) as usize;
                (0..servers).map(|offset| (first + offset) % servers).find(|i| is_usable(*i))
            }
            (Routing::FewestJobs, _) => {
                // Compared as fractions: a / wa < b / wb.
                let usable = (0..servers).map(|i| (self.first + i) % servers).filter(|i| is_usable(*i));
                usable.min_by(|a, b| {
                    let of = |x: usize, y: usize| jobs(x) as u64 * u64::from(self.weights[y]);
                    of(*a, *b).cmp(&of(*b, *a))
                })
            }
            (Routing::UniqueHash | Routing::RoundRobin, _) => self.turn(is_usable),
        }
    }

    fn turn(&mut self, is_usable: impl Fn(usize) -> bool) -> Option<usize> {
        let mut total = 0;
        let mut best: Option<usize> = None;
        for i in (0..self.weights.len()).filter(|i| is_usable(*i)) {
            let weight = i64::from(self.weights[i]);
            self.owed[i] += weight;
            total += weight;
            if best.is_none_or(|best| self.owed[i] > self.owed[best]) {
                best = Some(i);
            }
        }
        self.owed[best?] -= total;
        best
    }
}

/// The Perl client's: 15 bits.
pub(super) fn hash(key: &[u8]) -> u32 {
    (crc32(key) >> 16) & 0x7fff
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picks(router: &mut Router, key: Option<&[u8]>, usable: &[bool], times: usize) -> Vec<Option<usize>> {
        (0..times).map(|_| router.pick(key, |i| usable[i], |_| 0)).collect()
    }

    #[test]
    fn gw_04_the_hash_is_that_of_the_perl_client() {
        assert_eq!(hash(b"123456789"), 0x4bf4);
        let mut router = Router::new(Routing::UniqueHash, vec![1; 3], 0);
        let home = 0x4bf4 % 3;
        assert_eq!(router.pick(Some(b"123456789"), |_| true, |_| 0), Some(home));
        assert_eq!(router.pick(Some(b"123456789"), |i| i != home, |_| 0), Some((home + 1) % 3));
    }

    #[test]
    fn cl_18_turns_go_round_and_leave_out_who_is_gone() {
        let mut router = Router::new(Routing::UniqueHash, vec![1; 3], 0);
        let all = picks(&mut router, None, &[true; 3], 6);
        assert_eq!(all, [0, 1, 2, 0, 1, 2].map(Some));
        assert_eq!(picks(&mut router, None, &[true, false, true], 4), [0, 2, 0, 2].map(Some));
        assert_eq!(picks(&mut router, Some(b"key"), &[false; 3], 1), [None]);
        assert_eq!(picks(&mut router, None, &[false; 3], 1), [None]);
    }

    #[test]
    fn cl_20_weights_are_kept_and_spread() {
        let mut router = Router::new(Routing::RoundRobin, vec![3, 1], 0);
        let picked = picks(&mut router, Some(b"key"), &[true; 2], 1000);
        assert_eq!(picked.iter().filter(|i| **i == Some(0)).count(), 750);
        assert!(picked.windows(4).all(|turn| turn.contains(&Some(1))));
    }

    #[test]
    fn gw_04_the_first_turn_is_anybodys() {
        for routing in [Routing::UniqueHash, Routing::RoundRobin, Routing::FewestJobs] {
            let first = |seed| Router::new(routing, vec![3, 1, 2], seed).pick(None, |_| true, |_| 0);
            assert_eq!((0..6).filter_map(first).collect::<Vec<_>>(), [0, 0, 0, 1, 2, 2]);
        }
        // And it is a turn like others.
        let mut router = Router::new(Routing::RoundRobin, vec![1; 3], 1);
        assert_eq!(picks(&mut router, None, &[true; 3], 6), [1, 0, 2, 1, 0, 2].map(Some));
        let mut router = Router::new(Routing::RoundRobin, vec![3, 1], 3);
        let picked = picks(&mut router, None, &[true; 2], 1000);
        assert_eq!(picked.iter().filter(|i| **i == Some(0)).count(), 750);
    }

    #[test]
    fn the_fewest_jobs_count_by_weight() {
        let mut router = Router::new(Routing::FewestJobs, vec![2, 1], 0);
        assert_eq!(router.pick(None, |_| true, |i| [5, 3][i]), Some(0));
        assert_eq!(router.pick(None, |_| true, |i| [7, 3][i]), Some(1));
    }
}
