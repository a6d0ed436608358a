//! Tests, filters and methods of Jinja2 and Python that minijinja lacks or implements differently.

use minijinja::value::{Kwargs, Rest, ValueKind};
use minijinja::{Environment, Error, ErrorKind, State, Value};
use minijinja_contrib::globals;

use super::budget::{Budget, Weights};
use super::python;

/// Adds the filters, tests and functions to an environment.
pub(super) fn install(environment: &mut Environment<'_>) {
    let sized = |value: &Value| {
        matches!(
            value.kind(),
            ValueKind::String | ValueKind::Seq | ValueKind::Map | ValueKind::Iterable | ValueKind::Undefined
        )
    };
    environment.add_test("sequence", move |value: &Value| sized(value));
    environment.add_test("iterable", move |value: &Value| sized(value));
    environment.add_test("number", |value: &Value| matches!(value.kind(), ValueKind::Number | ValueKind::Bool));
    environment.add_test("divisibleby", |state: &State<'_, '_>, value: &Value, by: &Value| {
        let rest = python::remainder(state, value, by)?;
        Ok::<_, Error>(f64::try_from(rest)? == 0.0)
    });
    environment.add_filter("string", |value: &Value| python::string(value));
    environment.add_filter("items", |value: &Value| match value.is_undefined() {
        true => Ok(Value::from(Vec::<Value>::new())),
        false => python::pairs(value),
    });
    environment.add_filter("int", |value: &Value, default: Option<Value>, options: Kwargs| {
        let default = default.or(options.get("default")?);
        options.assert_all_used()?;
        let text = value.as_str().map(|text| text.trim().replace('_', ""));
        let whole = match &text {
            Some(text) => text.parse().ok().or_else(|| text.parse::<f64>().ok().and_then(whole)),
            None if value.kind() == ValueKind::Bool => Some(i128::from(value.is_true())),
            None if value.is_integer() => i128::try_from(value.clone()).ok(),
            None => f64::try_from(value.clone()).ok().and_then(whole),
        };
        Ok::<_, Error>(whole.map_or_else(|| default.unwrap_or_else(|| Value::from(0)), Value::from))
    });
    environment.add_filter("float", |value: &Value, default: Option<Value>, options: Kwargs| {
        let default = default.or(options.get("default")?);
        options.assert_all_used()?;
        let number = match value.as_str() {
            Some(text) => text.trim().parse().ok(),
            None if value.kind() == ValueKind::Bool => Some(f64::from(u8::from(value.is_true()))),
            None => f64::try_from(value.clone()).ok(),
        };
        Ok::<_, Error>(number.map_or_else(|| default.unwrap_or_else(|| Value::from(0.0)), Value::from))
    });
    environment.add_filter("round", round);
    environment.add_filter("title", |text: String| title(&text));
    environment.add_filter("wordcount", |text: String| {
        text.split(|c: char| !regex_syntax::is_word_character(c)).filter(|word| !word.is_empty()).count()
    });
    environment.add_filter("truncate", truncate);
    environment.add_filter("sum", sum);
    environment.add_function("cycler", |state: &State<'_, '_>, items: Rest<Value>| {
        // Counting refuses items that can change later: they could come to contain the cycler itself.
        Budget::of(state).count(&Value::from(items.to_vec()), Weights::COPIED)?;
        globals::cycler(items.to_vec())
    });
    environment.add_function("joiner", |by: Option<String>| globals::joiner(by.map(Value::from)));
}

fn whole(value: f64) -> Option<i128> {
    (value.abs() < 1e38).then_some(value.trunc() as i128)
}

/// Python's `round`: ties go to the even neighbor, and a float stays a float.
#[expect(clippy::needless_pass_by_value, reason = "filters get them by value")]
fn round(value: &Value, precision: Option<i32>, method: Option<String>, options: Kwargs) -> Result<Value, Error> {
    let wrong = |problem: &'static str| Error::new(ErrorKind::InvalidOperation, problem);
    let precision = precision.or(options.get("precision")?).unwrap_or(0);
    let method = method.or(options.get("method")?).unwrap_or_else(|| "common".to_owned());
    options.assert_all_used()?;
    if !(-30..=30).contains(&precision) {
        return Err(wrong("`round` needs a precision from -30 to 30"));
    }
    if method == "common" && value.is_integer() && precision >= 0 {
        return Ok(value.clone());
    }
    let number = f64::try_from(value.clone())?;
    let factor = 10_f64.powi(precision);
    Ok(Value::from(match method.as_str() {
        // Rounds the exact binary value, as Python does: 2.675 is slightly less than its decimal form.
        "common" if precision >= 0 => {
            format!("{number:.*}", precision.unsigned_abs() as usize).parse().unwrap_or(number)
        }
        "common" => (number * factor).round_ties_even() / factor,
        "ceil" => (number * factor).ceil() / factor,
        "floor" => (number * factor).floor() / factor,
        _ => return Err(wrong("unknown method of `round` (expected common, ceil or floor)")),
    }))
}

/// Capitalizes words, which begin after whitespace, hyphens and opening brackets.
fn title(text: &str) -> String {
    let mut begins = true;
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if begins {
            out.extend(c.to_uppercase());
        } else {
            out.extend(c.to_lowercase());
        }
        begins = c.is_whitespace() || "-({[<".contains(c);
    }
    out
}

#[expect(clippy::needless_pass_by_value, reason = "filters get them by value")]
fn truncate(
    text: &str,
    length: Option<usize>,
    killwords: Option<bool>,
    end: Option<String>,
    options: Kwargs,
) -> Result<String, Error> {
    let length = length.or(options.get("length")?).unwrap_or(255);
    let killwords = killwords.or(options.get("killwords")?).unwrap_or(false);
    let end = end.or(options.get("end")?).unwrap_or_else(|| "...".to_owned());
    let leeway = options.get::<Option<usize>>("leeway")?.unwrap_or(5);
    options.assert_all_used()?;
    let characters: Vec<char> = text.chars().collect();
    let room = length.checked_sub(end.chars().count());
    let room = room.ok_or_else(|| {
        Error::new(ErrorKind::InvalidOperation, "`truncate` needs a length of at least that of its end")
    })?;
    if characters.len() <= length.saturating_add(leeway) {
        return Ok(text.to_owned());
    }
    let cut: String = characters[..room].iter().collect();
    let words = if killwords { &cut } else { cut.rsplit_once(' ').map_or(&cut[..], |(words, _)| words) };
    Ok(format!("{words}{end}"))
}

#[expect(clippy::needless_pass_by_value, reason = "filters get them by value")]
fn sum(
    state: &State<'_, '_>,
    values: &Value,
    attribute: Option<Value>,
    start: Option<Value>,
    options: Kwargs,
) -> Result<Value, Error> {
    let attribute = attribute.or(options.get("attribute")?);
    let mut total = start.or(options.get("start")?).unwrap_or_else(|| Value::from(0));
    options.assert_all_used()?;
    for item in values.try_iter()? {
        let item = match attribute.as_ref().and_then(|name| name.as_str()) {
            Some(path) => path.split('.').try_fold(item, |value, name| value.get_attr(name))?,
            None => item,
        };
        total = add(state, &total, &item)?;
    }
    Ok(total)
}

fn add(state: &State<'_, '_>, left: &Value, right: &Value) -> Result<Value, Error> {
    let budget = Budget::of(state);
    if left.kind() == ValueKind::Seq && right.kind() == ValueKind::Seq {
        return budget.complete(left.try_iter()?.chain(right.try_iter()?).collect());
    }
    let wrong = || Error::new(ErrorKind::InvalidOperation, format!("cannot add {} and {}", left.kind(), right.kind()));
    match (i128::try_from(left.clone()), i128::try_from(right.clone())) {
        (Ok(a), Ok(b)) => a.checked_add(b).map(Value::from).ok_or_else(wrong),
        _ => match (f64::try_from(left.clone()), f64::try_from(right.clone())) {
            (Ok(a), Ok(b)) => Ok(Value::from(a + b)),
            _ => Err(wrong()),
        },
    }
}

/// Calls a string method that minijinja-contrib lacks; returns `None` for any other method.
pub(super) fn of_text(text: &str, name: &str, arguments: &[Value]) -> Result<Option<Value>, Error> {
    let wrong = |problem: String| Error::new(ErrorKind::InvalidOperation, problem);
    let argument = |place: usize| {
        let text = arguments.get(place).and_then(Value::as_str);
        text.ok_or_else(|| wrong(format!("`{name}` needs a string")))
    };
    let place = |found: Option<usize>| {
        let at = found.ok_or_else(|| wrong("substring not found".to_owned()))?;
        Ok::<_, Error>(Value::from(text[..at].chars().count()))
    };
    let parts = |found: Option<(&str, &str)>, missing: [&str; 3]| {
        let parts = match (found, arguments[0].as_str()) {
            (Some((before, after)), Some(separator)) => [before, separator, after],
            _ => missing,
        };
        python::tuple(&parts.iter().map(|part| Value::from(*part)).collect())
    };
    Ok(Some(match (name, arguments.len()) {
        ("removeprefix", 1) => Value::from(text.strip_prefix(argument(0)?).unwrap_or(text)),
        ("removesuffix", 1) => Value::from(text.strip_suffix(argument(0)?).unwrap_or(text)),
        ("partition" | "rpartition", 1) if argument(0)?.is_empty() => return Err(wrong("empty separator".to_owned())),
        ("partition", 1) => parts(text.split_once(argument(0)?), [text, "", ""])?,
        ("rpartition", 1) => parts(text.rsplit_once(argument(0)?), ["", "", text])?,
        ("index", 1) => place(text.find(argument(0)?))?,
        ("rindex", 1) => place(text.rfind(argument(0)?))?,
        ("rsplit", 0..=2) => rsplit(text, arguments)?,
        ("zfill", 1) => {
            let (sign, digits) = match text.strip_prefix(['-', '+']) {
                Some(digits) => text.split_at(text.len() - digits.len()),
                None => ("", text),
            };
            let zeros = "0".repeat(missing(text, &arguments[0])?);
            Value::from(format!("{sign}{zeros}{digits}"))
        }
        ("center" | "ljust" | "rjust", 1 | 2) => {
            let missing = missing(text, &arguments[0])?;
            let fill = if arguments.len() == 2 { argument(1)? } else { " " };
            let width = missing + text.chars().count();
            let left = match name {
                "ljust" => 0,
                "rjust" => missing,
                // Python puts the odd character to the left if the width is odd.
                _ => missing / 2 + (missing & width & 1),
            };
            Value::from(format!("{}{text}{}", fill.repeat(left), fill.repeat(missing - left)))
        }
        ("swapcase", 0) => text
            .chars()
            .flat_map(
                |c| if c.is_uppercase() { c.to_lowercase().collect::<Vec<_>>() } else { c.to_uppercase().collect() },
            )
            .collect::<String>()
            .into(),
        ("isspace", 0) => Value::from(!text.is_empty() && text.chars().all(char::is_whitespace)),
        ("title", 0) => {
            let mut letter = false;
            let mut out = String::new();
            for c in text.chars() {
                if letter {
                    out.extend(c.to_lowercase());
                } else {
                    out.extend(c.to_uppercase());
                }
                letter = c.is_alphabetic();
            }
            Value::from(out)
        }
        ("encode", 0) => Value::from_bytes(text.as_bytes().to_vec()),
        ("encode", 1) if matches!(argument(0)?.to_ascii_lowercase().as_str(), "utf-8" | "utf8") => {
            Value::from_bytes(text.as_bytes().to_vec())
        }
        _ => return Ok(None),
    }))
}

/// Number of characters that a text lacks to a width of at most 65536.
fn missing(text: &str, width: &Value) -> Result<usize, Error> {
    let width = width.as_usize().filter(|&width| width <= 1 << 16);
    let width = width.ok_or_else(|| Error::new(ErrorKind::InvalidOperation, "a width must be a number up to 65536"))?;
    Ok(width.saturating_sub(text.chars().count()))
}

fn rsplit(text: &str, arguments: &[Value]) -> Result<Value, Error> {
    let wrong = |problem: &'static str| Error::new(ErrorKind::InvalidOperation, problem);
    let most = match arguments.get(1) {
        Some(most) => i64::try_from(most.clone())?,
        None => -1,
    };
    let most = usize::try_from(most).unwrap_or(usize::MAX).saturating_add(1);
    let separator = arguments.first().filter(|value| !value.is_none());
    let mut parts: Vec<&str> = match separator {
        Some(separator) => {
            let separator = separator
                .as_str()
                .filter(|it| !it.is_empty())
                .ok_or_else(|| wrong("`rsplit` needs a nonempty string"))?;
            text.rsplitn(most, separator).collect()
        }
        None => {
            let mut rest = text.trim_end();
            let mut parts = Vec::new();
            while !rest.is_empty() {
                let cut = rest.rfind(char::is_whitespace).filter(|_| parts.len() + 1 < most);
                let word = cut.map_or(0, |at| at + rest[at..].chars().next().map_or(0, char::len_utf8));
                parts.push(&rest[word..]);
                rest = rest[..cut.unwrap_or(0)].trim_end();
            }
            parts
        }
    };
    parts.reverse();
    Ok(parts.into_iter().map(Value::from).collect())
}
