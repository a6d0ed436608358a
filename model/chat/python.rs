//! Python's printing, comparison and arithmetic of values. Templates are written for Jinja2, which inherits all three from Python.

use std::fmt::Write;
use std::sync::Arc;

use minijinja::value::{Enumerator, Object, ObjectRepr, ValueKind};
use minijinja::{Error, ErrorKind, State, Value};

/// A tuple: a list that prints in round brackets, and whose items become the arguments of a format.
#[derive(Debug)]
pub(super) struct Tuple(Vec<Value>);

impl Object for Tuple {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Seq
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        self.0.get(key.as_usize()?).cloned()
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Seq(self.0.len())
    }
}

/// Converts a list to a tuple.
pub(super) fn tuple(items: &Value) -> Result<Value, Error> {
    Ok(Value::from_object(Tuple(items.try_iter()?.collect())))
}

/// Converts a map to a list of key-value tuples.
pub(super) fn pairs(map: &Value) -> Result<Value, Error> {
    let pair = |key: Value| {
        let value = map.get_item(&key)?;
        Ok(Value::from_object(Tuple(vec![key, value])))
    };
    map.try_iter()?.map(pair).collect()
}

/// Python's `str(value)`.
pub(super) fn string(value: &Value) -> String {
    match value.as_str() {
        Some(text) => text.to_owned(),
        None if value.is_undefined() => String::new(),
        None => {
            let mut out = String::new();
            print(value, &mut out);
            out
        }
    }
}

/// Writes Python's `repr(value)`.
fn print(value: &Value, out: &mut String) {
    match value.kind() {
        ValueKind::Undefined => out.push_str("Undefined"),
        ValueKind::None => out.push_str("None"),
        ValueKind::Bool => out.push_str(if value.is_true() { "True" } else { "False" }),
        ValueKind::Number if !value.is_integer() => {
            out.push_str(&float(f64::try_from(value.clone()).unwrap_or(f64::NAN)));
        }
        ValueKind::String => quoted(value.as_str().unwrap_or_default(), out),
        ValueKind::Seq | ValueKind::Iterable => {
            let round = value.downcast_object_ref::<Tuple>().map(|tuple| tuple.0.len());
            out.push(if round.is_some() { '(' } else { '[' });
            for (place, item) in value.try_iter().into_iter().flatten().enumerate() {
                out.push_str(if place > 0 { ", " } else { "" });
                print(&item, out);
            }
            out.push_str(match round {
                Some(1) => ",)",
                Some(_) => ")",
                None => "]",
            });
        }
        ValueKind::Map => {
            out.push('{');
            for (place, key) in value.try_iter().into_iter().flatten().enumerate() {
                out.push_str(if place > 0 { ", " } else { "" });
                print(&key, out);
                out.push_str(": ");
                print(&value.get_item(&key).unwrap_or_default(), out);
            }
            out.push('}');
        }
        _ => {
            let _ = write!(out, "{value}");
        }
    }
}

/// Quotes a text: in double quotes if it contains only single ones, else in single quotes.
fn quoted(text: &str, out: &mut String) {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    out.push(quote);
    for c in text.chars() {
        // After a letter, combining marks are not escaped.
        let printable = !format!("a{c}").escape_debug().to_string().contains("\\u");
        let _ = match c {
            '\\' => write!(out, "\\\\"),
            '\n' => write!(out, "\\n"),
            '\r' => write!(out, "\\r"),
            '\t' => write!(out, "\\t"),
            c if c == quote => write!(out, "\\{c}"),
            ' '..='~' => write!(out, "{c}"),
            c if printable && c != '\0' => write!(out, "{c}"),
            c => match u32::from(c) {
                code @ ..0x100 => write!(out, "\\x{code:02x}"),
                code @ ..0x10000 => write!(out, "\\u{code:04x}"),
                code => write!(out, "\\U{code:08x}"),
            },
        };
    }
    out.push(quote);
}

/// Shortest decimal form of a number, with an exponent below 0.0001 and from 1e16 on.
fn float(value: f64) -> String {
    if !value.is_finite() {
        return if value.is_nan() { "nan".to_owned() } else { format!("{value}") };
    }
    let scientific = format!("{value:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    match exponent.parse::<i32>() {
        Ok(exponent) if value != 0.0 && !(-4..16).contains(&exponent) => {
            let sign = if exponent < 0 { '-' } else { '+' };
            format!("{digits}e{sign}{:02}", exponent.abs())
        }
        _ => format!("{value:?}"),
    }
}

/// `left % right`: formats a string, or computes a remainder with the sign of the divisor.
pub(super) fn remainder(state: &State<'_, '_>, left: &Value, right: &Value) -> Result<Value, Error> {
    if left.as_str().is_some() {
        let mut values = vec![left.clone()];
        let text = left.as_str().unwrap_or_default();
        match right.downcast_object_ref::<Tuple>() {
            Some(tuple) => values.extend(tuple.0.iter().map(argument)),
            None if right.kind() == ValueKind::Map && text.contains("%(") => values.push(right.clone()),
            None => values.push(argument(right)),
        }
        let wanted = text.replace("%%", "").matches('%').count();
        if !text.contains("%(") && wanted + 1 < values.len() {
            let problem = "not all arguments converted during string formatting";
            return Err(Error::new(ErrorKind::InvalidOperation, problem));
        }
        return state.apply_filter("format", &values);
    }
    let zero = || Error::new(ErrorKind::InvalidOperation, "division by zero");
    if left.is_integer() && right.is_integer() {
        let (a, b) = (i128::try_from(left.clone())?, i128::try_from(right.clone())?);
        let rest = a.checked_rem(b).ok_or_else(zero)?;
        return Ok(Value::from(if rest != 0 && (rest < 0) != (b < 0) { rest + b } else { rest }));
    }
    let (a, b) = (number(left, "%")?, number(right, "%")?);
    if b == 0.0 {
        return Err(zero());
    }
    let rest = a % b;
    Ok(Value::from(if rest != 0.0 && (rest < 0.0) != (b < 0.0) { rest + b } else { rest }))
}

/// Argument of a format: other values than numbers become the string that `%s` prints; numbers are kept for `%d`.
fn argument(value: &Value) -> Value {
    match value.kind() {
        ValueKind::Number | ValueKind::String => value.clone(),
        _ => Value::from(string(value)),
    }
}

/// `left // right`, rounded down.
pub(super) fn floor_division(left: &Value, right: &Value) -> Result<Value, Error> {
    let wrong = |problem: &'static str| Error::new(ErrorKind::InvalidOperation, problem);
    if left.is_integer() && right.is_integer() {
        let (a, b) = (i128::try_from(left.clone())?, i128::try_from(right.clone())?);
        let (Some(quotient), Some(rest)) = (a.checked_div(b), a.checked_rem(b)) else {
            return Err(wrong("division by zero, or by -1 of a number that is too large"));
        };
        return Ok(Value::from(if rest != 0 && (rest < 0) != (b < 0) { quotient - 1 } else { quotient }));
    }
    let (a, b) = (number(left, "//")?, number(right, "//")?);
    if b == 0.0 { Err(wrong("division by zero")) } else { Ok(Value::from((a / b).floor())) }
}

/// `left ** right`.
pub(super) fn power(left: &Value, right: &Value) -> Result<Value, Error> {
    let wrong = |problem: &'static str| Error::new(ErrorKind::InvalidOperation, problem);
    if left.is_integer() && right.is_integer() {
        let (a, b) = (i128::try_from(left.clone())?, i128::try_from(right.clone())?);
        if b >= 0 {
            let power = u32::try_from(b).ok().and_then(|b| a.checked_pow(b));
            return power.map(Value::from).ok_or_else(|| wrong("a power is too large"));
        }
        if a == 0 {
            return Err(wrong("0 cannot be raised to a negative power"));
        }
    }
    let power = number(left, "**")?.powf(number(right, "**")?);
    if power.is_finite() { Ok(Value::from(power)) } else { Err(wrong("a power is too large or not a number")) }
}

fn number(value: &Value, operator: &str) -> Result<f64, Error> {
    let wrong = || {
        let problem = format!("`{operator}` needs numbers, not a value of type {}", value.kind());
        Error::new(ErrorKind::InvalidOperation, problem)
    };
    match value.kind() {
        ValueKind::Number => f64::try_from(value.clone()).map_err(|_| wrong()),
        ValueKind::Bool => Ok(f64::from(u8::from(value.is_true()))),
        _ => Err(wrong()),
    }
}
