//! Wavefronts on the device: options as part of a plan's key, the buffers that rounds pass on, and the results of a round.

use ruminate_engine::{Buffer, Device, Graph, Tensor};
use ruminate_shaders::wavefront::{
    Freeze, FreezeRule, Mark, Mix, Past, Shift, Wavefront, blend, compare, freeze, mix, shift,
};
use ruminate_shaders::{Row, activation_bytes};

use super::{Diffusion, Given};
use crate::arch::Spec;
use crate::arch::{Pass, Sites};
use crate::decoding::Chosen;
use crate::error::Error;
use crate::options::GenerateOptions;
use crate::plans::PlanInputs;
use crate::session::{MAX_STEPS, padded};

/// Maximum rows of a wavefront.
const MOST_ROWS: u32 = 256;

/// A position is frozen at the latest after this many times the steps of a token.
const PATIENCE: u32 = 16;

/// Options of diffusion forcing as part of a plan's key, so they can be compared and hashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Current {
    pub(crate) headway: u32,
    pub(crate) steps: u32,
    pub(crate) capacity: u32,
    pub(crate) full_prefill: bool,
    rule: FreezeRule,
    authors: bool,
    /// Number of rounds, for rules that count rounds.
    rounds: u32,
    most_steps: u32,
    carries: bool,
    /// `f32` fields as bits, so that the struct can derive `Eq` and `Hash`.
    threshold: u32,
    ema: u32,
    share: u32,
    dampened: bool,
    sqrt: bool,
    given_states: bool,
    given_tokens: u32,
}

impl Current {
    /// Validates the options.
    pub(crate) fn of(diffusion: &Diffusion, options: &GenerateOptions, steps: u32) -> Result<Self, Error> {
        let wrong =
            |name, value: &dyn ToString, allowed| Err(Error::Option { name, value: value.to_string(), allowed });
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
            return wrong("ema", ema, "from 0 to below 1");
        }
        if !(0.0..=1.0).contains(&noise_mix.share) {
            return wrong("noise_mix", &noise_mix.share, "from 0 to 1");
        }
        if freeze.rule.compares() && !(freeze.threshold.is_finite() && freeze.threshold > 0.0) {
            return wrong("freeze", freeze, "a threshold above 0");
        }
        let most_steps = most_steps.unwrap_or_else(|| steps.saturating_mul(PATIENCE).max(*inner_steps));
        if most_steps == 0 {
            return wrong("most_steps", &most_steps, "at least 1");
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

    /// Rows that a wavefront grows to if every position takes the steps of a token.
    pub(crate) fn usual_rows(&self) -> u32 {
        (self.headway.saturating_mul(self.rounds + 1)).min(self.capacity)
    }

    /// Maximum number of rounds without a frozen token.
    pub(crate) fn patience(&self) -> u32 {
        self.most_steps.div_ceil(self.steps) + 4
    }

    /// States of earlier rounds that the rule compares with.
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

    /// The wavefront before its first round: its first position, or a whole prompt, of which the last token is known. In the first round after a prompt, the
    /// authors' code does not compare anything, and it compares a prompt with zeros.
    fn wavefront(&self, sequence: u32, first: u32, length: u32) -> Wavefront {
        let wavefront = Wavefront { first, length, known: first + length, sequence, ..Wavefront::default() };
        match (self.authors, self.full_prefill) {
            (false, _) => wavefront,
            (true, true) => Wavefront { slip: first, ..wavefront },
            (true, false) => Wavefront { swept: length, changes: length, ..wavefront },
        }
    }

    /// Writes a wavefront to its buffers: one position after a prompt that was computed at `steps` steps, or the tokens of the prompt itself.
    pub(crate) fn launch(
        &self,
        device: &Device,
        (sites, table): (&WavefrontSites, &Buffer),
        (sequence, position, tokens): (u32, u32, &[u32]),
        steps: u32,
    ) -> Result<(), Error> {
        let mut rows = vec![Row::RESTING; self.capacity as usize];
        let mut marks = vec![Mark::default(); self.capacity as usize];
        if self.full_prefill && self.authors {
            marks[0].steps = steps;
        }
        if !self.full_prefill {
            for ((place, row), &token) in (0..).zip(&mut rows).zip(tokens) {
                *row = Row { output: place, ..Row::new(sequence, position + place, token) };
            }
        }
        let wavefront = if self.full_prefill {
            self.wavefront(sequence, position + tokens.len() as u32, 1)
        } else {
            self.wavefront(sequence, position, tokens.len() as u32)
        };
        device.write(table, 0, bytemuck::cast_slice(&rows))?;
        device.write(&sites.wavefront, 0, bytemuck::bytes_of(&wavefront))?;
        device.write(&sites.marks, 0, bytemuck::cast_slice(&marks))?;
        Ok(device.write(&sites.before, 0, &vec![0; sites.before.size() as usize])?)
    }

    /// Records the launches between the prelude and the steps of a round.
    pub(crate) fn begin_round(&self, pass: &mut Pass<'_>, sites: &WavefrontSites, n: u32) -> Result<(), Error> {
        let rows = pass.shape.rows;
        let [wavefront, marks, given, moved, held, previous] =
            [&sites.wavefront, &sites.marks, &sites.states, &sites.moved, &sites.held, &sites.previous]
                .map(|buffer| pass.graph.import(buffer));
        let [embedding, state, sequences] =
            [&pass.sites.embedding, &pass.sites.state, pass.sequences].map(|buffer| pass.graph.import(buffer));
        let ema = f32::from_bits(self.ema);
        if ema > 0.0 {
            pass.graph.launch(blend(rows, n, ema, self.authors), &[wavefront, held, embedding])?;
        }
        let noise = Mix { share: f32::from_bits(self.share), dampened: self.dampened, sqrt: self.sqrt };
        let launch = mix(rows, n, noise, (pass.kv.sequences(), self.given_states));
        pass.graph.launch(launch, &[wavefront, marks, sequences, given, moved, state, previous])?;
        Ok(())
    }

    /// Records the comparison of a round's states with earlier ones, if the rule needs it.
    pub(crate) fn judge(&self, pass: &mut Pass<'_>, sites: &WavefrontSites, n: u32) -> Result<(), Error> {
        if !self.rule.compares() {
            return Ok(());
        }
        let [wavefront, state, previous, before, marks] =
            [&sites.wavefront, &pass.sites.state, &sites.previous, &sites.before, &sites.marks]
                .map(|buffer| pass.graph.import(buffer));
        let launch = compare(&pass.device.caps(), pass.shape.rows, n, self.rule, self.authors);
        Ok(pass.graph.launch(launch, &[wavefront, state, previous, before, marks])?)
    }

    /// Records the end of a round of `rows` rows of width `n`, after tokens are chosen.
    pub(crate) fn end_round(
        &self,
        graph: &mut Graph,
        inputs: &PlanInputs<'_>,
        pass_sites: &Sites,
        (rows, n): (u32, u32),
        chosen: Tensor,
    ) -> Result<(), Error> {
        let (parallel_sites, sites) = inputs.wavefront()?;
        let [sequences, history, table, emitted] =
            [&inputs.tables.sequences, &inputs.tables.history, &pass_sites.rows, &parallel_sites.emitted]
                .map(|it| graph.import(it));
        let [wavefront, marks, given] = [&sites.wavefront, &sites.marks, &sites.tokens].map(|it| graph.import(it));
        let extent = (inputs.kv.sequences(), inputs.kv.context());
        let launch = freeze(self.capacity, inputs.looped.vocab(), extent, self.freeze());
        graph.launch(launch, &[chosen, given, sequences, table, wavefront, marks, history, emitted])?;
        let [state, embedding, previous, before, moved, held] =
            [&pass_sites.state, &pass_sites.embedding, &sites.previous, &sites.before, &sites.moved, &sites.held]
                .map(|it| graph.import(it));
        let rows = (rows + self.headway).min(self.capacity);
        let launch = shift(Shift { rows, n, headway: self.headway, past: self.past() });
        Ok(graph.launch(launch, &[wavefront, state, embedding, previous, before, moved, held])?)
    }
}

/// Buffers that rounds of a wavefront pass on to each other.
#[derive(Clone)]
pub(crate) struct WavefrontSites {
    wavefront: Buffer,
    marks: Buffer,
    /// Given states and tokens, or small placeholder buffers.
    states: Buffer,
    tokens: Buffer,
    moved: Buffer,
    held: Buffer,
    previous: Buffer,
    before: Buffer,
}

impl WavefrontSites {
    /// Creates buffers for wavefronts of up to `rows` rows; `given` is checked and uploaded.
    pub(crate) fn new(device: &Device, spec: &Spec, rows: u32, given: Option<&Given>) -> Result<Self, Error> {
        let bytes = activation_bytes(rows, spec.width);
        let states = |name: &str| device.buffer(&format!("{name} of a wavefront of {rows}"), bytes);
        Ok(Self {
            wavefront: device.buffer("wavefront", size_of::<Wavefront>() as u64)?,
            marks: device.buffer("marks of a wavefront", u64::from(rows) * size_of::<Mark>() as u64)?,
            states: given_states(device, spec, rows, given)?,
            tokens: given_tokens(device, spec, given)?,
            moved: states("moved states")?,
            held: states("held embeddings")?,
            previous: states("previous states")?,
            before: states("states before")?,
        })
    }
}

fn given_states(device: &Device, spec: &Spec, rows: u32, given: Option<&Given>) -> Result<Buffer, Error> {
    let Some(states) = given.map(|given| &given.states).filter(|states| !states.is_empty()) else {
        return Ok(device.buffer("no given states", 16)?);
    };
    let (n, expected) = (spec.width, rows as usize * spec.width as usize);
    if states.len() < expected {
        return Err(Error::State { found: states.len(), expected });
    }
    let buffer = device.buffer("given states", activation_bytes(rows, n))?;
    device.write(&buffer, 0, bytemuck::cast_slice(&padded(&states[..expected], n)))?;
    Ok(buffer)
}

fn given_tokens(device: &Device, spec: &Spec, given: Option<&Given>) -> Result<Buffer, Error> {
    let Some(tokens) = given.map(|given| &given.tokens).filter(|tokens| !tokens.is_empty()) else {
        return Ok(device.buffer("no given tokens", 4)?);
    };
    let vocab = spec.padded_vocab;
    if let Some(&token) = tokens.iter().find(|&&token| token >= vocab) {
        return Err(Error::Token { token, vocab });
    }
    let buffer = device.buffer("given tokens", tokens.len() as u64 * 4)?;
    device.write(&buffer, 0, bytemuck::cast_slice(tokens))?;
    Ok(buffer)
}

/// Extent of the rows of parallel decoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RowSpan {
    /// Position after the last row.
    pub(crate) end: u32,
    /// Number of rows.
    pub(crate) rows: u32,
}

/// Tokens that a round froze, with the steps of the rows that they were chosen from, and the new extent of the wavefront.
pub(crate) fn emitted(results: &[Vec<u8>], capacity: u32, ranked: Option<u32>) -> Option<(Vec<Chosen>, RowSpan)> {
    let [words, _, rest @ ..] = results else { return None };
    let words: Vec<u32> = bytemuck::pod_collect_to_vec(words);
    let (count, capacity) = (*words.first()? as usize, capacity as usize);
    let part = |i: usize| words.get(1 + i * capacity..)?.get(..count);
    let chosen =
        |((&token, &place), &steps): ((&u32, &u32), &u32)| Chosen::ranked(token, steps, rest, place as usize, ranked);
    let tokens: Option<Vec<Chosen>> = part(0)?.iter().zip(part(1)?).zip(part(2)?).map(chosen).collect();
    let [first, rows] = *words.get(3 * capacity + 1..)?.first_chunk()?;
    Some((tokens?, RowSpan { end: first + rows, rows }))
}
