//! Start of a generation: checks the request and prepares its passes.

use std::collections::VecDeque;

use ruminate_engine::clock::Instant;

use crate::decoding::Decoding;
use crate::diffusion::RowSpan;
use crate::early_exit::Depth;
use crate::error::Error;
use crate::generate::{Prompt, Statistics};
use crate::options::{GenerateOptions, State};
use crate::parallel_decoding::ParallelDecoding;
use crate::poll::Alarm;
use crate::rules::{Rules, most_tokens};
use crate::sampling::Choosing;
use crate::schedule::passes::{Held, Passes};
use crate::schedule::policy::{self, Asked};
use crate::schedule::store::Store;
use crate::session::check_tokens;
use crate::text_output::{TextOutput, encode_prompt};
use crate::tokenizer::Specials;

use super::ActiveGeneration;

impl ActiveGeneration {
    /// Checks a request for a sequence in state `held`. It computes nothing; call [`Self::make_ready`] before the first step. `batch` tells whether the
    /// sequence belongs to a batch.
    pub(crate) fn new(
        store: &Store,
        held: Held,
        prompt: Prompt<'_>,
        (options, batch): (&GenerateOptions, bool),
    ) -> Result<Self, Error> {
        let (model, spec, context) = (&store.model, store.model.spec(), store.context());
        options.exit.map_or(Ok(()), |exit| exit.validate(spec))?;
        options.check_start(spec)?;
        policy::check(Asked { options, session: &store.options, batch })?;
        model.device().check()?;
        let start = Instant::now();
        let mut choosing = Choosing::new(options, model.tokenizer(), store.padded_vocab())?;
        let noise = options.noise.map(|noise| noise.rule(spec)).transpose()?;
        let steps = options.steps.unwrap_or(spec.steps.default);
        let text_output = TextOutput::new(model, options)?;
        // An end token is not part of the text, so the next prompt does not follow it.
        let seen = |token: &u32| matches!(prompt, Prompt::Continue) || !text_output.end_tokens().contains(token);
        let mut tokens: Vec<u32> = held.next.filter(seen).into_iter().collect();
        match prompt {
            Prompt::Continue => {}
            Prompt::Tokens(new) => tokens.extend(new),
            Prompt::Text("") => return Err(Error::EmptyPrompt),
            Prompt::Text(text) => {
                let specials = match held.position {
                    0 if options.add_bos => Specials::Prompt,
                    0 => Specials::None,
                    _ => Specials::Continue,
                };
                tokens.extend(encode_prompt(model, text, (specials, context), options)?);
            }
        }
        let prompt = tokens;
        let before = held.position + prompt.len() as u32;
        let limit = most_tokens(options, before)?;
        let wanted = limit.unwrap_or(u32::MAX);
        let depth = Depth { steps, exit: options.exit };
        // If nothing is generated, nothing is computed ahead either.
        let silent = limit == Some(0);
        let parallel = ParallelDecoding::of(options, (steps, spec))?.filter(|_| !silent);
        let parallel =
            parallel.map(|parallel| Ok::<_, Error>((parallel, store.parallel_rows(parallel)?))).transpose()?;
        choosing.follow(Rules::new(options, text_output.end_tokens(), before, limit, store.padded_vocab())?, &prompt);
        let matching = options.constraint.as_ref().map(|it| it.start(model.tokenizer(), text_output.end_tokens()));
        let mut matching = matching.transpose()?;
        matching.as_mut().map_or(Ok(()), |matching| choosing.constrain(matching))?;
        let next = held.next;
        // Positions of a wavefront have their own rule for initial states.
        let continuous = options.continuous.filter(|_| options.diffusion.is_none());
        let carries = continuous.is_some() && next.is_some_and(|next| prompt == [next]) && held.carries;
        let given = options.diffusion.as_ref().and_then(|diffusion| diffusion.given.clone());
        let decoding = Decoding { depth, continuous, noise, choosing, carries, parallel, given, silent };
        let brings = decoding.begins_with_the_prompt();
        let (origin, count) = (held.position, prompt.len() as u32);
        let room = room(store, origin, &prompt, &decoding)?;
        store.check(held, &prompt, steps, State::Seeded)?;
        let prompt_tokens = prompt.len();
        Ok(Self {
            matching,
            said: if decoding.choosing.rules.look_back() { prompt.clone() } else { Vec::new() },
            decoding,
            steps_of: options.steps_of.clone(),
            begun: 0,
            prompt,
            goes_on: wanted > 1,
            rows_of_prompt: store.most_rows(),
            fed: if brings { 0 } else { prompt_tokens },
            prompt_passes: 0,
            left: wanted.min(room).saturating_sub(u32::from(brings)),
            in_round: 0,
            without: 0,
            wavefront: RowSpan {
                end: origin + count + u32::from(brings),
                rows: parallel.map_or(1, |(parallel, _)| parallel.first_rows(count)),
            },
            come: 0,
            arrived: VecDeque::new(),
            limited_by_context: room < wanted,
            under_way: None,
            pending: VecDeque::new(),
            alarm: Alarm::default(),
            prompted: false,
            text_output,
            start,
            first: None,
            origin,
            next,
            given: None,
            statistics: Statistics { prompt_tokens: count, ..Statistics::default() },
            finished: None,
        })
    }

    /// Reserves pages for the prompt and records the plans of all passes.
    pub(crate) fn make_ready(&mut self, passes: &mut Passes<'_>) -> Result<(), Error> {
        passes.make_ready(&self.prompt, &self.decoding, self.goes_on)
    }
}

/// Number of tokens that fit after a prompt. The last token need not be computed, so it takes no position. A wavefront's last token does, because its own state
/// must be frozen first.
fn room(store: &Store, position: u32, prompt: &[u32], decoding: &Decoding) -> Result<u32, Error> {
    let (spec, context) = (store.model.spec(), store.context());
    check_tokens(spec, prompt, position as usize, context)?;
    let (end, count) = (position + prompt.len() as u32, prompt.len() as u32);
    let Some((ParallelDecoding::Wavefront(current), _)) = decoding.parallel else { return Ok(context - end + 1) };
    let states = decoding.given.as_ref().map_or(0, |given| given.states.len());
    let needed = prompt.len() * spec.width as usize;
    if states > 0 && states < needed {
        return Err(Error::State { found: states, expected: needed });
    }
    if current.full_prefill {
        return Ok((context - end).max(1));
    }
    if count >= current.capacity {
        let value = current.capacity.to_string();
        let allowed = "more than the tokens of the prompt, unless that is computed first (full_prefill)";
        return Err(Error::Option { name: "wavefront", value, allowed });
    }
    if end == context {
        let most = spec.context;
        return Err(Error::NoRoom { tokens: end as usize, context, most });
    }
    Ok(context - end)
}
