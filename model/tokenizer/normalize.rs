//! Normalizers, with a bound on their output: forty that replace "a" by "aa" would make a terabyte of one letter.

use serde_json::Value;
use tokenizers::normalizers::NormalizerWrapper;
use tokenizers::{NormalizedString, Normalizer as _};

use super::pattern::{Pattern, Work};

/// Output bytes per input byte, in addition to [`FIXED`]: compatibility forms grow up to 11 times, bytes spelled out double.
const GROWTH: usize = 64;
const FIXED: usize = 64 << 10;

/// Maximum bytes of a normalized text.
const MOST_BYTES: usize = 64 << 20;

/// Steps that change a text before it is split.
#[derive(Debug, Default)]
pub(super) struct Normalizers(Vec<Step>);

#[derive(Debug)]
enum Step {
    Replace(Pattern, String),
    Other(Box<NormalizerWrapper>),
}

impl Normalizers {
    /// Reads the field `normalizer`.
    pub(super) fn read(value: &Value) -> Result<Self, String> {
        let mut steps = Vec::new();
        read(value, &mut steps)?;
        Ok(Self(steps))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Normalizes a text. Nothing is prepended to a text that continues another.
    pub(super) fn apply(&self, text: &str, continues: bool, work: &mut Work) -> Result<String, String> {
        let most = text.len().saturating_mul(GROWTH).saturating_add(FIXED).min(MOST_BYTES);
        let check = |bytes: usize| match bytes <= most {
            true => Ok(()),
            false => Err(format!("its normalizer makes more than {most} bytes of a text of {}", text.len())),
        };
        let mut out = text.to_owned();
        for step in &self.0 {
            match step {
                Step::Other(normalizer) if continues && matches!(**normalizer, NormalizerWrapper::Prepend(_)) => {}
                Step::Replace(pattern, content) => {
                    let parts = pattern.parts(&out, work)?;
                    let (found, kept): (Vec<_>, Vec<_>) = parts.iter().partition(|(_, found)| *found);
                    if found.iter().any(|(part, _)| part.is_empty()) {
                        return Err("its normalizer replaces an empty match, which is not supported".to_owned());
                    }
                    let kept: usize = kept.iter().map(|(part, _)| part.len()).sum();
                    check(kept.saturating_add(found.len().saturating_mul(content.len())))?;
                    out = parts.iter().map(|(part, found)| if *found { content } else { &out[part.clone()] }).collect();
                }
                Step::Other(normalizer) => {
                    let mut whole = NormalizedString::from(out.as_str());
                    normalizer.normalize(&mut whole).map_err(|error| error.to_string())?;
                    out = whole.get().to_owned();
                    check(out.len())?;
                }
            }
        }
        Ok(out)
    }
}

fn read(value: &Value, steps: &mut Vec<Step>) -> Result<(), String> {
    let wrong = |error: serde_json::Error| format!("`normalizer`: {error}");
    match (value["type"].as_str(), &value["normalizers"]) {
        _ if value.is_null() => {}
        (Some("Sequence"), Value::Array(inner)) => return inner.iter().try_for_each(|inner| read(inner, steps)),
        // The tokenizers crate panics if the table is damaged.
        (Some("Precompiled"), _) => {
            return Err("the normalizer Precompiled, a SentencePiece table, is not supported".to_owned());
        }
        (Some("Replace"), _) => {
            let content = value["content"].as_str().ok_or("`normalizer`: Replace has no string in `content`")?;
            steps.push(Step::Replace(Pattern::read(&value["pattern"])?, content.to_owned()));
        }
        (Some("Prepend"), _) if value["prepend"].as_str().is_some_and(|text| text.len() > FIXED) => {
            return Err(format!("`normalizer`: Prepend has more than {FIXED} bytes"));
        }
        (Some(_), _) => steps.push(Step::Other(serde_json::from_value(value.clone()).map_err(wrong)?)),
        (None, _) => return Err("`normalizer` has no `type`".to_owned()),
    }
    Ok(())
}
