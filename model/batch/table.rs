//! What the host knows of the row table of a batch, without asking the device.

/// A row that is under way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    /// Its sequence's place in the cache.
    pub(super) slot: usize,
    /// Steps that it still needs; of a row that may leave by itself, those after which it is looked at.
    pub(super) left: u32,
    /// Whether it may leave by itself: then only what comes back tells.
    pub(super) open: bool,
    /// Whether a token is chosen behind it.
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

    /// A place that nobody has.
    pub(super) fn free(&self) -> Option<usize> {
        self.places.iter().position(Option::is_none)
    }

    pub(super) fn take(&mut self, place: usize, row: Place) {
        self.places[place] = Some(row);
    }

    pub(super) fn clear(&mut self, place: usize) {
        self.places[place] = None;
    }

    /// Whose row a place has.
    pub(super) fn holder(&self, place: usize) -> Option<usize> {
        self.places[place].map(|row| row.slot)
    }

    /// Whether a sequence has a row.
    pub(super) fn holds(&self, slot: usize) -> bool {
        self.places.iter().flatten().any(|row| row.slot == slot)
    }

    /// Steps until the first row is finished or looked at; none if there is no row.
    pub(super) fn steps(&self) -> Option<u32> {
        self.places.iter().flatten().map(|row| row.left).min()
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
