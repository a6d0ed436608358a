//! What a rendering may make: a sum over all values, so that neither a huge one nor many of them get through.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use minijinja::value::{Object, ValueKind};
use minijinja::{Error, ErrorKind, State, Value};

use super::python::Tuple;

/// Bytes of all values that a rendering makes or looks through, at most. A conversation of 100 kB takes some millions.
pub(super) const MOST: u64 = 128 << 20;

/// Bytes that an item of a list counts.
pub(super) const ITEM: u64 = 32;

/// Lists in lists, at most: values are dropped, compared and printed by recursion.
const DEPTH: usize = 64;

/// What a byte of a string counts, by what is about to happen to it.
#[derive(Clone, Copy)]
pub(super) struct Weights {
    /// If the string is the value.
    whole: u64,
    /// If it is in a list or a map.
    inside: u64,
}

impl Weights {
    /// Copied or compared.
    pub(super) const COPIED: Self = Self { whole: 1, inside: 1 };
    /// Taken apart into a list of characters, perhaps.
    pub(super) const SPLIT: Self = Self { whole: ITEM, inside: 1 };
    /// Printed with escapes, perhaps.
    pub(super) const PRINTED: Self = Self { whole: ITEM, inside: 6 };
}

/// What one rendering has made so far.
#[derive(Debug, Default)]
pub(super) struct Budget(AtomicU64);

impl Object for Budget {}

impl Budget {
    /// The budget of this rendering.
    pub(super) fn of(state: &State<'_, '_>) -> Arc<Self> {
        state.get_or_set_temp_object("budget", Self::default)
    }

    /// Counts bytes.
    pub(super) fn spend(&self, bytes: u64) -> Result<(), Error> {
        let before = self.0.fetch_add(bytes, Ordering::Relaxed);
        if before.saturating_add(bytes) <= MOST {
            return Ok(());
        }
        self.0.store(MOST, Ordering::Relaxed);
        let problem = format!("the template makes more than {} MiB of values", MOST >> 20);
        Err(Error::new(ErrorKind::InvalidOperation, problem))
    }

    /// Counts a value with all that is in it.
    pub(super) fn count(&self, value: &Value, weights: Weights) -> Result<(), Error> {
        self.count_within(value, weights, 0)
    }

    fn count_within(&self, value: &Value, weights: Weights, depth: usize) -> Result<(), Error> {
        self.spend(ITEM)?;
        if let Some(text) = value.as_str() {
            let weight = if depth == 0 { weights.whole } else { weights.inside };
            return self.spend((text.len() as u64).saturating_mul(weight));
        }
        let refused = |problem: &'static str| Err(Error::new(ErrorKind::InvalidOperation, problem));
        if depth > DEPTH {
            return refused("lists are nested too deeply");
        }
        let Some(object) = value.as_object() else { return Ok(()) };
        if depth > 0 && has_state(value) {
            return refused("a list, map or namespace can hold only data");
        }
        match value.kind() {
            ValueKind::Seq | ValueKind::Iterable => object
                .try_iter()
                .into_iter()
                .flatten()
                .try_for_each(|item| self.count_within(&item, weights, depth + 1)),
            ValueKind::Map => object.try_iter_pairs().into_iter().flatten().try_for_each(|(key, item)| {
                self.count_within(&key, weights, depth + 1)?;
                self.count_within(&item, weights, depth + 1)
            }),
            _ => Ok(()),
        }
    }

    /// A value that is complete: what would be worked out again at every use becomes a list, and all of it is counted.
    pub(super) fn complete(&self, value: Value) -> Result<Value, Error> {
        let lazy = value.kind() == ValueKind::Iterable
            || value.kind() == ValueKind::Seq
                && value.downcast_object_ref::<Vec<Value>>().is_none()
                && value.downcast_object_ref::<Tuple>().is_none();
        if !lazy {
            self.count(&value, Weights::COPIED)?;
            return Ok(value);
        }
        let mut items = Vec::new();
        for item in value.try_iter()? {
            self.count_within(&item, Weights::COPIED, 1)?;
            items.push(item);
        }
        Ok(Value::from(items))
    }
}

/// Whether a value is no data but part of the running template, through which a list could hold itself.
pub(super) fn has_state(value: &Value) -> bool {
    value.as_object().is_some_and(|object| {
        let name = object.type_name();
        name.contains("::vm::") || name.ends_with("::Namespace")
    })
}
