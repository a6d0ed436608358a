//! Grammars compiled and matched by `llguidance`.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use llguidance::api::{GrammarInit, StopReason, TopLevelGrammar};
use llguidance::{Matcher as Parser, panic_utils};
use serde_json::{Value, json};

use super::combined::patterns_are_few;
use super::weight::intersections_are_light;
use super::{ConstraintKind, Mask, Vocabulary};
use crate::error::Error;
use crate::tokenizer::Tokenizer;

/// White space allowed between the parts of a JSON value; limited, so that a text cannot continue with white space forever.
const BLANKS: &str = r"\x20|\r?\n[\x20\t]{0,32}";

/// Maximum bytes of a schema, and of a regular expression or grammar: the time to compile them grows with their size.
const MOST_SCHEMA: usize = 1 << 20;
const MOST_TEXT: usize = 64 << 10;

/// Maximum levels of a schema.
const MOST_LEVELS: usize = 128;

/// Maximum characters of a message: some messages contain the whole grammar.
const LONGEST_MESSAGE: usize = 1000;

/// Maximum characters of a regular expression that is shown whole, with a mark at the position of an error.
const SHOWN: usize = 200;

/// Stack of the compiler, which is recursive in rules: enough for all rules that a text of [`MOST_TEXT`] can contain.
const STACK: usize = 256 << 20;

/// Problem of a definition that would take exponential time.
const TOO_MANY: &str = "too many patterns restrict the same text: use fewer, or simpler ones";

/// A grammar before it is compiled.
pub(super) type Definition = TopLevelGrammar;

/// A compiled grammar at its start.
pub(super) struct Grammar {
    start: Parser,
    vocabulary: Arc<Vocabulary>,
    warnings: Vec<String>,
}

/// A position in a grammar.
pub(super) struct Matcher {
    parser: Parser,
    vocab: u32,
}

/// Grammar of a schema's values.
pub(super) fn of_schema(schema: &Value) -> Result<Definition, Error> {
    let problem = |problem: String| Err(Error::Constraint { kind: ConstraintKind::JsonSchema, problem });
    if is_deeper(schema, MOST_LEVELS) {
        return problem(format!("it is nested too deeply: at most {MOST_LEVELS} levels are supported"));
    }
    check_size(ConstraintKind::JsonSchema, schema.to_string().len(), MOST_SCHEMA)?;
    if let Some(step) = unsupported_step(schema, false) {
        return problem(format!(
            "`multipleOf` is {step}, which is unsupported: at most 8 decimal places and 9 digits can be divided by"
        ));
    }
    if !patterns_are_few(schema) {
        return problem(TOO_MANY.to_owned());
    }
    let mut schema = schema.clone();
    match &mut schema {
        Value::Object(fields) => {
            let guidance = fields.entry("x-guidance").or_insert_with(|| json!({}));
            let Value::Object(guidance) = guidance else {
                return problem(format!("`x-guidance` is {guidance}; expected an object"));
            };
            let flexible = guidance.get("whitespace_flexible") != Some(&Value::Bool(false));
            if flexible && guidance.get("whitespace_pattern").is_none_or(Value::is_null) {
                guidance.insert("whitespace_pattern".to_owned(), BLANKS.into());
            }
        }
        // `true` allows any value, like the empty schema.
        Value::Bool(true) => return of_schema(&json!({})),
        Value::Bool(false) => return problem("`false` allows no value".to_owned()),
        other => return problem(format!("it is {}; expected an object", beginning(&other.to_string(), 60))),
    }
    Ok(TopLevelGrammar::from_json_schema(schema))
}

/// Grammar of the texts that a regular expression matches.
pub(super) fn of_regex(pattern: &str) -> Result<Definition, Error> {
    check_size(ConstraintKind::Regex, pattern.len(), MOST_TEXT)?;
    let problem = match regex_syntax::Parser::new().parse(pattern) {
        Ok(_) => return Ok(TopLevelGrammar::from_regex(pattern)),
        Err(error) if pattern.len() <= SHOWN => error.to_string(),
        Err(regex_syntax::Error::Parse(error)) => format!("{} at byte {}", error.kind(), error.span().start.offset),
        Err(regex_syntax::Error::Translate(error)) => format!("{} at byte {}", error.kind(), error.span().start.offset),
        Err(_) => "it does not parse".to_owned(),
    };
    Err(Error::Constraint { kind: ConstraintKind::Regex, problem })
}

/// Grammar in Lark's notation.
pub(super) fn of_lark(grammar: &str) -> Result<Definition, Error> {
    if grammar.trim().is_empty() {
        let problem = "it is empty; expected a rule `start: …`".to_owned();
        return Err(Error::Constraint { kind: ConstraintKind::Grammar, problem });
    }
    check_size(ConstraintKind::Grammar, grammar.len(), MOST_TEXT)?;
    for (at, keyword) in grammar.match_indices("%json") {
        // The compiler reports text that is not JSON.
        let embedded = serde_json::Deserializer::from_str(&grammar[at + keyword.len()..]).into_iter::<Value>().next();
        if embedded.is_some_and(|schema| schema.is_ok_and(|schema| !patterns_are_few(&schema))) {
            return Err(Error::Constraint { kind: ConstraintKind::Grammar, problem: TOO_MANY.to_owned() });
        }
    }
    Ok(TopLevelGrammar::from_lark(grammar.to_owned()))
}

/// Whether a value has more than `levels` levels.
fn is_deeper(value: &Value, levels: usize) -> bool {
    let Some(levels) = levels.checked_sub(1) else { return true };
    match value {
        Value::Array(items) => items.iter().any(|item| is_deeper(item, levels)),
        Value::Object(fields) => fields.values().any(|field| is_deeper(field, levels)),
        _ => false,
    }
}

/// Value of `multipleOf` that the compiler's 32-bit remainders cannot represent, if a schema has one. `named` tells whether the fields are names of properties
/// instead of keywords.
fn unsupported_step(value: &Value, named: bool) -> Option<&Value> {
    match value {
        Value::Array(items) => items.iter().find_map(|item| unsupported_step(item, false)),
        Value::Object(fields) => fields.iter().find_map(|(name, field)| match name.as_str() {
            "multipleOf" if !named => field.as_f64().is_some_and(|step| !is_supported_step(step)).then_some(field),
            // Values, not schemas.
            "const" | "enum" | "default" | "examples" | "example" if !named => None,
            "properties" | "patternProperties" | "$defs" | "definitions" if !named => unsupported_step(field, true),
            _ => unsupported_step(field, false),
        }),
        _ => None,
    }
}

/// Whether ten times the digits of a step, plus nine units of its last decimal place, fit into 32 bits.
fn is_supported_step(step: f64) -> bool {
    let places = (0..=8).find(|&places| (step * 10_f64.powi(places)).fract() == 0.0);
    places.is_some_and(|places| step * 10_f64.powi(places) * 10.0 + 9.0 * 10_f64.powi(places) <= f64::from(u32::MAX))
}

fn check_size(kind: ConstraintKind, bytes: usize, most: usize) -> Result<(), Error> {
    if bytes <= most {
        return Ok(());
    }
    let problem = format!("it has {bytes} bytes; at most {most} are supported");
    Err(Error::Constraint { kind, problem })
}

impl Grammar {
    /// Compiles a grammar for a vocabulary.
    pub(super) fn compile(vocabulary: Arc<Vocabulary>, definition: Definition) -> Result<Self, String> {
        let vocab = vocabulary.vocab;
        let work = || {
            let mut start = guarded(|| {
                let factory = &vocabulary.factory;
                let (tokens, limits) = (factory.tok_env().clone(), factory.limits().clone());
                let internal = || GrammarInit::Serialized(definition).to_internal(Some(tokens), limits);
                let internal = panic_utils::catch_unwind(AssertUnwindSafe(internal));
                let (rules, lexer) = internal.map_err(|error| error.to_string())?;
                if !intersections_are_light(lexer.regex_builder.exprset()) {
                    return Err(TOO_MANY.to_owned());
                }
                let init = GrammarInit::Internal(rules, lexer);
                let parser = Parser::new(factory.create_parser_from_init_default(init));
                parser.get_error().map_or(Ok(parser), Err)
            })?;
            // A grammar may compile although no text matches it.
            let (mask, may_end) = Matcher { parser: start.deep_clone(), vocab }.mask()?;
            match mask.is_empty() && !may_end {
                true => Err("no text that the model's tokens can spell matches it".to_owned()),
                false => Ok((start.grammar_warnings(), start)),
            }
        };
        let (warnings, start) = std::thread::scope(|scope| {
            let thread = std::thread::Builder::new().stack_size(STACK).spawn_scoped(scope, work);
            let thread = thread.map_err(|error| format!("cannot start a thread to compile it: {error}"))?;
            thread.join().unwrap_or_else(|_| Err("compiling it failed".to_owned()))
        })?;
        Ok(Self { start, vocabulary, warnings })
    }

    pub(super) fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Whether the grammar was compiled for this tokenizer.
    pub(super) fn is_of(&self, tokenizer: &Tokenizer) -> bool {
        tokenizer.vocabulary().is_ok_and(|vocabulary| Arc::ptr_eq(&vocabulary, &self.vocabulary))
    }

    /// Position at the start. It has its own caches, so the limits of one generation do not depend on others.
    pub(super) fn matcher(&self) -> Matcher {
        Matcher { parser: self.start.deep_clone(), vocab: self.vocabulary.vocab }
    }
}

impl Matcher {
    /// Tokens that may come next, and whether the text may end here.
    pub(super) fn mask(&mut self) -> Result<(Mask, bool), String> {
        let vocab = self.vocab;
        match guarded(|| self.parser.compute_mask_or_eos().map_err(|error| error.to_string())) {
            Ok(mask) => Ok((Mask::new(mask.as_slice(), vocab), mask.is_allowed(vocab))),
            // The grammar allows no token; the caller reports that with a clearer message.
            Err(problem) if problem == StopReason::NoExtensionBias.to_string() => Ok((Mask::nothing(vocab), false)),
            Err(problem) => Err(problem),
        }
    }

    /// Advances by a token. Returns whether the text is complete.
    pub(super) fn take(&mut self, token: u32) -> Result<bool, String> {
        guarded(|| self.parser.consume_token(token).map_err(|error| error.to_string()))?;
        Ok(self.parser.is_stopped())
    }
}

/// Calls llguidance and turns a panic, caused by an unexpected grammar, into an error.
fn guarded<T>(work: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    let failed = |_| Err("panic: ".to_owned());
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(failed).map_err(|problem| plain(&problem))
}

/// Message of llguidance without the markers and traces appended to it. Panics are overflows of its counters and numbers.
fn plain(problem: &str) -> String {
    if problem.contains("panic: ") {
        return match problem.contains("overflow") {
            true => "a number in it, or its size, exceeds what the compiler can count".to_owned(),
            false => "it uses something that the compiler does not support".to_owned(),
        };
    }
    let end = ["\n<non-verbose/>", "\n<backtrace>", "\n<state>"].iter().filter_map(|mark| problem.find(mark)).min();
    beginning(problem[..end.unwrap_or(problem.len())].trim(), LONGEST_MESSAGE)
}

/// Beginning of a text, for a message.
fn beginning(text: &str, characters: usize) -> String {
    match text.char_indices().nth(characters) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
