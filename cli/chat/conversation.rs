//! Conversation with a model on this machine, and the session that caches it.

use std::io::Write;

use anyhow::Result;
use ruminate::{ChatTemplate, Error, GenerateOptions, Model, Progress, Prompt, Session, SessionOptions};

use super::partner::{Answer, Partner, Transcript};
use crate::exit_code::Usage;
use crate::interrupt::{Generating, Interrupt};
use crate::model::open_session;
use crate::progress::Tokens;
use crate::report::Report;
use crate::visible;

/// Settings of a conversation.
pub(super) struct Settings {
    pub(super) session: SessionOptions,
    pub(super) generate: GenerateOptions,
    pub(super) system: Option<String>,
    /// Whether special tokens spelled out in a message are encoded as such.
    pub(super) parse_special: bool,
    /// Variables of the chat template.
    pub(super) variables: serde_json::Map<String, serde_json::Value>,
    /// Whether to print figures after every answer.
    pub(super) stats: bool,
    /// Whether to suppress notes.
    pub(super) quiet: bool,
    /// Whether Ctrl-C stops each answer; otherwise only the first Ctrl-C stops an answer, and the second ends the program.
    pub(super) stop_every_answer: bool,
}

/// Conversation with a model on this machine.
pub(super) struct Conversation {
    model: Model,
    settings: Settings,
    session: Session,
    /// Tokens in the session's cache.
    held: Vec<u32>,
    transcript: Transcript,
    interrupted: bool,
}

impl Conversation {
    /// An empty conversation.
    pub(super) fn new(model: &Model, mut settings: Settings) -> Result<Self> {
        let Some(template) = model.chat() else { return Err(Error::NoChat.into()) };
        // The token that the chat template writes after an answer is missing from the end tokens of some checkpoints.
        let mut end = model.tokenizer().eos().to_vec();
        end.extend(template.end_of_answer(model.tokenizer())?);
        settings.generate.end_tokens = Some(end);
        let session = open_session(model, settings.session.clone(), settings.quiet)?;
        let transcript = Transcript { system: settings.system.take(), messages: Vec::new() };
        Ok(Self { model: model.clone(), settings, session, held: Vec::new(), transcript, interrupted: false })
    }

    /// The conversation as tokens, up to where the answer begins.
    fn tokens(&self, template: &ChatTemplate) -> Result<Vec<u32>, Error> {
        template.encode_with(
            self.model.tokenizer(),
            &self.transcript.whole(),
            true,
            self.settings.parse_special,
            &self.settings.variables,
        )
    }

    fn answer(&mut self, interrupt: &Interrupt) -> Result<Answer> {
        let template = self.model.chat().ok_or(Error::NoChat)?;
        let tokens = self.tokens(template)?;
        let context = self.session.context();
        if tokens.len() > context as usize {
            let most = self.model.spec().context;
            return Err(Error::PromptTooLong { tokens: tokens.len(), context, most }.into());
        }
        // The common prefix is cached already. At least the last token must be fed, because its logits are needed.
        let alike = self.held.iter().zip(&tokens).take_while(|(held, token)| held == token).count();
        let kept = alike.min(tokens.len().saturating_sub(1));
        self.session.rewind(kept as u32)?;
        self.held.truncate(kept);

        let seed = self.settings.session.seed;
        let steps = self.depth();
        let counters = self.model.device().counters();
        let armed = self.settings.stop_every_answer || !self.interrupted;
        let watch = armed.then(|| interrupt.generating());
        let stopped = || watch.as_ref().is_some_and(Generating::stopped);
        let mut generation = self.session.generate(Prompt::Tokens(&tokens[kept..]), &self.settings.generate)?;
        self.held.extend(&tokens[kept..]);
        let mut out = std::io::stdout().lock();
        let mut text = String::new();
        let mut coming = Tokens::new(self.settings.quiet);
        let written = loop {
            if stopped() {
                break Ok(());
            }
            let piece = match coming.next(&mut generation)? {
                Progress::Token(piece) => piece,
                Progress::Done(_) => break Ok(()),
                _ => continue,
            };
            self.held.push(piece.token);
            text.push_str(&piece.text);
            if let Err(error) = write!(out, "{}", visible::generated(&piece.text)).and_then(|()| out.flush()) {
                break Err(error);
            }
        };
        let (statistics, stop) = (generation.statistics().clone(), generation.stop_reason());
        drop(generation);
        self.held.truncate(self.session.position() as usize);
        written?;
        if !text.ends_with('\n') && (stop.is_some() || !text.is_empty()) {
            writeln!(out)?;
        }
        self.interrupted |= stop.is_none();
        let said = stop.is_some() || !text.is_empty();
        if said {
            self.transcript.push("assistant", &text);
        }
        if self.settings.stats {
            let counters = self.model.device().counters() - counters;
            let shares_passes = self.settings.generate.is_parallel();
            Report { model: &self.model, statistics: &statistics, steps, seed, counters, shares_passes }.print(true);
        }
        Ok(Answer { stop, said, context: Some(context) })
    }
}

impl Conversation {
    /// Steps per token.
    fn depth(&self) -> u32 {
        self.settings.generate.steps.unwrap_or(self.model.spec().steps.default)
    }
}

impl Partner for Conversation {
    fn say(&mut self, text: &str, interrupt: &Interrupt) -> Result<Answer> {
        let before = self.transcript.messages.len();
        self.transcript.push("user", text);
        let answer = self.answer(interrupt);
        if !answer.as_ref().is_ok_and(|answer| answer.said) {
            self.transcript.messages.truncate(before);
        }
        answer
    }

    fn regenerate(&mut self, interrupt: &Interrupt) -> Result<Answer> {
        let last = self.transcript.messages.pop_if(|last| last.role == "assistant");
        let Some(last) = last else {
            return Err(Usage("nothing to regenerate: the chat has no answer yet".to_owned()).into());
        };
        let seed = self.settings.session.seed.wrapping_add(1);
        let answer = self.model.session(SessionOptions { seed, ..self.settings.session.clone() }).map_err(Into::into);
        let answer = answer.and_then(|session| {
            (self.session, self.settings.session.seed) = (session, seed);
            self.held.clear();
            self.answer(interrupt)
        });
        if !answer.as_ref().is_ok_and(|answer| answer.said) {
            self.transcript.messages.push(last);
        }
        answer
    }

    fn steps(&self) -> Option<u32> {
        Some(self.depth())
    }

    fn set_steps(&mut self, steps: u32) -> Result<()> {
        if steps > ruminate::MAX_STEPS {
            return Err(Usage(format!("/steps needs a number of at most {}", ruminate::MAX_STEPS)).into());
        }
        crate::options::remark_depth(self.model.spec(), [steps]);
        if steps != self.depth() {
            // The cached keys and values were computed at another depth.
            self.held.clear();
        }
        self.settings.generate.steps = Some(steps);
        Ok(())
    }

    fn temperature(&self) -> Option<f32> {
        Some(self.settings.generate.sampling.temperature)
    }

    fn set_temperature(&mut self, temperature: f32) {
        self.settings.generate.sampling.temperature = temperature;
    }

    fn transcript(&mut self) -> &mut Transcript {
        &mut self.transcript
    }
}
