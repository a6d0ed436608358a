//! Generates a text and traces every step of it.

use std::collections::HashMap;
use std::io::IsTerminal;

use anyhow::Result;
use ruminate::trace::{Pca, Trace};
use ruminate::{Arithmetic, Dtype, Error, GenerateOptions, Model, Progress, SessionOptions, Specials, State};

use super::noise;
use crate::exit_code::Usage;
use crate::interrupt::Interrupt;
use crate::model::open_session;
use crate::progress::{self, Tokens};
use crate::words::counted;

/// Default maximum number of tokens; more are hard to display.
const USUAL: u32 = 64;

/// Request of a trace.
pub(super) struct Asked<'a> {
    pub(super) text: &'a str,
    pub(super) session: SessionOptions,
    pub(super) products: Arithmetic,
    pub(super) generation: GenerateOptions,
    pub(super) token: Option<usize>,
    pub(super) quiet: bool,
}

/// Trace, with its texts and settings.
pub(super) struct Found {
    pub(super) trace: Trace,
    pub(super) pca: Pca,
    /// Number of tokens of the prompt.
    pub(super) prompt: usize,
    /// Text of the prompt, without special tokens.
    pub(super) prompt_text: String,
    /// Generated text, without special tokens.
    pub(super) answer_text: String,
    /// Text of every position.
    pub(super) texts: Vec<String>,
    /// Text of the last token, which was generated but not fed.
    pub(super) last: String,
    /// Position with a displayed path.
    pub(super) focus: usize,
    /// Texts of the tokens in all read-outs.
    pub(super) words: HashMap<u32, String>,
    pub(super) model: Model,
    pub(super) seed: u64,
    /// Dtype of keys and values.
    pub(super) kv_dtype: Dtype,
    /// Noise floor: distances between states below this are explained by rounding.
    pub(super) floor: f32,
}

impl Found {
    /// Title of the trace.
    pub(super) fn title(&self) -> String {
        format!(
            "{} at {} · seed {} · weights in {} · keys and values in {} · distances below {:.1e} are rounding · {}",
            counted(self.trace.tokens.len(), "token"),
            counted(self.trace.steps, "step"),
            self.seed,
            self.model.dtypes(),
            self.kv_dtype.name(),
            self.floor,
            self.model.device().name()
        )
    }

    /// Metadata for the safetensors file.
    pub(super) fn about(&self) -> HashMap<String, String> {
        let text = format!("{}{}", self.prompt_text, self.answer_text);
        let pairs = [
            ("seed", self.seed.to_string()),
            ("steps", self.trace.steps.to_string()),
            ("prompt_tokens", self.prompt.to_string()),
            ("text", text),
            ("dtype", self.model.dtypes().to_string()),
            ("kv_dtype", self.kv_dtype.name().to_owned()),
            ("noise_floor", self.floor.to_string()),
            ("device", self.model.device().name().to_owned()),
        ];
        pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }

    /// Text of the most likely token of a read-out, and its probability.
    pub(super) fn top(&self, token: usize, step: usize) -> (&str, f32) {
        let at = self.trace.at(token, step) * self.trace.top;
        (&self.words[&self.trace.top_tokens[at]], self.trace.top_probabilities[at])
    }
}

/// Generates a text, then traces it. Returns `None` if interrupted.
pub(super) fn gather(model: &Model, asked: &Asked<'_>, interrupt: &Interrupt) -> Result<Option<Found>> {
    let spec = model.spec();
    let steps = asked.generation.steps.unwrap_or(spec.steps.default);
    let mut session = open_session(model, asked.session.clone(), asked.quiet)?;
    let specials = if asked.generation.add_bos { Specials::Prompt } else { Specials::None };
    let prompt = match asked.generation.parse_special {
        true => session.encode(asked.text, specials)?,
        false => session.encode_plain(asked.text, specials)?,
    };
    if let Some(token) = asked.token.filter(|&token| token >= prompt.len()) {
        let last = prompt.len().saturating_sub(1);
        let problem = format!("--token {token} is not a position of the prompt; its positions are 0 to {last}");
        return Err(Usage(problem).into());
    }
    // The text ends with the context at the latest, also without a limit (-1).
    let room = session.context().saturating_sub(prompt.len() as u32).max(1);
    let wanted = asked.generation.max_tokens.unwrap_or(1).min(room) as usize;
    Trace::check(spec, prompt.len() + wanted - 1, steps)?;
    let most = Trace::most_tokens(spec, steps) - prompt.len() as u32 + 1;
    let max_tokens = Some(asked.generation.max_tokens.unwrap_or(USUAL).min(most));
    let watch = interrupt.generating();
    let (mut tokens, mut used) = (prompt.clone(), vec![steps; prompt.len().saturating_sub(1)]);
    let mut coming = Tokens::new(asked.quiet);
    let mut generation = session.generate(&prompt[..], &GenerateOptions { max_tokens, ..asked.generation.clone() })?;
    loop {
        if watch.stopped() {
            return Ok(None);
        }
        match coming.next(&mut generation)? {
            Progress::Token(piece) => {
                tokens.push(piece.token);
                // These are the steps of the previous token's row, which chose this token.
                used.push(piece.steps);
            }
            Progress::Done(_) => break,
            _ => {}
        }
    }
    drop(generation);
    // Frees its memory for the next session.
    drop(session);
    let last = tokens.pop().unwrap_or_default();
    let mut session = model.session(asked.session.clone())?;
    let shown = !asked.quiet && std::io::stderr().is_terminal();
    let bar = progress::bar(shown, 0, "tracing {bar:30} {pos}/{len} steps{left}")?;
    if let Some(exit) = &asked.generation.exit {
        // The exit steps of the prompt's tokens, which a generation does not report.
        let found = session.forward_until_exit(&prompt, steps, exit, State::Seeded, false)?;
        used.iter_mut().zip(found.steps).for_each(|(used, steps)| *used = steps);
        session.rewind(0)?;
    }
    let traced = session.record(&tokens, prompt.len(), steps, &mut |done, all| {
        bar.set_length(all);
        bar.set_position(done);
        !watch.stopped()
    });
    bar.finish_and_clear();
    let mut trace = match traced {
        Err(Error::Cancelled) => return Ok(None),
        traced => traced?,
    };
    trace.used = used;
    let plain = |tokens: &[u32]| model.tokenizer().decode(tokens, true);
    let text = |token: u32| model.tokenizer().decode(&[token], false);
    Ok(Some(Found {
        pca: trace.pca(),
        prompt: prompt.len(),
        prompt_text: plain(&prompt),
        answer_text: plain(&[&tokens[prompt.len()..], &[last]].concat()),
        texts: trace.tokens.iter().map(|&token| text(token)).collect(),
        last: text(last),
        focus: asked.token.unwrap_or(prompt.len() - 1),
        words: trace.top_tokens.iter().map(|&token| (token, text(token))).collect(),
        model: model.clone(),
        seed: asked.session.seed,
        kv_dtype: asked.session.kv_dtype,
        floor: noise::floor(&trace, asked.session.kv_dtype, asked.products),
        trace,
    }))
}
