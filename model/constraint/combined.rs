//! Cost of the patterns that a schema combines for one text, estimated before the compiler meets them.
//!
//! The compiler pairs the ways in which all patterns of one text (`allOf`, or `$ref` beside `pattern`) can read the next byte, in one step that its fuel does
//! not limit: with 20 patterns such as `.*a.*`, the step would take all memory. The estimate multiplies the patterns' numbers of repetitions, options and
//! alternatives, for each place of a value.

use std::collections::{HashMap, HashSet};

use serde_json::{Map, Value};

/// Maximum product of the ways of all patterns of one place: a step then takes about a second.
const MOST_WAYS: f64 = 1e6;

/// Maximum schemas visited for the estimate itself.
const MOST_VISITS: u32 = 500_000;

/// Maximum references followed from one schema at the same place.
const MOST_REFERENCES: usize = 64;

/// Ways counted for a `format`, whose expression is the compiler's own.
const FORMAT: f64 = 8.0;

/// Whether a schema combines only as many patterns as can be compiled in reasonable time and memory.
pub(super) fn patterns_are_few(root: &Value) -> bool {
    let mut walk = Walk { root, visits: 0, seen: HashSet::new() };
    walk.all_are_light(root, false) && walk.visits <= MOST_VISITS
}

/// Schemas of the parts of a value.
#[derive(Default)]
struct Children<'a> {
    named: HashMap<&'a str, Vec<&'a Value>>,
    /// Schemas of properties that are not named, which may apply to named ones as well.
    others: Vec<&'a Value>,
    items: Vec<&'a Value>,
}

/// Schemas that all apply to one value, and lists of options of which one each applies.
#[derive(Default)]
struct Parts<'a> {
    all: Vec<&'a Map<String, Value>>,
    choices: Vec<Vec<&'a Value>>,
}

struct Walk<'a> {
    root: &'a Value,
    visits: u32,
    /// Lists of schemas that were checked, by address.
    seen: HashSet<Vec<*const Value>>,
}

impl<'a> Walk<'a> {
    /// Checks each schema in the document. `named` tells whether the fields are names of properties instead of keywords.
    fn all_are_light(&mut self, node: &'a Value, named: bool) -> bool {
        match node {
            Value::Array(items) => items.iter().all(|item| self.all_are_light(item, false)),
            Value::Object(fields) => {
                (named || self.is_light(&[node]))
                    && fields.iter().all(|(name, field)| self.all_are_light(field, !named && holds_names(name)))
            }
            _ => true,
        }
    }

    /// Checks schemas that apply to the same value, and those that apply to the same part of it.
    fn is_light(&mut self, nodes: &[&'a Value]) -> bool {
        let mut addresses: Vec<_> = nodes.iter().map(|&node| std::ptr::from_ref(node)).collect();
        addresses.sort_unstable();
        if !self.seen.insert(addresses) {
            return true;
        }
        let ways: f64 = nodes.iter().map(|node| self.ways(node, &mut Vec::new())).product();
        if ways > MOST_WAYS || self.visits > MOST_VISITS {
            return false;
        }
        let mut parts = Parts::default();
        nodes.iter().for_each(|node| self.collect(node, &mut Vec::new(), &mut parts));
        let options = parts.choices.iter().map(Vec::len).max().unwrap_or(0);
        // Options of different lists can be combined in any way; for the estimate, only options with the same index are combined.
        (0..options.max(1)).all(|number| {
            let mut chosen = Parts { all: parts.all.clone(), choices: parts.choices.clone() };
            let mut taken = HashSet::new();
            while let Some(list) = chosen.choices.pop() {
                let option =
                    list.get(number).or(list.last()).filter(|&&option| taken.insert(std::ptr::from_ref(option)));
                if let Some(option) = option {
                    self.collect(option, &mut Vec::new(), &mut chosen);
                }
            }
            self.children_are_light(&children(&chosen.all))
        })
    }

    fn children_are_light(&mut self, children: &Children<'a>) -> bool {
        let named = children.named.values().map(|own| [&own[..], &children.others].concat());
        let lists: Vec<_> = named.chain([children.others.clone(), children.items.clone()]).collect();
        // A schema that applies alone is checked where it occurs in the document.
        lists.into_iter().filter(|list| list.len() > 1).all(|list| self.is_light(&list))
    }

    /// Product of the ways of all patterns that a schema applies to its value.
    fn ways(&mut self, node: &'a Value, followed: &mut Vec<&'a str>) -> f64 {
        self.visits += 1;
        let Value::Object(fields) = node else { return 1.0 };
        if self.visits > MOST_VISITS {
            return f64::INFINITY;
        }
        let mut ways = own_ways(fields);
        for part in list(fields, "allOf") {
            ways *= self.ways(part, followed);
        }
        for keyword in ["anyOf", "oneOf"] {
            ways *= list(fields, keyword).iter().map(|option| self.ways(option, followed)).fold(1.0, f64::max);
        }
        if let Some((name, target)) = self.target(fields, followed) {
            followed.push(name);
            ways *= self.ways(target, followed);
            followed.pop();
        }
        ways
    }

    /// Collects the schemas that apply together with `node`.
    fn collect(&mut self, node: &'a Value, followed: &mut Vec<&'a str>, parts: &mut Parts<'a>) {
        self.visits += 1;
        let Value::Object(fields) = node else { return };
        if self.visits > MOST_VISITS {
            return;
        }
        parts.all.push(fields);
        list(fields, "allOf").iter().for_each(|part| self.collect(part, followed, parts));
        let choices = ["anyOf", "oneOf"].map(|keyword| list(fields, keyword));
        parts.choices.extend(choices.iter().filter(|list| !list.is_empty()).map(|list| list.iter().collect()));
        if let Some((name, target)) = self.target(fields, followed) {
            followed.push(name);
            self.collect(target, followed, parts);
            followed.pop();
        }
    }

    /// Target of a schema's reference, unless it is being followed already. As in the compiler, names in references have no escapes.
    fn target(&self, fields: &'a Map<String, Value>, followed: &[&str]) -> Option<(&'a str, &'a Value)> {
        let name = fields.get("$ref")?.as_str()?;
        if followed.contains(&name) || followed.len() >= MOST_REFERENCES {
            return None;
        }
        let path = name.strip_prefix('#')?.strip_prefix('/').unwrap_or_default();
        let step = |node: &'a Value, part: &str| match node {
            Value::Array(items) => items.get(part.parse::<usize>().ok()?),
            node => node.get(part),
        };
        let parts = path.split('/').filter(|_| !path.is_empty());
        Some((name, parts.into_iter().try_fold(self.root, step)?))
    }
}

/// Schemas of the parts of a value to which all of these schemas apply.
fn children<'a>(all: &[&'a Map<String, Value>]) -> Children<'a> {
    let mut children = Children::default();
    for fields in all {
        let map = |keyword: &str| fields.get(keyword).and_then(Value::as_object).into_iter().flatten();
        map("properties").for_each(|(name, field)| children.named.entry(name).or_default().push(field));
        children.others.extend(map("patternProperties").map(|(_, field)| field));
        children.others.extend(fields.get("additionalProperties").filter(|field| field.is_object()));
        for keyword in ["items", "prefixItems", "additionalItems"] {
            children.items.extend(fields.get(keyword).filter(|field| field.is_object()));
            // Each item of a list has its own place; those of one list do not meet.
            children.items.extend(list(fields, keyword).first());
        }
    }
    children
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

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::patterns_are_few;

    fn patterns(count: usize) -> Vec<Value> {
        vec![json!({ "pattern": ".*a.*b?" }); count]
    }

    #[test]
    fn patterns_that_meet_are_counted_wherever_they_stand() {
        let property = |schema: &Value| json!({ "properties": { "x": schema } });
        let objects: Vec<_> = patterns(20).iter().map(property).collect();
        let nested =
            (0..20).fold(json!({}), |inner, _| json!({ "pattern": "a*b*", "anyOf": [inner, { "type": "string" }] }));
        let links: serde_json::Map<String, Value> = (0..20)
            .map(|i| (format!("p~0{i}"), json!({ "pattern": "a*b*", "$ref": format!("#/$defs/p~0{}", i + 1) })))
            .collect();
        let options: Vec<_> = objects.iter().map(|object| json!({ "anyOf": [object, { "type": "object" }] })).collect();
        for heavy in [
            json!({ "allOf": patterns(20) }),
            json!({ "items": { "allOf": patterns(20) } }),
            json!({ "allOf": objects }),
            json!({ "allOf": [property(&json!({ "allOf": patterns(9) })), property(&json!({ "allOf": patterns(9) }))] }),
            json!({ "allOf": options }),
            nested,
            json!({ "$ref": "#/$defs/p~00", "$defs": links }),
        ] {
            assert!(!patterns_are_few(&heavy), "{heavy}");
        }
    }

    #[test]
    fn patterns_that_do_not_meet_are_not_counted() {
        // Thirty kinds of nodes that contain each other, as in a schema of syntax trees.
        let all: Vec<_> = (0..30).map(|i| json!({ "$ref": format!("#/$defs/n{i}") })).collect();
        let node = json!({
            "type": "object",
            "properties": { "id": patterns(1)[0], "left": { "anyOf": all }, "rest": { "items": { "anyOf": all } } },
        });
        let kinds: serde_json::Map<String, Value> = (0..30).map(|i| (format!("n{i}"), node.clone())).collect();
        let mixins: Vec<_> =
            (0..20).map(|i| json!({ "properties": { format!("x{i}"): { "pattern": ".*a.*" } } })).collect();
        for light in [
            json!({ "$ref": "#/$defs/n0", "$defs": kinds }),
            json!({ "allOf": mixins }),
            json!({ "anyOf": patterns(50) }),
            json!({ "properties": { "x": { "allOf": patterns(3) } } }),
        ] {
            assert!(patterns_are_few(&light), "{light}");
        }
    }
}
