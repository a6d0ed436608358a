//! Bounds on the work of a template, which is an untrusted program.
//!
//! The interpreter bounds the number of instructions and the depth of calls, but a single instruction can double a string or compare two lists of a trillion
//! items. A compiled template is therefore rewritten: before an instruction whose work depends on the size of its operands, the operands are charged to the
//! [`Budget`]; after an instruction that makes a value, the value is. Exceeding the budget ends the rendering.

use std::collections::BTreeMap;

use minijinja::machinery::{CompiledTemplate, Instruction, Instructions, TemplateConfig};
use minijinja::value::{Rest, ValueKind};
use minijinja::{Environment, Error, Output, State, Value, escape_formatter};

use super::budget::{Budget, ITEM, Weights, has_state};
use super::python;
use super::slice::slice;
use super::source::WHITESPACE;

/// Filter that returns its input, so that the compiler does not evaluate a constant.
pub(super) const SAME: &str = "as_it_is";

/// Filter that makes a tuple of a list.
pub(super) const TUPLE: &str = "as_tuple";

// No template can call these functions: their names are not identifiers.
const CONCAT: &str = "concatenate";
const REMAINDER: &str = "remainder of";
const FLOOR_DIVISION: &str = "floor division of";
const POWER: &str = "power of";
const COPIED: &str = "count operands";
const SPLIT: &str = "count arguments";
const PRINTED: &str = "count for print";
const REPEATED: &str = "count repetition";
const INDEXED: &str = "count characters";
const ASSIGNED: &str = "check attribute";
const SLICE: &str = "slice of";
const COMPLETE: &str = "count result";

/// Filters that print the contents of a list.
const PRINTING: [&str; 6] = ["format", "indent", "join", "pprint", "string", "tojson"];

/// A compiled template with checks.
pub(super) struct Guarded<'a> {
    pub(super) instructions: Instructions<'a>,
    pub(super) blocks: BTreeMap<&'a str, Instructions<'a>>,
}

/// Compiles a template that [`prepare`](super::source::prepare) has rewritten, and adds the checks.
pub(super) fn compile<'a>(name: &'a str, source: &'a str) -> Result<Guarded<'a>, Error> {
    let spec = TemplateConfig {
        syntax_config: minijinja::syntax::SyntaxConfig,
        ws_config: WHITESPACE,
        default_auto_escape: std::sync::Arc::new(|_| minijinja::AutoEscape::None),
    };
    let compiled = CompiledTemplate::new(name, source, &spec)?;
    let blocks = compiled.blocks.iter().map(|(name, block)| (*name, guarded(block)));
    Ok(Guarded { instructions: guarded(&compiled.instructions), blocks: blocks.collect() })
}

/// Adds the functions that guarded templates call, and an output that is charged to the budget.
pub(super) fn install(environment: &mut Environment<'_>) {
    for (name, weights) in [(COPIED, Weights::COPIED), (SPLIT, Weights::SPLIT), (PRINTED, Weights::PRINTED)] {
        environment.add_function(name, move |state: &State<'_, '_>, values: Rest<Value>| {
            let budget = Budget::of(state);
            values.iter().try_for_each(|value| budget.count(value, weights))?;
            Ok::<_, Error>(Value::from(values.0))
        });
    }
    environment.add_function(REPEATED, |state: &State<'_, '_>, values: Rest<Value>| {
        let size = |value: &Value| match value.kind() {
            ValueKind::String => value.as_str().map_or(0, |text| text.len() as u64),
            // Repeating an empty list a trillion times takes time too.
            ValueKind::Seq | ValueKind::Iterable => value.len().unwrap_or(0).max(1) as u64 * ITEM,
            _ => value.as_usize().map_or(0, |count| count as u64),
        };
        if values.iter().any(|value| value.as_str().is_some() || value.as_object().is_some()) {
            Budget::of(state).spend(values.iter().map(size).fold(1, u64::saturating_mul))?;
        }
        Ok::<_, Error>(Value::from(values.0))
    });
    environment.add_function(INDEXED, |state: &State<'_, '_>, values: Rest<Value>| {
        // Finding a character by index scans the string.
        let text = values.first().and_then(|value| value.as_str().map(str::len));
        Budget::of(state).spend(text.unwrap_or(0) as u64)?;
        Ok::<_, Error>(Value::from(values.0))
    });
    environment.add_function(ASSIGNED, |values: Rest<Value>| match values.first().is_some_and(has_state) {
        false => Ok(Value::from(values.0)),
        true => Err(Error::new(minijinja::ErrorKind::InvalidOperation, "a list, map or namespace can hold only data")),
    });
    environment.add_function(COMPLETE, |state: &State<'_, '_>, value: Value| Budget::of(state).complete(value));
    environment.add_function(SLICE, |state: &State<'_, '_>, operands: Rest<Value>| slice(state, &operands));
    environment.add_filter(SAME, |value: Value| value);
    environment.add_filter(TUPLE, |value: &Value| python::tuple(value));
    environment.add_function(CONCAT, |left: &Value, right: &Value| python::string(left) + &python::string(right));
    environment.add_function(REMAINDER, |state: &State<'_, '_>, left: &Value, right: &Value| {
        python::remainder(state, left, right)
    });
    environment.add_function(FLOOR_DIVISION, |left: &Value, right: &Value| python::floor_division(left, right));
    environment.add_function(POWER, |left: &Value, right: &Value| python::power(left, right));
    environment.set_formatter(|out: &mut Output<'_>, state: &State<'_, '_>, value: &Value| {
        let budget = Budget::of(state);
        match value.as_str() {
            Some(text) => budget.spend(text.len() as u64)?,
            None => budget.count(value, Weights::PRINTED)?,
        }
        match value.kind() {
            ValueKind::Invalid => escape_formatter(out, state, value),
            _ => Ok(out.write_str(&python::string(value))?),
        }
    });
}

/// Adds checks to instructions. This moves them, so jump targets are adapted.
fn guarded<'a>(code: &Instructions<'a>) -> Instructions<'a> {
    let mut out = Instructions::new(code.name(), code.source());
    let mut places = Vec::with_capacity(code.len() + 1);
    for (at, instruction) in (0..).map_while(|at| Some((at, code.get(at)?))) {
        places.push(out.len() as u32);
        for step in with_checks(instruction) {
            match (code.get_span(at), code.get_line(at)) {
                (Some(span), _) => out.add_with_span(step, span),
                (None, Some(line)) => out.add_with_line(step, u16::try_from(line).unwrap_or(u16::MAX)),
                (None, None) => out.add(step),
            };
        }
    }
    places.push(out.len() as u32);
    for at in 0..out.len() as u32 {
        if let Some(
            Instruction::Jump(target)
            | Instruction::JumpIfFalse(target)
            | Instruction::JumpIfFalseOrPop(target)
            | Instruction::JumpIfTrueOrPop(target)
            | Instruction::Iterate(target)
            | Instruction::BuildMacro(_, target, _),
        ) = out.get_mut(at)
        {
            *target = places.get(*target as usize).copied().unwrap_or(u32::MAX);
        }
    }
    out
}

/// An instruction with the checks before and after it.
fn with_checks<'a>(instruction: &Instruction<'a>) -> Vec<Instruction<'a>> {
    use Instruction as I;
    let itself = instruction.clone();
    let before = |check, operands: usize| before(check, u16::try_from(operands).ok());
    let complete = I::CallFunction(COMPLETE, Some(1));
    match instruction {
        // The template's own text is charged like any other.
        I::EmitRaw(text) => vec![I::LoadConst(Value::from(*text)), I::Emit],
        I::StringConcat => [before(PRINTED, 2), vec![I::CallFunction(CONCAT, Some(2)), complete]].concat(),
        I::Rem => [before(PRINTED, 2), vec![I::CallFunction(REMAINDER, Some(2)), complete]].concat(),
        I::IntDiv => vec![I::CallFunction(FLOOR_DIVISION, Some(2))],
        I::Pow => vec![I::CallFunction(POWER, Some(2))],
        I::Add => [before(COPIED, 2), vec![itself, complete]].concat(),
        I::Mul => [before(REPEATED, 2), vec![itself, complete]].concat(),
        I::Slice => vec![I::CallFunction(SLICE, Some(4)), complete],
        I::GetItem => [before(INDEXED, 2), vec![itself]].concat(),
        I::SetAttr(_) => [before(ASSIGNED, 2), vec![itself]].concat(),
        I::Eq | I::Ne | I::Gt | I::Gte | I::Lt | I::Lte | I::In | I::CompareAndPreserve(_) => {
            [before(COPIED, 2), vec![itself]].concat()
        }
        I::MergeKwargs(count) | I::UnpackLists(count) => [before(COPIED, *count), vec![itself]].concat(),
        I::ApplyFilter(name, count, _) => {
            let check = if PRINTING.contains(name) { PRINTED } else { SPLIT };
            [self::before(check, *count), vec![itself, complete]].concat()
        }
        I::PerformTest(_, count, _) => [self::before(SPLIT, *count), vec![itself]].concat(),
        I::BuildList(_) | I::BuildMap(_) | I::CallFunction(..) | I::CallMethod(..) | I::CallObject(_) => {
            vec![itself, complete]
        }
        _ => vec![itself],
    }
}

/// Calls a check with the topmost values and puts them back. Without `operands`, their number is on top of the stack and is put back too.
fn before<'a>(check: &'static str, operands: Option<u16>) -> Vec<Instruction<'a>> {
    let mut steps = vec![Instruction::CallFunction(check, operands), Instruction::UnpackLists(1)];
    if operands.is_some() {
        steps.push(Instruction::DiscardTop);
    }
    steps
}
