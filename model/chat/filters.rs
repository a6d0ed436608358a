//! Filters and methods whose result can be much larger than their input; that size is charged first. Also `tojson` with transformers' defaults.

use std::io;

use minijinja::value::{Kwargs, Rest, ValueKind};
use minijinja::{Environment, Error, ErrorKind, State, Value, filters};
use minijinja_contrib::pycompat;
use serde::Serialize;
use serde_json::ser::Formatter;

use super::budget::{Budget, ITEM, Weights};
use super::{methods, python};

/// Maximum number of digits of a width or precision in a format.
const MOST_DIGITS: usize = 4;

/// Adds the bounded filters to an environment.
pub(super) fn install(environment: &mut Environment<'_>) {
    // The unbounded filters keep names that no template can write.
    environment.add_filter("plain:replace", filters::replace);
    environment.add_filter("plain:join", filters::join);
    environment.add_filter("plain:indent", filters::indent);
    environment.add_filter("plain:format", filters::format);
    environment.add_filter("plain:slice", filters::slice);
    environment.add_filter("plain:batch", filters::batch);
    environment.add_filter("plain:trim", filters::trim);
    environment.add_filter("plain:map", filters::map);
    environment.add_filter("plain:select", filters::select);
    environment.add_filter("plain:reject", filters::reject);
    environment.add_filter("plain:selectattr", filters::selectattr);
    environment.add_filter("plain:rejectattr", filters::rejectattr);
    for (name, plain) in [
        ("replace", "plain:replace"),
        ("join", "plain:join"),
        ("indent", "plain:indent"),
        ("format", "plain:format"),
        ("slice", "plain:slice"),
        ("batch", "plain:batch"),
        ("trim", "plain:trim"),
        ("map", "plain:map"),
        ("select", "plain:select"),
        ("reject", "plain:reject"),
        ("selectattr", "plain:selectattr"),
        ("rejectattr", "plain:rejectattr"),
    ] {
        environment.add_filter(name, move |state: &State<'_, '_>, values: Rest<Value>| {
            Budget::of(state).spend(work(name, &values)?)?;
            match values.split_first() {
                Some((items, [])) if name == "join" => state.apply_filter(plain, &[printed(items)?]),
                Some((items, [by])) if name == "join" && !by.is_kwargs() => {
                    state.apply_filter(plain, &[printed(items)?, by.clone()])
                }
                _ => state.apply_filter(plain, &values),
            }
        });
    }
    environment.add_filter("plain:dictsort", filters::dictsort);
    environment.add_filter("dictsort", |state: &State<'_, '_>, values: Rest<Value>| {
        let pairs = state.apply_filter("plain:dictsort", &values)?;
        pairs.try_iter()?.map(|pair| python::tuple(&pair)).collect::<Result<Value, Error>>()
    });
    methods::install(environment);
    // These are not part of Jinja; they make lazy values, which are computed again at every use.
    environment.remove_filter("chain");
    environment.remove_filter("zip");
    environment.remove_global("debug");
    environment.add_filter("tojson", |state: &State<'_, '_>, value: &Value, indent: Option<Value>, options: Kwargs| {
        tojson(state, value, indent, &options)
    });
    environment.set_unknown_method_callback(method);
}

/// Items of a list as Python prints them; other values are unchanged.
fn printed(items: &Value) -> Result<Value, Error> {
    match items.kind() {
        ValueKind::Seq | ValueKind::Iterable => Ok(items.try_iter()?.map(|item| python::string(&item)).collect()),
        _ => Ok(items.clone()),
    }
}

/// Bytes that a filter or method produces beyond its input, or scans more than once.
fn work(name: &str, values: &[Value]) -> Result<u64, Error> {
    let [value, arguments @ ..] = values else { return Ok(0) };
    let text = |at: usize| arguments.get(at).map(ToString::to_string).unwrap_or_default();
    let length = |value: &Value| value.as_str().map_or_else(|| value.len().unwrap_or(0), str::len) as u64;
    let number = |value: &Value| value.as_usize().unwrap_or(0) as u64;
    // Keyword arguments come as a map at the end.
    let largest = arguments.iter().map(|value| match value.as_object() {
        Some(map) => map.try_iter_pairs().into_iter().flatten().map(|(_, value)| number(&value)).max().unwrap_or(0),
        None => number(value),
    });
    let largest = largest.max().unwrap_or(0);
    Ok(match name {
        "replace" => {
            let whole = value.to_string();
            (whole.matches(&text(0)).count() as u64).saturating_mul(text(1).len() as u64)
        }
        "join" => length(value).saturating_mul(text(0).len() as u64),
        "indent" => {
            let lines = value.as_str().map_or(0, |text| text.matches('\n').count() as u64 + 1);
            lines.saturating_add(1).saturating_mul(largest)
        }
        "slice" | "batch" => largest.saturating_mul(2 * ITEM),
        "trim" | "strip" | "lstrip" | "rstrip" => length(value).saturating_mul(text(0).len() as u64),
        "map" | "select" | "reject" | "selectattr" | "rejectattr" => {
            let beside: u64 = arguments.iter().map(length).sum();
            length(value).saturating_mul(beside)
        }
        "format" => {
            check_format(value)?;
            0
        }
        _ => 0,
    })
}

/// Rejects formats with a huge width or precision. `*` would take them from an argument.
fn check_format(format: &Value) -> Result<(), Error> {
    let text = format.as_str().unwrap_or_default();
    let mut digits = 0;
    for c in text.chars() {
        digits = if c.is_ascii_digit() { digits + 1 } else { 0 };
        if digits > MOST_DIGITS {
            let problem = format!("a format may not contain a number of more than {MOST_DIGITS} digits");
            return Err(Error::new(ErrorKind::InvalidOperation, problem));
        }
    }
    if text.contains("%*") || text.contains(".*") {
        return Err(Error::new(ErrorKind::InvalidOperation, "a format may not take a width from its arguments"));
    }
    Ok(())
}

/// Python's methods of strings, lists and maps.
fn method(state: &State<'_, '_>, value: &Value, name: &str, arguments: &[Value]) -> Result<Value, Error> {
    let budget = Budget::of(state);
    let values: Vec<Value> = std::iter::once(value).chain(arguments).cloned().collect();
    values.iter().try_for_each(|value| budget.count(value, Weights::PRINTED))?;
    match name {
        // For `str.join`, the list is the argument.
        "join" => budget.spend(work(name, &values.iter().rev().cloned().collect::<Vec<_>>())?)?,
        _ => budget.spend(work(name, &values)?)?,
    }
    if let ("count", Some(text), [what]) = (name, value.as_str(), arguments)
        && what.as_str() == Some("")
    {
        // minijinja-contrib loops forever here.
        return Ok(Value::from(text.chars().count() + 1));
    }
    if let Some(text) = value.as_str()
        && let Some(found) = methods::of_text(text, name, arguments)?
    {
        return Ok(found);
    }
    if let ("items", ValueKind::Map, []) = (name, value.kind(), arguments) {
        return python::pairs(value);
    }
    pycompat::unknown_method_callback(state, value, name, arguments)
}

/// Python's `json.dumps` with transformers' defaults: characters beyond ASCII stay, and nothing is escaped for HTML.
fn tojson(state: &State<'_, '_>, value: &Value, indent: Option<Value>, options: &Kwargs) -> Result<String, Error> {
    let wrong = |problem: &str| Error::new(ErrorKind::InvalidOperation, problem.to_owned());
    if value.is_undefined() {
        return Err(wrong("an undefined value is not JSON"));
    }
    let indent = indent.or(options.get("indent")?).filter(|indent| !indent.is_none());
    let indent = match indent {
        None => None,
        Some(text) if text.as_str().is_some() => text.as_str().map(str::to_owned),
        Some(count) => {
            let count =
                count.as_usize().filter(|&count| count <= 100).ok_or_else(|| wrong("`indent` must be at most 100"))?;
            Some(" ".repeat(count))
        }
    };
    let separators: Option<Vec<String>> = options.get("separators")?;
    let (item, key) = match separators.as_deref() {
        None if indent.is_some() => (",".to_owned(), ": ".to_owned()),
        None => (", ".to_owned(), ": ".to_owned()),
        Some([item, key]) => (item.clone(), key.clone()),
        Some(_) => return Err(wrong("`separators` must be two strings")),
    };
    let ascii = options.get::<Option<bool>>("ensure_ascii")?.unwrap_or(false);
    let sorted = options.get::<Option<bool>>("sort_keys")?.unwrap_or(false);
    options.assert_all_used()?;
    let mut tree = serde_json::to_value(value).map_err(|error| wrong(&error.to_string()))?;
    // Objects are sorted here always: whether serde_json sorts them depends on a feature that any crate of a program may turn on.
    tree.sort_all_objects();
    let budget = Budget::of(state);
    let out = Counted { text: Vec::new(), budget: &budget };
    let python = Python { indent, item, key, ascii, depth: 0, empty: true };
    let mut serializer = serde_json::Serializer::with_formatter(out, python);
    let written = if sorted { tree.serialize(&mut serializer) } else { value.serialize(&mut serializer) };
    written.map_err(|error| wrong(&error.to_string()))?;
    String::from_utf8(serializer.into_inner().text).map_err(|error| wrong(&error.to_string()))
}

/// Charges the written bytes, which indentation can multiply.
struct Counted<'a> {
    text: Vec<u8>,
    budget: &'a Budget,
}

impl io::Write for Counted<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.budget.spend(bytes.len() as u64).map_err(|error| io::Error::other(error.to_string()))?;
        self.text.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// JSON in the layout of Python's `json.dumps`.
struct Python {
    indent: Option<String>,
    item: String,
    key: String,
    ascii: bool,
    depth: usize,
    /// Whether the open list or map is still empty.
    empty: bool,
}

impl Python {
    fn open<W: ?Sized + io::Write>(&mut self, writer: &mut W, bracket: &[u8]) -> io::Result<()> {
        self.depth += 1;
        self.empty = true;
        writer.write_all(bracket)
    }

    fn close<W: ?Sized + io::Write>(&mut self, writer: &mut W, bracket: &[u8]) -> io::Result<()> {
        self.depth -= 1;
        if !self.empty {
            self.new_line(writer)?;
        }
        self.empty = false;
        writer.write_all(bracket)
    }

    fn next<W: ?Sized + io::Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        if !first {
            writer.write_all(self.item.as_bytes())?;
        }
        self.empty = false;
        self.new_line(writer)
    }

    fn new_line<W: ?Sized + io::Write>(&self, writer: &mut W) -> io::Result<()> {
        let Some(indent) = &self.indent else { return Ok(()) };
        writer.write_all(b"\n")?;
        (0..self.depth).try_for_each(|_| writer.write_all(indent.as_bytes()))
    }
}

impl Formatter for Python {
    fn begin_array<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.open(writer, b"[")
    }

    fn end_array<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.close(writer, b"]")
    }

    fn begin_array_value<W: ?Sized + io::Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        self.next(writer, first)
    }

    fn begin_object<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.open(writer, b"{")
    }

    fn end_object<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.close(writer, b"}")
    }

    fn begin_object_key<W: ?Sized + io::Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        self.next(writer, first)
    }

    fn begin_object_value<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        writer.write_all(self.key.as_bytes())
    }

    fn write_string_fragment<W: ?Sized + io::Write>(&mut self, writer: &mut W, text: &str) -> io::Result<()> {
        if !self.ascii {
            return writer.write_all(text.as_bytes());
        }
        text.encode_utf16().try_for_each(|unit| match u8::try_from(unit) {
            Ok(byte) if byte.is_ascii() => writer.write_all(&[byte]),
            _ => write!(writer, "\\u{unit:04x}"),
        })
    }
}
