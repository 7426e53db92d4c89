//! One end of a lane, packed in a word: which block, which slot of it, and how many blocks came before.

/// A position in a lane.
///
/// ```text
///  63            32 31           8  7   6      0
/// +----------------+--------------+---+----------+
/// |      lap       | block index  | C |  offset  |
/// +----------------+--------------+---+----------+
/// ```
///
/// * **lap**: blocks of this lane before this one, modulo 2^32. It makes every cursor value new, so a compare-exchange
///   of a thread that slept through a block's reuse fails.
/// * **block index**: the block in its pool, or [`Cursor::NO_BLOCK`] while the lane has none.
/// * **C**: the lane is closed. Only set in the tail.
/// * **offset**: the next slot, from 0 up to and including the block's capacity.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Cursor(pub(crate) u64);

const LAP_SHIFT: u32 = 32;
const BLOCK_SHIFT: u32 = 8;
const BLOCK_MASK: u64 = 0xff_ffff;
const CLOSED: u64 = 1 << 7;
const OFFSET_MASK: u64 = 0x7f;

impl Cursor {
    /// The block index that means "none".
    pub(crate) const NO_BLOCK: u32 = BLOCK_MASK as u32;
    /// A lane before its first job.
    pub(crate) const START: Cursor = Cursor::new(0, Self::NO_BLOCK, 0);

    pub(crate) const fn new(lap: u32, block: u32, offset: usize) -> Cursor {
        Cursor(((lap as u64) << LAP_SHIFT) | ((block as u64) << BLOCK_SHIFT) | offset as u64)
    }

    #[inline(always)]
    pub(crate) fn lap(self) -> u32 {
        (self.0 >> LAP_SHIFT) as u32
    }

    #[inline(always)]
    pub(crate) fn block(self) -> u32 {
        ((self.0 >> BLOCK_SHIFT) & BLOCK_MASK) as u32
    }

    #[inline(always)]
    pub(crate) fn offset(self) -> usize {
        (self.0 & OFFSET_MASK) as usize
    }

    #[inline(always)]
    pub(crate) fn has_block(self) -> bool {
        self.block() != Self::NO_BLOCK
    }

    #[inline(always)]
    pub(crate) fn is_closed(self) -> bool {
        self.0 & CLOSED != 0
    }

    pub(crate) fn closed(self) -> Cursor {
        Cursor(self.0 | CLOSED)
    }

    #[inline(always)]
    pub(crate) fn open(self) -> Cursor {
        Cursor(self.0 & !CLOSED)
    }

    /// The same block, `n` slots on.
    #[inline(always)]
    pub(crate) fn advance(self, n: usize) -> Cursor {
        Cursor(self.0 + n as u64)
    }

    /// The start of what was linked behind this place: a block, or anything beyond the indices of blocks for none. The
    /// lap grows when a block is left. Keeps the closed bit.
    pub(crate) fn follow(self, next: u32) -> Cursor {
        let lap = if self.has_block() { self.lap().wrapping_add(1) } else { self.lap() };
        let block = if next < Self::NO_BLOCK - 1 { next } else { Self::NO_BLOCK };
        Cursor(Cursor::new(lap, block, 0).0 | (self.0 & CLOSED))
    }

    /// Slots from `earlier` up to here, with blocks of `capacity` slots.
    pub(crate) fn distance(self, earlier: Cursor, capacity: usize) -> usize {
        let laps = self.lap().wrapping_sub(earlier.lap()) as i32 as isize;
        let slots = laps * capacity as isize + self.offset() as isize - earlier.offset() as isize;
        usize::try_from(slots).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_do_not_overlap() {
        let c = Cursor::new(u32::MAX, 0x12_3456, 63);
        assert_eq!((c.lap(), c.block(), c.offset(), c.is_closed()), (u32::MAX, 0x12_3456, 63, false));
        let closed = c.closed();
        assert_eq!(
            (closed.lap(), closed.block(), closed.offset(), closed.is_closed()),
            (u32::MAX, 0x12_3456, 63, true)
        );
        assert_eq!(closed.open(), c);
        assert_eq!(c.follow(7), Cursor::new(0, 7, 0));
        assert!(closed.follow(7).is_closed());
        let none = c.follow(Cursor::NO_BLOCK - 1);
        assert_eq!(none, Cursor::new(0, Cursor::NO_BLOCK, 0));
        assert_eq!(none.follow(3), Cursor::new(0, 3, 0));
    }

    #[test]
    fn distance_spans_blocks_and_wraps() {
        let a = Cursor::new(u32::MAX, 1, 60);
        let b = Cursor::new(1, 2, 5);
        assert_eq!(b.distance(a, 63), 63 - 60 + 63 + 5);
        assert_eq!(a.distance(a, 63), 0);
        // A block's end and the next block's start are the same place.
        assert_eq!(a.follow(9).distance(a.advance(3), 63), 0);
        assert_eq!(a.advance(3).distance(a.follow(9), 63), 0);
    }
}
