//! What the host knows of the row table, without asking the device.
//!
//! Place `slot` is the home of the sequence in that slot of the cache: the row of its newest token is there, so that whatever is chosen after it follows in the
//! same place. The other rows of a prompt take places beyond the homes, homes of slots that no sequence has, and at last its own.

/// A row that is under way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    /// Slot of its sequence in the cache.
    pub(super) slot: usize,
    /// Its position in the sequence.
    pub(super) position: u32,
    /// Steps that it still needs; of a row that may leave by itself, those after which it is looked at.
    pub(super) left: u32,
    /// Whether it may leave by itself: then only what comes back tells.
    pub(super) open: bool,
    /// Whether a token is chosen after it.
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

    /// Slot of the sequence whose row a place has.
    pub(super) fn holder(&self, place: usize) -> Option<usize> {
        self.places[place].map(|row| row.slot)
    }

    /// Whether a sequence has a row.
    pub(super) fn holds(&self, slot: usize) -> bool {
        self.under_way().any(|row| row.slot == slot)
    }

    pub(super) fn under_way(&self) -> impl Iterator<Item = &Place> {
        self.places.iter().flatten()
    }

    /// Steps until the first row is finished or looked at; none if there is no row.
    pub(super) fn steps(&self) -> Option<u32> {
        self.under_way().map(|row| row.left).min()
    }

    /// Places up to the last one that is taken, and up to the last one after which a token may be chosen.
    pub(super) fn extent(&self) -> (u32, u32) {
        let last = |wanted: &dyn Fn(&Place) -> bool| {
            let place = self.places.iter().rposition(|row| row.as_ref().is_some_and(wanted));
            place.map_or(0, |place| place as u32 + 1)
        };
        (last(&|_| true), last(&|row| row.decodes))
    }

    /// Takes note of so many steps; gives the row if it is finished by them, or may be.
    pub(super) fn advance(&mut self, place: usize, steps: u32) -> Option<Place> {
        let row = self.places[place].as_mut()?;
        if row.open {
            return Some(*row);
        }
        row.left -= steps;
        (row.left == 0).then_some(*row)
    }
}
