//! Diffusion forcing (Geiping et al., arXiv 2510.14961): a wave of positions is iterated together, a few steps a round, and every round their tokens are chosen
//! anew, each behind the position before it. A token stands once the state behind it has settled; the wave grows by some positions every round.
//!
//! Other than drafts and guesses this is not exact: a token may stand that plain decoding would not have chosen.

use std::fmt;
use std::str::FromStr;

use ruminate_engine::{Buffer, Device, Graph, Tensor};
use ruminate_shaders::attention::cache::KvShare;
use ruminate_shaders::wave::{
    Freeze, FreezeRule, Mark, Mix, Past, Slide, Wave, blend, emitted_bytes, freeze, mix, settle, slide,
};
use ruminate_shaders::{Row, activation_bytes, stride};

use crate::arch::Pass;
use crate::config::Config;
use crate::error::Error;
use crate::options::{Continuous, GenerateOptions};
use crate::policy::Chosen;
use crate::session::MAX_STEPS;

/// Rows of a wave, at most.
const MOST_ROWS: u32 = 256;

/// A position stands anyhow behind so many times the steps of a token.
const PATIENCE: u32 = 16;

/// Diffusion forcing, with the defaults of the paper. Sessions for it are made with [`Diffusion::SHARE`]: a position's keys are those of its last step.
///
/// The steps of [`GenerateOptions::steps`] are those of the prompt, and what [`FreezeRule::TokenStability`] and [`FreezeRule::Fixed`] count by.
/// [`GenerateOptions::continuous`] lets a new position begin with the state of the one in front of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Diffusion {
    /// Positions that the wave grows by in a round, at least 1. Beyond the first they begin with random tokens.
    pub headway: u32,
    /// Steps of a round.
    pub inner_steps: u32,
    /// Positions of a wave, at most: more than [`Self::headway`], up to 256.
    pub wavefront: u32,
    /// Share that an embedding keeps of the one in the round before, from 0 to below 1.
    pub ema: f32,
    /// Random states that are mixed into those of a round.
    pub noise_mix: NoiseMix,
    /// When a token stands.
    pub freeze: Freezing,
    /// Whether the prompt is computed first, at full depth; if not, it is a part of the first wave, which must have room for it.
    pub full_prefill: bool,
    /// Steps behind which a position stands whether it has settled or not; by default 16 times the steps of a token.
    pub most_steps: Option<u32>,
    /// What is taken instead of random states and tokens, to compare with another implementation.
    pub given: Option<Given>,
}

impl Diffusion {
    /// What sessions for it share: one slot for all steps, the authors' `latest-m4-compress-s4`. Without it, a wave sees what positions that are known looked
    /// like at their first steps.
    pub const SHARE: KvShare = KvShare::Steps(1);
}

impl Default for Diffusion {
    fn default() -> Self {
        Self {
            headway: 1,
            inner_steps: 4,
            wavefront: 128,
            ema: 0.1,
            noise_mix: NoiseMix::default(),
            freeze: Freezing::new(FreezeRule::LatentDiff),
            full_prefill: true,
            most_steps: None,
            given: None,
        }
    }
}

/// Random states that are mixed into those of a wave before every round.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NoiseMix {
    /// Share of the random state, 0 to 1; 0 in the paper, 0.5 in the authors' code.
    pub share: f32,
    /// Whether the share is divided by one more than the steps that the position has had.
    pub dampened: bool,
    /// Whether the roots of the shares are the factors, which keeps the variance.
    pub sqrt: bool,
}

impl Default for NoiseMix {
    fn default() -> Self {
        Self { share: 0.0, dampened: true, sqrt: false }
    }
}

/// When a token of a wave stands.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Freezing {
    /// What is looked at.
    pub rule: FreezeRule,
    /// What the value must be below, by the rules that compare states.
    pub threshold: f32,
    /// Whether it goes as in the authors' code: all positions up to the last that has settled stand, settled or not; behind a round that dropped positions, each
    /// is compared with another one, as far behind it; an embedding that is new is scaled as if there had been a zero one before it; and where the share of
    /// noise is dampened, the first position counts as iterated. If not, positions stand up to the first that has not settled, and each is compared with itself.
    pub authors: bool,
}

impl Freezing {
    /// A rule with the authors' threshold, but none of their ways.
    #[must_use]
    pub const fn new(rule: FreezeRule) -> Self {
        Self { rule, threshold: 0.03, authors: false }
    }
}

/// What is taken instead of what would be drawn.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Given {
    /// States `[at least wavefront, n_embd]`: the first ones for new positions, as many as it has for a prompt, and as many as the wave has for the noise. Empty if they
    /// are drawn.
    pub states: Vec<f32>,
    /// Tokens that new positions beyond the first begin with, one after the other, and again from the start. Empty if they are drawn.
    pub tokens: Vec<u32>,
}

/// `latent-diff`, with a threshold `latent-diff=0.1`, or as the authors have it, `latent-diff=0.1,authors`.
impl FromStr for Freezing {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (rest, authors) = text.strip_suffix(",authors").map_or((text, false), |rest| (rest, true));
        let (name, threshold) = rest.split_once('=').map_or((rest, None), |(name, value)| (name, Some(value)));
        let rule = FreezeRule::ALL.into_iter().find(|rule| rule.name() == name);
        let rule = rule.ok_or_else(|| {
            let all = FreezeRule::ALL.map(FreezeRule::name).join(", ");
            format!("there is no rule {name:?}; there are {all}, and each may end with ,authors")
        })?;
        let mut freezing = Self { authors, ..Self::new(rule) };
        if let Some(value) = threshold {
            if !rule.compares() {
                return Err(format!("{name} compares no states and takes no threshold: give {name} alone"));
            }
            let number: Option<f32> = value.parse().ok().filter(|number: &f32| number.is_finite() && *number > 0.0);
            freezing.threshold =
                number.ok_or_else(|| format!("{value:?} is no threshold: give a number above 0, {name}=0.03"))?;
        }
        Ok(freezing)
    }
}

impl fmt::Display for Freezing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.rule.name())?;
        if self.rule.compares() {
            write!(f, "={}", self.threshold)?;
        }
        f.write_str(if self.authors { ",authors" } else { "" })
    }
}

/// `0.5`, the same share in every round: `0.5,constant`, or with roots, which keeps the variance: `0.5,constant,sqrt`.
impl FromStr for NoiseMix {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut words = text.split(',');
        let share = words.next().and_then(|word| word.parse().ok()).filter(|share| (0.0..=1.0).contains(share));
        let share = share.ok_or_else(|| format!("{text:?}: give a share from 0 to 1, as 0.5 or 0.5,constant,sqrt"))?;
        let mut found = Self { share, ..Self::default() };
        for word in words {
            match word {
                "dampened" => found.dampened = true,
                "constant" => found.dampened = false,
                "sqrt" => found.sqrt = true,
                _ => return Err(format!("{word:?} is none of dampened, constant and sqrt")),
            }
        }
        Ok(found)
    }
}

/// Diffusion forcing as its plans are recorded: equal if it says the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Current {
    pub(crate) headway: u32,
    pub(crate) steps: u32,
    pub(crate) capacity: u32,
    pub(crate) full_prefill: bool,
    rule: FreezeRule,
    authors: bool,
    /// What the rules that count rounds go by.
    rounds: u32,
    most_steps: u32,
    carries: bool,
    /// Bits of the numbers that are none whole.
    threshold: u32,
    ema: u32,
    share: u32,
    dampened: bool,
    sqrt: bool,
    given_states: bool,
    given_tokens: u32,
}

impl Current {
    /// What options ask for.
    pub(crate) fn of(diffusion: &Diffusion, options: &GenerateOptions, steps: u32) -> Result<Self, Error> {
        let wrong =
            |name, value: &dyn ToString, allowed| Err(Error::Option { name, value: value.to_string(), allowed });
        let together = |other, why| Err(Error::Together { one: "diffusion", other, why });
        let Diffusion { headway, inner_steps, wavefront, ema, noise_mix, freeze, full_prefill, most_steps, given } =
            diffusion;
        if *headway == 0 || *headway >= MOST_ROWS {
            return wrong("headway", headway, "from 1 to 255 positions");
        }
        if !(1..=MAX_STEPS).contains(inner_steps) {
            return wrong("inner_steps", inner_steps, "from 1 to 65536");
        }
        if !(headway + 1..=MOST_ROWS).contains(wavefront) {
            return wrong("wavefront", wavefront, "more than the headway, and at most 256 positions");
        }
        if !(0.0..1.0).contains(ema) {
            return wrong("ema", ema, "a share from 0 to below 1");
        }
        if !(0.0..=1.0).contains(&noise_mix.share) {
            return wrong("noise_mix", &noise_mix.share, "a share from 0 to 1");
        }
        if freeze.rule.compares() && !(freeze.threshold.is_finite() && freeze.threshold > 0.0) {
            return wrong("freeze", freeze, "a threshold above 0");
        }
        let most_steps = most_steps.unwrap_or_else(|| steps.saturating_mul(PATIENCE).max(*inner_steps));
        if most_steps == 0 {
            return wrong("most_steps", &most_steps, "at least 1");
        }
        if options.exit.is_some() {
            return together("exit", "tokens stand by rules of their own (freeze)");
        }
        if options.steps_of.is_some() {
            return together("steps_of", "a position is iterated until it has settled");
        }
        if options.noise.is_some() {
            return together("noise", "it mixes random states into its own by another rule (noise_mix)");
        }
        if options.continuous == Some(Continuous::Normed) {
            return together("continuous=normed", "a position begins with the state in front of it as it is: raw");
        }
        Ok(Self {
            headway: *headway,
            steps: *inner_steps,
            capacity: *wavefront,
            full_prefill: *full_prefill,
            rule: freeze.rule,
            authors: freeze.authors,
            rounds: steps / inner_steps,
            most_steps,
            carries: options.continuous.is_some(),
            threshold: freeze.threshold.to_bits(),
            ema: ema.to_bits(),
            share: noise_mix.share.to_bits(),
            dampened: noise_mix.dampened,
            sqrt: noise_mix.sqrt,
            given_states: given.as_ref().is_some_and(|given| !given.states.is_empty()),
            given_tokens: given.as_ref().map_or(0, |given| given.tokens.len() as u32),
        })
    }

    /// Rows that a wave grows to if positions take the steps of a token.
    pub(crate) fn usual_rows(&self) -> u32 {
        (self.headway.saturating_mul(self.rounds + 1)).min(self.capacity)
    }

    /// Rounds without a token that stands, at most.
    pub(crate) fn patience(&self) -> u32 {
        self.most_steps.div_ceil(self.steps) + 4
    }

    /// What is kept of the states at the beginning of a round.
    const fn past(&self) -> Past {
        match (self.rule, self.authors) {
            (FreezeRule::LatentAcceleration1 | FreezeRule::LatentAcceleration2, false) => Past::Aligned,
            (FreezeRule::LatentAcceleration1, true) => Past::Changes,
            (FreezeRule::LatentAcceleration2, true) => Past::Places,
            _ => Past::Nothing,
        }
    }

    fn freeze(&self) -> Freeze {
        Freeze {
            headway: self.headway,
            steps: self.steps,
            rule: self.rule,
            authors: self.authors,
            threshold: f32::from_bits(self.threshold),
            rounds: self.rounds,
            most_steps: self.most_steps,
            carries: self.carries,
            given: self.given_tokens,
        }
    }

    /// The wave before its first round: its first position, or a whole prompt, of which the last token is known.
    fn wave(&self, first: u32, length: u32) -> Wave {
        let (judged_at_once, counts) = (!self.full_prefill, self.authors && !self.full_prefill);
        Wave {
            first,
            length,
            known: first + length,
            // The authors compare nothing in the first round behind a prompt.
            slip: if self.authors && !judged_at_once { first.max(length) } else { 0 },
            swept: if counts { length } else { 0 },
            changes: if counts { length } else { 0 },
            ..Wave::default()
        }
    }

    /// Writes a wave into the tables of its sites: a position behind a prompt that has been computed at so many steps, or the prompt's own tokens.
    pub(crate) fn launch(
        &self,
        device: &Device,
        (sites, table): (&WaveSites, &Buffer),
        (position, tokens): (u32, &[u32]),
        steps: u32,
    ) -> Result<(), Error> {
        let mut rows = vec![Row::RESTING; self.capacity as usize];
        let mut marks = vec![Mark::default(); self.capacity as usize];
        if self.full_prefill && self.authors {
            marks[0].steps = steps;
        }
        if !self.full_prefill {
            for ((place, row), &token) in (0..).zip(&mut rows).zip(tokens) {
                *row = Row { output: place, ..Row::new(0, position + place, token) };
            }
        }
        let wave = if self.full_prefill {
            self.wave(position + tokens.len() as u32, 1)
        } else {
            self.wave(position, tokens.len() as u32)
        };
        device.write(table, 0, bytemuck::cast_slice(&rows))?;
        device.write(&sites.wave, 0, bytemuck::bytes_of(&wave))?;
        device.write(&sites.marks, 0, bytemuck::cast_slice(&marks))?;
        Ok(device.write(&sites.before, 0, &vec![0; sites.before.size() as usize])?)
    }

    /// Records what comes between the prelude and the steps of a round.
    pub(crate) fn begin_round(&self, pass: &mut Pass<'_>, sites: &WaveSites, n: u32) -> Result<(), Error> {
        let rows = pass.shape.rows;
        let [wave, marks, given, moved, held, previous] =
            [&sites.wave, &sites.marks, &sites.states, &sites.moved, &sites.held, &sites.previous]
                .map(|buffer| pass.graph.import(buffer));
        let [embedding, state, sequences] =
            [&pass.sites.embedding, &pass.sites.state, pass.sequences].map(|buffer| pass.graph.import(buffer));
        let ema = f32::from_bits(self.ema);
        if ema > 0.0 {
            pass.graph.launch(blend(rows, n, ema, self.authors), &[wave, held, embedding])?;
        }
        let noise = Mix { share: f32::from_bits(self.share), dampened: self.dampened, sqrt: self.sqrt };
        let launch = mix(rows, n, noise, self.given_states);
        pass.graph.launch(launch, &[wave, marks, sequences, given, moved, state, previous])?;
        Ok(())
    }

    /// Records how far the states of a round have settled.
    pub(crate) fn judge(&self, pass: &mut Pass<'_>, sites: &WaveSites, n: u32) -> Result<(), Error> {
        if !self.rule.compares() {
            return Ok(());
        }
        let [wave, state, previous, before, marks] =
            [&sites.wave, &pass.sites.state, &sites.previous, &sites.before, &sites.marks]
                .map(|buffer| pass.graph.import(buffer));
        let launch = settle(&pass.device.caps(), pass.shape.rows, n, self.rule, self.authors);
        Ok(pass.graph.launch(launch, &[wave, state, previous, before, marks])?)
    }

    /// Records the end of a round of so many rows, once tokens are chosen.
    pub(crate) fn end_round(
        &self,
        graph: &mut Graph,
        sites: &WaveSites,
        [chosen, sequences, rows, history, emitted, state, embedding]: [Tensor; 7],
        (rows_now, n, vocab, extent): (u32, u32, u32, (u32, u32)),
    ) -> Result<(), Error> {
        let [wave, marks, given, previous, before, moved, held] =
            [&sites.wave, &sites.marks, &sites.tokens, &sites.previous, &sites.before, &sites.moved, &sites.held]
                .map(|buffer| graph.import(buffer));
        let launch = freeze(self.capacity, vocab, extent, self.freeze());
        graph.launch(launch, &[chosen, given, sequences, rows, wave, marks, history, emitted])?;
        let rows = (rows_now + self.headway).min(self.capacity);
        let launch = slide(Slide { rows, n, headway: self.headway, past: self.past() });
        Ok(graph.launch(launch, &[wave, state, embedding, previous, before, moved, held])?)
    }
}

/// What rounds of a wave hand on to each other.
#[derive(Clone)]
pub(crate) struct WaveSites {
    wave: Buffer,
    marks: Buffer,
    /// Given states and tokens, or something small in their place.
    states: Buffer,
    tokens: Buffer,
    moved: Buffer,
    held: Buffer,
    previous: Buffer,
    before: Buffer,
}

impl WaveSites {
    /// For waves of up to so many rows; `given` is checked and uploaded.
    pub(crate) fn new(device: &Device, config: &Config, rows: u32, given: Option<&Given>) -> Result<Self, Error> {
        let bytes = activation_bytes(rows, config.n_embd);
        let states = |name: &str| device.buffer(&format!("{name} of a wave of {rows}"), bytes);
        Ok(Self {
            wave: device.buffer("wave", size_of::<Wave>() as u64)?,
            marks: device.buffer("marks of a wave", u64::from(rows) * size_of::<Mark>() as u64)?,
            states: given_states(device, config, rows, given)?,
            tokens: given_tokens(device, config, given)?,
            moved: states("moved states")?,
            held: states("held embeddings")?,
            previous: states("previous states")?,
            before: states("states before")?,
        })
    }
}

fn given_states(device: &Device, config: &Config, rows: u32, given: Option<&Given>) -> Result<Buffer, Error> {
    let Some(states) = given.map(|given| &given.states).filter(|states| !states.is_empty()) else {
        return Ok(device.buffer("no given states", 16)?);
    };
    let (n, expected) = (config.n_embd, rows as usize * config.n_embd as usize);
    if states.len() < expected {
        return Err(Error::State { found: states.len(), expected });
    }
    let padded: Vec<f32> = states[..expected]
        .chunks(n as usize)
        .flat_map(|row| row.iter().copied().chain((n..stride(n)).map(|_| 0.0)))
        .collect();
    let buffer = device.buffer("given states", activation_bytes(rows, n))?;
    device.write(&buffer, 0, bytemuck::cast_slice(&padded))?;
    Ok(buffer)
}

fn given_tokens(device: &Device, config: &Config, given: Option<&Given>) -> Result<Buffer, Error> {
    let Some(tokens) = given.map(|given| &given.tokens).filter(|tokens| !tokens.is_empty()) else {
        return Ok(device.buffer("no given tokens", 4)?);
    };
    let vocab = config.padded_vocab_size;
    if let Some(&token) = tokens.iter().find(|&&token| token >= vocab) {
        return Err(Error::Token { token, vocab });
    }
    let buffer = device.buffer("given tokens", tokens.len() as u64 * 4)?;
    device.write(&buffer, 0, bytemuck::cast_slice(tokens))?;
    Ok(buffer)
}

/// Where a wave is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Front {
    /// Position behind the last row.
    pub(crate) end: u32,
    /// Rows.
    pub(crate) rows: u32,
}

/// Bytes that a round of up to so many rows brings.
pub(crate) const fn round_bytes(rows: u32) -> u64 {
    emitted_bytes(rows)
}

/// The tokens that a round let stand, with the steps of the rows that they were chosen behind, and where the wave is now.
pub(crate) fn emitted(results: &[Vec<u8>], capacity: u32, ranked: Option<u32>) -> Option<(Vec<Chosen>, Front)> {
    let [words, _, rest @ ..] = results else { return None };
    let words: Vec<u32> = bytemuck::pod_collect_to_vec(words);
    let (count, capacity) = (*words.first()? as usize, capacity as usize);
    let part = |i: usize| words.get(1 + i * capacity..)?.get(..count);
    let chosen =
        |((&token, &place), &steps): ((&u32, &u32), &u32)| Chosen::ranked(token, steps, rest, place as usize, ranked);
    let tokens: Option<Vec<Chosen>> = part(0)?.iter().zip(part(1)?).zip(part(2)?).map(chosen).collect();
    let [first, rows] = *words.get(3 * capacity + 1..)?.first_chunk()?;
    Some((tokens?, Front { end: first + rows, rows }))
}
