//! Damages JSON values and keeps them valid JSON: missing, mistyped, out-of-range and misplaced values.

use fastrand::Rng;
use serde_json::{Map, Value, json};

use crate::mutate::{self, NUMBERS, once_in, pick};

/// Text of a damaged JSON value.
pub(crate) fn damaged(rng: &mut Rng, whole: &Value) -> Vec<u8> {
    let mut value = whole.clone();
    for _ in 0..rng.usize(..5) {
        let replacement = if once_in(rng, 4) { some_node(rng, whole) } else { any(rng, 3) };
        change(rng, &mut value, &replacement);
    }
    let mut text = value.to_string().into_bytes();
    if once_in(rng, 6) {
        mutate::bytes(rng, &mut text);
    }
    text
}

/// Random small value.
fn any(rng: &mut Rng, depth: u32) -> Value {
    match rng.u32(..if depth == 0 { 5 } else { 8 }) {
        0 => Value::Null,
        1 => Value::Bool(rng.bool()),
        2 | 3 => serde_json::from_str(pick(rng, &NUMBERS)).unwrap_or(json!(1e300)),
        4 => Value::String(mutate::text(rng)),
        5 => (0..rng.usize(..4)).map(|_| any(rng, depth - 1)).collect(),
        6 => (0..rng.usize(..4)).map(|_| (mutate::text(rng), any(rng, depth - 1))).collect::<Map<_, _>>().into(),
        // Deeper than the recursion limit of parsers.
        _ if once_in(rng, 20) => (0..rng.usize(..200)).fold(Value::Null, |inner, _| json!([inner])),
        _ => json!(rng.i32(..)),
    }
}

/// Random part of a value.
fn some_node(rng: &mut Rng, value: &Value) -> Value {
    let mut node = value;
    for _ in 0..4 {
        let inner = match node {
            Value::Array(items) if !items.is_empty() => &items[rng.usize(..items.len())],
            Value::Object(fields) if !fields.is_empty() => {
                let at = rng.usize(..fields.len());
                fields.values().nth(at).unwrap_or(node)
            }
            _ => break,
        };
        node = inner;
        if once_in(rng, 2) {
            break;
        }
    }
    // Copying large parts, such as a vocabulary, would only be slow.
    if node.to_string().len() > 2000 { Value::Null } else { node.clone() }
}

/// Changes one random node.
fn change(rng: &mut Rng, value: &mut Value, replacement: &Value) {
    let stay = once_in(rng, 3);
    match value {
        Value::Array(items) if !items.is_empty() && !stay => {
            let at = rng.usize(..items.len());
            match rng.u32(..8) {
                0 => drop(items.remove(at)),
                1 => items.insert(at, replacement.clone()),
                2 => items.truncate(at),
                _ => change(rng, &mut items[at], replacement),
            }
        }
        Value::Object(fields) if !fields.is_empty() && !stay => {
            let at = rng.usize(..fields.len());
            let Some(name) = fields.keys().nth(at).cloned() else { return };
            match rng.u32(..8) {
                0 => drop(fields.remove(&name)),
                1 => drop(fields.insert(mutate::text(rng), replacement.clone())),
                2 => {
                    let moved = fields.remove(&name).unwrap_or_default();
                    fields.insert(name + &mutate::text(rng), moved);
                }
                _ => {
                    if let Some(inner) = fields.get_mut(&name) {
                        change(rng, inner, replacement);
                    }
                }
            }
        }
        Value::Number(_) => *value = serde_json::from_str(pick(rng, &NUMBERS)).unwrap_or_else(|_| replacement.clone()),
        Value::String(text) if once_in(rng, 2) => {
            let mut bytes = std::mem::take(text).into_bytes();
            mutate::bytes(rng, &mut bytes);
            *text = String::from_utf8_lossy(&bytes).into_owned();
        }
        _ => *value = replacement.clone(),
    }
}
