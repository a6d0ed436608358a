//! Sampling flags.

use std::str::FromStr;

use anyhow::Result;
use clap::Args;
use ruminate::{Dry, GenerateOptions, GenerationConfig, Sampling, Specials, Tokenizer};

use crate::exit_code::Usage;
use crate::prompt::unescape;

/// Flags for choosing a token.
#[derive(Args)]
pub(crate) struct SamplingOptions {
    /// Temperature; 0 is greedy [default: the checkpoint's, or 0.8]
    #[arg(long, value_name = "X", help_heading = "Common", display_order = 5)]
    pub(crate) temp: Option<f32>,
    /// Keep the K most likely tokens; 0 keeps all [default: the checkpoint's, or 40]
    #[arg(long, value_name = "K", help_heading = "Sampling")]
    pub(crate) top_k: Option<u32>,
    /// Keep the most likely tokens that reach P together [default: the checkpoint's, or 0.95]
    ///
    /// 1 keeps all tokens.
    #[arg(long, value_name = "P", help_heading = "Sampling")]
    pub(crate) top_p: Option<f32>,
    /// Keep tokens with at least P times the top probability [default: the checkpoint's, or 0.05]
    #[arg(long, value_name = "P", help_heading = "Sampling")]
    pub(crate) min_p: Option<f32>,
    /// Divide logits of tokens seen before; 1 is off [default: the checkpoint's, or 1]
    #[arg(long, value_name = "X", help_heading = "Sampling")]
    pub(crate) repeat_penalty: Option<f32>,
    /// Look for repetitions in the last N tokens; 0 means all
    #[arg(
        long,
        value_name = "N",
        default_value_t = 0,
        help_heading = "Sampling",
        hide_short_help = true,
        visible_alias = "repeat-last-n"
    )]
    pub(crate) repeat_window: u32,
    /// Penalize repeated passages (DRY); 0.8 is usual [default: off]
    ///
    /// If the last n tokens occurred before, the logit of the token that followed them is reduced by X · base^(n - allowed length), for the longest
    /// such n.
    #[arg(long, value_name = "X", help_heading = "Sampling", hide_short_help = true)]
    pub(crate) dry_multiplier: Option<f32>,
    /// DRY: factor for each further token of a passage, at least 1
    #[arg(long, value_name = "X", requires = "dry_multiplier", default_value_t = Dry::ON.base, help_heading = "Sampling", hide_short_help = true)]
    pub(crate) dry_base: f32,
    /// DRY: passages of fewer tokens may be repeated
    #[arg(long, value_name = "N", requires = "dry_multiplier", default_value_t = Dry::ON.allowed_length, value_parser = clap::value_parser!(u32).range(1..=1024), help_heading = "Sampling", hide_short_help = true)]
    pub(crate) dry_allowed_length: u32,
    /// DRY: look at the last N tokens; 0 means all
    #[arg(
        long,
        value_name = "N",
        requires = "dry_multiplier",
        default_value_t = 0,
        help_heading = "Sampling",
        hide_short_help = true
    )]
    pub(crate) dry_range: u32,
    /// DRY: text that ends a passage; may be repeated; "none" for none
    ///
    /// \n is a line break, \t a tab, and \\ a backslash [default: line break, colon, quotation mark, asterisk].
    #[arg(
        long,
        alias = "dry-sequence-breaker",
        requires = "dry_multiplier",
        value_name = "TEXT",
        help_heading = "Sampling",
        hide_short_help = true
    )]
    pub(crate) dry_breaker: Vec<String>,
    /// Add to the logit of a token: 341+1.5, 341-inf; may be repeated
    ///
    /// The token is an id, or in quotes a text that is one token: '" A"-2'. 341=false and 341-inf ban it, 341+inf forces it. The bias is applied
    /// before anything else.
    #[arg(long, value_name = "TOKEN±X", allow_hyphen_values = true, help_heading = "Sampling", hide_short_help = true)]
    pub(crate) logit_bias: Vec<Bias>,
}

impl SamplingOptions {
    /// Fields of `generation_config.json` that flags override or make meaningless: at temperature 0, filters never change the chosen token.
    pub(crate) fn given(&self) -> Vec<&'static str> {
        let given = [
            ("do_sample", self.temp.is_some()),
            ("temperature", self.temp.is_some()),
            ("top_k", self.top_k.is_some() || self.temp == Some(0.0)),
            ("top_p", self.top_p.is_some() || self.temp == Some(0.0)),
            ("min_p", self.min_p.is_some() || self.temp == Some(0.0)),
            ("repetition_penalty", self.repeat_penalty.is_some()),
        ];
        given.into_iter().filter_map(|(field, given)| given.then_some(field)).collect()
    }

    /// Sampling options of the flags, with the defaults of the checkpoint or the library for the rest.
    pub(crate) fn over(&self, usual: Sampling) -> Sampling {
        Sampling {
            temperature: self.temp.unwrap_or(usual.temperature),
            top_k: self.top_k.unwrap_or(usual.top_k),
            top_p: self.top_p.unwrap_or(usual.top_p),
            min_p: self.min_p.unwrap_or(usual.min_p),
            repeat_penalty: self.repeat_penalty.unwrap_or(usual.repeat_penalty),
            penalty_window: self.repeat_window,
            dry: Dry {
                multiplier: self.dry_multiplier.unwrap_or(Dry::OFF.multiplier),
                base: self.dry_base,
                allowed_length: self.dry_allowed_length,
                range: self.dry_range,
            },
        }
    }

    /// Given flags that filter tokens.
    fn filters(&self) -> Vec<&'static str> {
        let given =
            [("--top-k", self.top_k.is_some()), ("--top-p", self.top_p.is_some()), ("--min-p", self.min_p.is_some())];
        given.into_iter().filter(|(_, given)| *given).map(|(flag, _)| flag).collect()
    }

    /// Messages about defaults of the checkpoint and flags that have no effect.
    pub(crate) fn without_effect(&self, checkpoint: &GenerationConfig) -> Vec<String> {
        let mut lines = Vec::new();
        let mut open = checkpoint.not_obeyed.clone();
        if self.dry_multiplier.is_some() && checkpoint.no_repeat_ngram_size.is_some() {
            open.push("no_repeat_ngram_size (DRY takes its place)".to_owned());
        }
        if !open.is_empty() {
            lines.push(format!(
                "generation_config.json sets unsupported fields, which have no effect: {}",
                open.join(", ")
            ));
        }
        let filters = self.filters();
        if checkpoint.do_sample == Some(false) && self.temp.is_none() && !filters.is_empty() {
            let has = if filters.len() == 1 { "has" } else { "have" };
            lines.push(format!(
                "generation_config.json has do_sample: false, which always takes the most likely token, so {} {has} no effect; give --temp to sample",
                filters.join(", ")
            ));
        }
        lines
    }

    /// Texts that end a repeated passage.
    pub(crate) fn breakers(&self) -> Vec<String> {
        if self.dry_breaker.is_empty() {
            return GenerateOptions::default().dry_breakers;
        }
        self.given_breakers()
    }

    /// Breakers given by flags.
    pub(crate) fn given_breakers(&self) -> Vec<String> {
        self.dry_breaker.iter().filter(|text| *text != "none").map(|text| unescape(text)).collect()
    }

    /// Token ids with the values added to their logits.
    pub(crate) fn bias(&self, tokenizer: &Tokenizer) -> Result<Vec<(u32, f32)>> {
        self.logit_bias.iter().map(|bias| bias.token(tokenizer)).collect()
    }
}

/// Token and the value added to its logit.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Bias {
    token: Named,
    value: f32,
}

/// Token, named by id or text.
#[derive(Clone, Debug, PartialEq)]
enum Named {
    Id(u32),
    Text(String),
}

impl Bias {
    fn token(&self, tokenizer: &Tokenizer) -> Result<(u32, f32)> {
        let text = match &self.token {
            Named::Id(id) => return Ok((*id, self.value)),
            Named::Text(text) => text,
        };
        match tokenizer.encode(text, Specials::Continue)?[..] {
            [token] => Ok((token, self.value)),
            ref tokens => {
                Err(Usage(format!("--logit-bias: {text:?} is not one token but {}: {tokens:?}", tokens.len())).into())
            }
        }
    }
}

/// Parses `341+1.5`, `341-inf`, `341=false` or `" A"-2`.
impl FromStr for Bias {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "{text:?} is not a token and a value (expected 341+1.5, 341-inf, 341=false, or a text in quotes: '\" A\"-2')"
            )
        };
        let quoted = text.starts_with('"');
        let end = if quoted { text.rfind('"').map(|at| at + 1) } else { text.find(|c: char| !c.is_ascii_digit()) };
        let (token, value) = text.split_at_checked(end.ok_or_else(wrong)?).ok_or_else(wrong)?;
        let token = if quoted {
            let inner = token.strip_prefix('"').and_then(|text| text.strip_suffix('"')).ok_or_else(wrong)?;
            Named::Text(unescape(&inner.replace("\\\"", "\"")))
        } else {
            Named::Id(token.parse().map_err(|_| wrong())?)
        };
        if !value.starts_with(['+', '-', '=']) {
            return Err(wrong());
        }
        let value = value.strip_prefix('=').unwrap_or(value);
        let value = match value.trim_start_matches('-') {
            "false" => f32::NEG_INFINITY,
            _ => value.parse().ok().filter(|value: &f32| !value.is_nan()).ok_or_else(wrong)?,
        };
        Ok(Self { token, value })
    }
}

#[cfg(test)]
mod tests {
    use super::{Bias, Named};

    #[test]
    fn a_bias_is_a_token_and_a_value() {
        let id = |value| Ok(Bias { token: Named::Id(341), value });
        let text = |text: &str, value| Ok(Bias { token: Named::Text(text.to_owned()), value });
        let cases = [
            ("341+1.5", id(1.5)),
            ("341-2", id(-2.0)),
            ("341=3", id(3.0)),
            ("341=-3", id(-3.0)),
            ("341-inf", id(f32::NEG_INFINITY)),
            ("341=false", id(f32::NEG_INFINITY)),
            ("341-false", id(f32::NEG_INFINITY)),
            ("341+inf", id(f32::INFINITY)),
            ("\" A\"-2", text(" A", -2.0)),
            ("\"\\n\"+1", text("\n", 1.0)),
            ("\"a\\\"b\"=false", text("a\"b", f32::NEG_INFINITY)),
        ];
        for (written, expected) in cases {
            assert_eq!(written.parse::<Bias>(), expected, "{written}");
        }
        let bad = [
            "",
            "341",
            "+1",
            "341+",
            "341+x",
            "341nan",
            "341+nan",
            "A+1",
            "\"A+1",
            "\"A\"",
            "99999999999+1",
            "\"+1",
            "é+1",
        ];
        for written in bad {
            let error = written.parse::<Bias>().expect_err(written);
            assert!(error.contains("is not a token and a value"), "{error}");
        }
    }
}
