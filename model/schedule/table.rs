//! The host's view of the row table, kept without reading from the device.
//!
//! Entry `slot` is the home of the sequence in that slot of the cache. It holds the row of the sequence's newest token, so that the row after it uses the same
//! entry. Other prompt rows take entries beyond the homes, then homes of empty slots, and last their own sequence's home.

/// A row that is under way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    /// Slot of its sequence in the cache.
    pub(super) slot: usize,
    /// Its position in the sequence.
    pub(super) position: u32,
    /// Steps left; for a row with early exit, the steps until its next check.
    pub(super) left: u32,
    /// Whether it may exit early. Only the result then tells whether it is finished.
    pub(super) open: bool,
    /// Whether a token is chosen from it.
    pub(super) decodes: bool,
}

/// The rows that are under way.
pub(super) struct Table {
    places: Vec<Option<Place>>,
}

impl Table {
    pub(super) fn new(rows: u32) -> Self {
        Self { places: vec![None; rows as usize] }
    }

    pub(super) fn rows(&self) -> usize {
        self.places.len()
    }

    pub(super) fn is_free(&self, place: usize) -> bool {
        self.places[place].is_none()
    }

    pub(super) fn take(&mut self, place: usize, row: Place) {
        self.places[place] = Some(row);
    }

    pub(super) fn clear(&mut self, place: usize) {
        self.places[place] = None;
    }

    /// Slot of the sequence that owns the row in an entry.
    pub(super) fn holder(&self, place: usize) -> Option<usize> {
        self.places[place].map(|row| row.slot)
    }

    /// Whether a sequence has a row in the table.
    pub(super) fn holds(&self, slot: usize) -> bool {
        self.under_way().any(|row| row.slot == slot)
    }

    pub(super) fn under_way(&self) -> impl Iterator<Item = &Place> {
        self.places.iter().flatten()
    }

    /// Steps until the first row is finished or checked; none if the table is empty.
    pub(super) fn steps(&self) -> Option<u32> {
        self.under_way().map(|row| row.left).min()
    }

    /// Entries up to the last used one, and entries up to the last from which a token may be chosen.
    pub(super) fn extent(&self) -> (u32, u32) {
        let last = |wanted: &dyn Fn(&Place) -> bool| {
            let place = self.places.iter().rposition(|row| row.as_ref().is_some_and(wanted));
            place.map_or(0, |place| place as u32 + 1)
        };
        (last(&|_| true), last(&|row| row.decodes))
    }

    /// Applies `steps` steps to a row. Returns the row if it is finished, or may be.
    pub(super) fn advance(&mut self, place: usize, steps: u32) -> Option<Place> {
        let row = self.places[place].as_mut()?;
        if row.open {
            return Some(*row);
        }
        row.left -= steps;
        (row.left == 0).then_some(*row)
    }
}
