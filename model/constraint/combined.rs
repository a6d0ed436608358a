//! Cost of the patterns that a schema combines for one text, estimated before the compiler meets them.
//!
//! The compiler pairs the ways in which all patterns of one text (`allOf`, or `$ref` beside `pattern`) can read the next byte, in one step that its fuel does
//! not limit: with 20 patterns such as `.*a.*`, the step would take all memory. The estimate multiplies the patterns' numbers of repetitions, options and
//! alternatives, for each place of a value.

use std::collections::HashMap;

use serde_json::{Map, Value};

/// Maximum product of the ways of all patterns of one place: a step then takes about a second.
const MOST_WAYS: f64 = 1e6;

/// Maximum schemas visited for the estimate itself.
const MOST_VISITS: u32 = 500_000;

/// Ways counted for a `format`, whose expression is the compiler's own.
const FORMAT: f64 = 8.0;

/// Ways at each place of a value, by its path.
type Ways = HashMap<String, f64>;

/// Whether a schema combines only as many patterns as can be compiled in reasonable time and memory.
pub(super) fn patterns_are_few(root: &Value) -> bool {
    let mut walk = Walk { root, visits: 0, followed: Vec::new() };
    walk.every_combination_is_light(root, false) && walk.visits <= MOST_VISITS
}

struct Walk<'a> {
    root: &'a Value,
    visits: u32,
    /// References that are being followed.
    followed: Vec<&'a str>,
}

impl<'a> Walk<'a> {
    /// Checks each schema that combines others; `named` if the fields are names of properties, not keywords.
    fn every_combination_is_light(&mut self, node: &'a Value, named: bool) -> bool {
        match node {
            Value::Array(items) => items.iter().all(|item| self.every_combination_is_light(item, false)),
            Value::Object(fields) => {
                let combines = !named && (fields.contains_key("allOf") || fields.contains_key("$ref"));
                if combines && !self.is_light(node) {
                    return false;
                }
                fields.iter().all(|(name, field)| self.every_combination_is_light(field, !named && holds_names(name)))
            }
            _ => true,
        }
    }

    fn is_light(&mut self, node: &'a Value) -> bool {
        let mut ways = Ways::new();
        self.multiply(node, "", &mut ways);
        // The schema of all other properties may apply to each of them as well.
        let others = |path: &str| path.rsplit_once('/').and_then(|(folder, _)| ways.get(&format!("{folder}/*")));
        let is_light = |(path, count): (&String, &f64)| match path.ends_with("/*") {
            true => *count <= MOST_WAYS,
            false => count * others(path).unwrap_or(&1.0) <= MOST_WAYS,
        };
        self.visits <= MOST_VISITS && ways.iter().all(is_light)
    }

    /// Multiplies the ways at each place by those of a schema at `path`.
    fn multiply(&mut self, node: &'a Value, path: &str, ways: &mut Ways) {
        self.visits += 1;
        let Value::Object(fields) = node else { return };
        if self.visits > MOST_VISITS {
            return;
        }
        let own = own_ways(fields);
        if own > 1.0 {
            *ways.entry(path.to_owned()).or_insert(1.0) *= own;
        }
        for part in list(fields, "allOf") {
            self.multiply(part, path, ways);
        }
        let reference = fields.get("$ref").and_then(Value::as_str).filter(|name| !self.followed.contains(name));
        let target = reference.and_then(|name| self.root.pointer(name.strip_prefix('#')?));
        if let (Some(name), Some(target)) = (reference, target) {
            self.followed.push(name);
            self.multiply(target, path, ways);
            self.followed.pop();
        }
        for keyword in ["anyOf", "oneOf"] {
            // Only one of the options applies: the most expensive one at each place.
            let mut most = Ways::new();
            for option in list(fields, keyword) {
                let mut found = Ways::new();
                self.multiply(option, path, &mut found);
                for (path, count) in found {
                    let known = most.entry(path).or_insert(1.0);
                    *known = known.max(count);
                }
            }
            most.into_iter().for_each(|(path, count)| *ways.entry(path).or_insert(1.0) *= count);
        }
        for (name, field) in fields.get("properties").and_then(Value::as_object).into_iter().flatten() {
            self.multiply(field, &format!("{path}/{}", name.replace('/', "//")), ways);
        }
        for field in fields.get("patternProperties").and_then(Value::as_object).into_iter().flat_map(Map::values) {
            self.multiply(field, &format!("{path}/*"), ways);
        }
        for (keyword, place) in [("additionalProperties", "*"), ("items", "[]")] {
            fields.get(keyword).into_iter().for_each(|field| self.multiply(field, &format!("{path}/{place}"), ways));
        }
        for field in list(fields, "prefixItems") {
            self.multiply(field, &format!("{path}/[]"), ways);
        }
    }
}

/// Whether the fields of a keyword's value are names, not keywords.
fn holds_names(keyword: &str) -> bool {
    ["properties", "patternProperties", "$defs", "definitions", "const", "enum", "default", "examples"]
        .contains(&keyword)
}

fn list<'a>(fields: &'a Map<String, Value>, keyword: &str) -> &'a [Value] {
    fields.get(keyword).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// Ways of a schema's own restrictions of a text.
fn own_ways(fields: &Map<String, Value>) -> f64 {
    let choices = |pattern: &str| 1.0 + pattern.matches(['*', '+', '?', '|', '{']).count() as f64;
    let pattern = fields.get("pattern").and_then(Value::as_str).map_or(1.0, choices);
    let format = if fields.contains_key("format") { FORMAT } else { 1.0 };
    pattern * format
}
