//! Budget of a rendering: bounds the total size of its values, so that neither one huge value nor many smaller ones exhaust memory or time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use minijinja::value::{Object, ValueKind};
use minijinja::{Error, ErrorKind, State, Value};

use super::python::Tuple;

/// Maximum number of bytes of all values that a rendering makes or scans. A conversation of 100 kB takes several million.
pub(super) const MOST: u64 = 128 << 20;

/// Bytes charged for an item of a list.
pub(super) const ITEM: u64 = 32;

/// Maximum nesting of lists: values are dropped, compared and printed by recursion.
const DEPTH: usize = 64;

/// Charge per byte of a string, by the operation that follows.
#[derive(Clone, Copy)]
pub(super) struct Weights {
    /// For a string that is the value itself.
    whole: u64,
    /// For a string in a list or a map.
    inside: u64,
}

impl Weights {
    /// The value is copied or compared.
    pub(super) const COPIED: Self = Self { whole: 1, inside: 1 };
    /// The value may be split into a list of characters.
    pub(super) const SPLIT: Self = Self { whole: ITEM, inside: 1 };
    /// The value may be printed with escapes.
    pub(super) const PRINTED: Self = Self { whole: ITEM, inside: 6 };
}

/// Bytes that one rendering has used so far.
#[derive(Debug, Default)]
pub(super) struct Budget(AtomicU64);

impl Object for Budget {}

impl Budget {
    /// The budget of this rendering.
    pub(super) fn of(state: &State<'_, '_>) -> Arc<Self> {
        state.get_or_set_temp_object("budget", Self::default)
    }

    /// Charges bytes; fails if they exceed the budget.
    pub(super) fn spend(&self, bytes: u64) -> Result<(), Error> {
        let before = self.0.fetch_add(bytes, Ordering::Relaxed);
        if before.saturating_add(bytes) <= MOST {
            return Ok(());
        }
        self.0.store(MOST, Ordering::Relaxed);
        let problem = format!("the template makes more than {} MiB of values", MOST >> 20);
        Err(Error::new(ErrorKind::InvalidOperation, problem))
    }

    /// Charges a value with everything in it.
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

    /// Charges a result. A lazy sequence, which would be computed again at every use, becomes a list.
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

/// Whether a value is part of the running template rather than data. Through such a value a list could contain itself.
pub(super) fn has_state(value: &Value) -> bool {
    value.as_object().is_some_and(|object| {
        let name = object.type_name();
        name.contains("::vm::") || name.ends_with("::Namespace")
    })
}
