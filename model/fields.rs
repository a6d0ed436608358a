//! Fields of JSON files. Every value is checked when it is read, and unsupported values are reported by field name.

use serde_json::Value;

use crate::error::{Error, Result};

/// A JSON object, and the file or field that it comes from. A null field counts as absent.
pub(crate) struct Fields {
    pub(crate) file: String,
    pub(crate) value: Value,
}

impl Fields {
    pub(crate) fn get(&self, field: &str) -> Option<&Value> {
        self.value.get(field).filter(|value| !value.is_null())
    }

    /// Object in a field; an empty one if the field is absent.
    pub(crate) fn inner(&self, field: &'static str) -> Result<Self> {
        let value = match self.get(field) {
            None => Value::Object(serde_json::Map::new()),
            Some(value @ Value::Object(_)) => value.clone(),
            Some(_) => return Err(self.unsupported(field, "an object")),
        };
        Ok(Self { file: format!("{}: {field}", self.file), value })
    }

    pub(crate) fn unsupported(&self, field: &'static str, supported: &str) -> Error {
        let value = self.get(field).map_or_else(|| "absent".to_owned(), Value::to_string);
        Error::Unsupported { file: self.file.clone(), field, value, supported: supported.to_owned() }
    }

    pub(crate) fn missing(&self, field: &'static str, expected: &'static str) -> Error {
        Error::Missing { file: self.file.clone(), field, expected }
    }

    /// Checks that a field is absent or has a supported value.
    pub(crate) fn one_of(&self, field: &'static str, supported: &[&str]) -> Result<()> {
        match self.get(field) {
            None => Ok(()),
            Some(Value::String(value)) if supported.contains(&value.as_str()) => Ok(()),
            Some(_) => Err(self.unsupported(field, &supported.join(", "))),
        }
    }

    /// Checks that a list of strings is absent or contains `supported`.
    pub(crate) fn contains(&self, field: &'static str, supported: &'static str) -> Result<()> {
        match self.get(field) {
            None => Ok(()),
            Some(Value::Array(values)) if values.iter().any(|value| value == supported) => Ok(()),
            Some(_) => Err(self.unsupported(field, supported)),
        }
    }

    /// Checks that fields of unsupported parts are absent, null, false or 0.
    pub(crate) fn absent(&self, fields: &[&'static str]) -> Result<()> {
        let on =
            |field: &&&'static str| self.get(field).is_some_and(|value| *value != false && value.as_f64() != Some(0.0));
        match fields.iter().find(on) {
            Some(field) => Err(self.unsupported(field, "absent, null, false or 0")),
            None => Ok(()),
        }
    }

    /// String in a field; any other value counts as absent.
    pub(crate) fn text(&self, field: &str) -> Option<String> {
        self.get(field).and_then(Value::as_str).map(str::to_owned)
    }

    /// Integer from 1 to `most` in a field that has two names. If both are present, they must agree.
    pub(crate) fn either(&self, first: &'static str, second: &'static str, most: u32) -> Result<u32> {
        match (self.whole(first, 1, most)?, self.whole(second, 1, most)?) {
            (Some(a), Some(b)) if a != b => Err(self.unsupported(second, &format!("the same number as {first}, {a}"))),
            (Some(value), _) | (None, Some(value)) => Ok(value),
            (None, None) => Err(self.missing(first, "a whole number, here or as num_attention_heads")),
        }
    }

    /// `num_key_value_heads`; by default the number of heads.
    pub(crate) fn kv_heads(&self, name: &str, heads: u32) -> Result<u32> {
        let field = "num_key_value_heads";
        let kv_heads = self.whole(field, 1, heads)?.unwrap_or(heads);
        if heads.is_multiple_of(kv_heads) {
            return Ok(kv_heads);
        }
        Err(self.unsupported(field, &format!("a divisor of {name}, {heads}")))
    }

    /// `head_dim`; by default the width divided by the number of heads.
    pub(crate) fn head_dim(&self, (width_name, width): (&str, u32), (name, heads): (&'static str, u32)) -> Result<u32> {
        let field = "head_dim";
        let shared = width.is_multiple_of(heads).then_some(width / heads);
        if shared.is_none() && self.get(field).is_none() {
            let supported = format!("a number that divides {width_name} ({width}), unless {field} is given");
            let (file, value) = (self.file.clone(), heads.to_string());
            return Err(Error::Unsupported { file, field: name, value, supported });
        }
        match self.whole(field, 2, 128)?.or(shared) {
            Some(head_dim) if head_dim % 2 == 0 && (2..=128).contains(&head_dim) => Ok(head_dim),
            _ => {
                let supported =
                    format!("an even number from 2 to 128, by default {width_name} / {name} = {width} / {heads}");
                Err(self.unsupported(field, &supported))
            }
        }
    }

    pub(crate) fn flag(&self, field: &'static str) -> Result<Option<bool>> {
        match self.get(field) {
            None => Ok(None),
            Some(Value::Bool(value)) => Ok(Some(*value)),
            Some(_) => Err(self.unsupported(field, "true, false")),
        }
    }

    pub(crate) fn number(&self, field: &'static str) -> Result<Option<f64>> {
        match self.get(field) {
            None => Ok(None),
            Some(value) => match value.as_f64().filter(|value| value.is_finite()) {
                Some(value) => Ok(Some(value)),
                None => Err(self.unsupported(field, "a number")),
            },
        }
    }

    pub(crate) fn positive(&self, field: &'static str) -> Result<Option<f64>> {
        match self.number(field)? {
            // The device computes in f32, in which tiny numbers are 0 and huge ones infinite.
            Some(value) if value as f32 <= 0.0 || !(value as f32).is_finite() => {
                Err(self.unsupported(field, "a number above 0 that f32 can hold"))
            }
            value => Ok(value),
        }
    }

    pub(crate) fn whole(&self, field: &'static str, least: u32, most: u32) -> Result<Option<u32>> {
        let Some(value) = self.get(field) else { return Ok(None) };
        match whole(value).filter(|value| (least..=most).contains(value)) {
            Some(value) => Ok(Some(value)),
            None => Err(self.unsupported(field, &format!("a whole number from {least} to {most}"))),
        }
    }

    pub(crate) fn required(&self, field: &'static str, least: u32, most: u32) -> Result<u32> {
        self.whole(field, least, most)?.ok_or_else(|| self.missing(field, "a whole number"))
    }

    /// Token id; -1 counts as absent, as in older configurations.
    pub(crate) fn token(&self, field: &'static str) -> Result<Option<u32>> {
        if self.is_minus_one(field) { Ok(None) } else { self.whole(field, 0, u32::MAX) }
    }

    pub(crate) fn is_minus_one(&self, field: &str) -> bool {
        self.get(field).is_some_and(is_minus_one)
    }

    /// One token id or a list of them; null and -1 are skipped.
    pub(crate) fn tokens(&self, field: &'static str) -> Result<Vec<u32>> {
        let Some(Value::Array(values)) = self.get(field) else { return Ok(self.token(field)?.into_iter().collect()) };
        let ids = values.iter().filter(|value| !value.is_null() && !is_minus_one(value)).map(whole);
        ids.collect::<Option<_>>().ok_or_else(|| self.unsupported(field, "a token id or a list of token ids"))
    }
}

/// Integer, which Python may write with a decimal point.
fn whole(value: &Value) -> Option<u32> {
    if let Some(value) = value.as_u64() {
        return u32::try_from(value).ok();
    }
    // Formatting the float without decimals gives its exact digits.
    let float = value.as_f64().filter(|value| value.fract() == 0.0 && value.abs() <= f64::from(u32::MAX))?;
    format!("{float:.0}").parse().ok()
}

fn is_minus_one(value: &Value) -> bool {
    value.as_f64() == Some(-1.0)
}
