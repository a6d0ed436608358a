//! Flags for structured output: text that follows a schema, a regular expression or a grammar.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Args;
use ruminate::{Constraint, Error, Tokenizer};
use serde_json::Value;

use crate::exit_code::Usage;
use crate::prompt::whole;

/// Flags of parallel decoding, which conflict with constraints: the allowed tokens depend on the tokens before.
const AHEAD: [&str; 3] = ["speculate", "pipeline", "diffusion"];

/// Flags for structured output.
#[derive(Args)]
pub(crate) struct StructuredOptions {
    /// Generate JSON that matches the schema in FILE; - for stdin
    #[arg(long, value_name = "FILE", conflicts_with_all = ["grammar", "regex"], conflicts_with_all = AHEAD, help_heading = "Structured output")]
    json_schema: Option<PathBuf>,
    /// Generate text that matches the grammar in FILE; - for stdin
    ///
    /// The grammar is in llguidance's dialect of Lark; its first rule is `start`.
    #[arg(long, value_name = "FILE", conflicts_with = "regex", conflicts_with_all = AHEAD, help_heading = "Structured output")]
    grammar: Option<PathBuf>,
    /// Generate text that matches a regular expression
    ///
    /// It must match from beginning to end: '[A-E]\.'.
    #[arg(long, value_name = "PATTERN", conflicts_with_all = AHEAD, help_heading = "Structured output")]
    regex: Option<String>,
}

impl StructuredOptions {
    /// Name of the given flag.
    pub(crate) fn given(&self) -> Option<&'static str> {
        let given = [
            ("--json-schema", self.json_schema.is_some()),
            ("--grammar", self.grammar.is_some()),
            ("--regex", self.regex.is_some()),
        ];
        given.into_iter().find_map(|(flag, given)| given.then_some(flag))
    }

    /// Whether stdin holds the schema or grammar, so that nothing else can be read from it.
    pub(crate) fn reads_stdin(&self) -> bool {
        [&self.json_schema, &self.grammar].into_iter().flatten().any(|path| path == Path::new("-"))
    }

    /// Parses the schema, if one was given.
    ///
    /// # Errors
    /// If the file cannot be read or is not JSON.
    pub(crate) fn schema(&self) -> Result<Option<Value>> {
        let Some(path) = &self.json_schema else { return Ok(None) };
        let text = whole("the JSON schema", path)?;
        let wrong = |error| Usage(format!("--json-schema {}: not valid JSON: {error}", path.display()));
        Ok(Some(serde_json::from_str(&text).map_err(wrong)?))
    }

    /// Requested constraint, if any.
    ///
    /// # Errors
    /// If a file cannot be read, or the schema, grammar or regular expression is invalid or not supported.
    pub(crate) fn constraint(&self, tokenizer: &Tokenizer, quiet: bool) -> Result<Option<Constraint>> {
        let (constraint, place) = if let (Some(path), Some(schema)) = (&self.json_schema, self.schema()?) {
            (Constraint::json_schema(tokenizer, &schema), format!("--json-schema {}", path.display()))
        } else if let Some(path) = &self.grammar {
            let text = whole("the grammar", path)?;
            (Constraint::lark(tokenizer, &text), format!("--grammar {}", path.display()))
        } else if let Some(pattern) = &self.regex {
            (Constraint::regex(tokenizer, pattern), "--regex".to_owned())
        } else {
            return Ok(None);
        };
        let constraint = match constraint {
            Err(error @ Error::Constraint { .. }) => return Err(error).context(place),
            constraint => constraint?,
        };
        for warning in constraint.warnings().iter().filter(|_| !quiet) {
            remark!("note: {place}: {warning}");
        }
        Ok(Some(constraint))
    }
}
