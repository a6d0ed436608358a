//! Slices with Python's semantics. minijinja's own panic for an empty text with a negative step, and miscount if both ends are given.

use minijinja::value::ValueKind;
use minijinja::{Error, ErrorKind, State, Value};

use super::budget::{Budget, Weights};

/// Computes `value[start:stop:step]`.
pub(super) fn slice(state: &State<'_, '_>, operands: &[Value]) -> Result<Value, Error> {
    let wrong = |problem: String| Error::new(ErrorKind::InvalidOperation, problem);
    let [value, start, stop, step] = operands else {
        return Err(wrong("a slice needs a value, a start, a stop and a step".to_owned()));
    };
    let index = |value: &Value| match value {
        none if none.is_none() => Ok(None),
        _ => i64::try_from(value.clone()).map(|index| Some(i128::from(index))),
    };
    let (start, stop, step) = (index(start)?, index(stop)?, index(step)?.unwrap_or(1));
    if step == 0 {
        return Err(wrong("cannot slice by step size of 0".to_owned()));
    }
    Budget::of(state).count(value, Weights::SPLIT)?;
    if let Some(text) = value.as_str() {
        let characters: Vec<char> = text.chars().collect();
        return Ok(places(characters.len(), start, stop, step).map(|at| characters[at]).collect::<String>().into());
    }
    if value.is_undefined() || value.is_none() {
        return Ok(Value::from(Vec::<Value>::new()));
    }
    let Some(items) = value.as_object().filter(|_| value.kind() != ValueKind::Map) else {
        return Err(wrong(format!("value of type {} cannot be sliced", value.kind())));
    };
    let items: Vec<Value> = items.try_iter().into_iter().flatten().collect();
    Ok(places(items.len(), start, stop, step).map(|at| items[at].clone()).collect())
}

/// Indices of a slice, as Python's `slice.indices` and `range` give them.
fn places(length: usize, start: Option<i128>, stop: Option<i128>, step: i128) -> impl Iterator<Item = usize> {
    let length = length as i128;
    let (lower, upper) = if step < 0 { (-1, length - 1) } else { (0, length) };
    let clamp = |index: i128| if index < 0 { (index + length).max(lower) } else { index.min(upper) };
    let (first, end) = if step < 0 { (upper, lower) } else { (lower, upper) };
    let (start, stop) = (start.map_or(first, clamp), stop.map_or(end, clamp));
    let inside = move |at: &i128| if step < 0 { *at > stop } else { *at < stop };
    std::iter::successors(Some(start), move |at| Some(at + step))
        .take_while(inside)
        .filter_map(|at| usize::try_from(at).ok())
}
