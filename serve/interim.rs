//! The coming interface of [`Batch`](ruminate::Batch), on the present one.

use std::collections::{HashMap, VecDeque};

use ruminate::{BatchOptions, Error, GenerateOptions, Model, Piece, SequenceId, Statistics, StopReason};

pub(crate) struct PromptToken {
    pub(crate) token: u32,
    pub(crate) logprob: Option<f32>,
    pub(crate) top: Vec<(u32, f32)>,
}

pub(crate) enum Event {
    Prompt { id: SequenceId, tokens: Vec<PromptToken> },
    Token { id: SequenceId, piece: Piece },
    Failed { id: SequenceId, error: Error },
    Done { id: SequenceId, reason: StopReason, statistics: Statistics },
}

#[derive(Default, Clone, Copy)]
pub(crate) struct Totals {
    pub(crate) waiting: u32,
    pub(crate) running: u32,
    pub(crate) sequences: u64,
    pub(crate) passes: u64,
    pub(crate) rows: u64,
    pub(crate) capacity: u64,
    pub(crate) prompt_tokens: u64,
    pub(crate) cached_tokens: u64,
    pub(crate) prefix_hits: u64,
    pub(crate) tokens: u64,
    pub(crate) steps: u64,
    pub(crate) most_steps: u64,
    pub(crate) preempted: u64,
    pub(crate) kv_bytes: u64,
    pub(crate) prefix_bytes: u64,
}

pub(crate) struct Batch {
    inner: ruminate::Batch,
    model: Model,
    context: u32,
    live: HashMap<SequenceId, (Statistics, u64)>,
    events: VecDeque<Event>,
    totals: Totals,
}

impl Batch {
    pub(crate) fn new(model: &Model, options: BatchOptions) -> Result<Self, Error> {
        let context = options.session.context.unwrap_or(model.spec().usual_context());
        let inner = model.batch(options)?;
        let (live, events, totals) = Default::default();
        Ok(Self { inner, model: model.clone(), context, live, events, totals })
    }
    pub(crate) fn model(&self) -> &Model {
        &self.model
    }
    pub(crate) fn context(&self) -> u32 {
        self.context
    }
    pub(crate) fn is_idle(&self) -> bool {
        self.live.is_empty() && self.events.is_empty()
    }
    pub(crate) fn add(&mut self, prompt: &Vec<u32>, seed: u64, options: &GenerateOptions) -> Result<SequenceId, Error> {
        if options.max_tokens == Some(0) {
            return Err(Error::Option { name: "max_tokens", value: "0".to_owned(), allowed: "at least 1" });
        }
        let id = self.inner.add(prompt, seed, options)?;
        let statistics = Statistics { prompt_tokens: prompt.len() as u32, ..Statistics::default() };
        self.live.insert(id, (statistics, self.inner.core_passes()));
        self.totals.sequences += 1;
        Ok(id)
    }
    pub(crate) fn cancel(&mut self, id: SequenceId) -> Result<(), Error> {
        self.live.remove(&id);
        self.inner.cancel(id)
    }
    pub(crate) fn wait(&mut self) -> Result<Option<Event>, Error> {
        if let Some(event) = self.events.pop_front() {
            return Ok(Some(event));
        }
        let Some((id, piece)) = self.inner.next()? else { return Ok(None) };
        let passes = self.inner.core_passes();
        if let Some((statistics, from)) = self.live.get_mut(&id) {
            statistics.tokens += 1;
            statistics.steps += u64::from(piece.steps);
            statistics.core_passes = passes - *from;
            if let Some(reason) = self.inner.stop_reason(id) {
                let statistics = statistics.clone();
                self.live.remove(&id);
                self.events.push_back(Event::Done { id, reason, statistics });
            }
        }
        Ok(Some(Event::Token { id, piece }))
    }
    pub(crate) fn totals(&self) -> Totals {
        Totals { passes: self.inner.core_passes(), kv_bytes: self.inner.kv_bytes(), ..self.totals }
    }
}
