//! Decoding ahead of the known tokens: speculative decoding, pipelined decoding and the rounds of diffusion forcing.
//!
//! Speculation drafts tokens that one pass verifies. Pipelined decoding begins positions with draft tokens while earlier positions are still iterated. Both
//! produce the tokens of plain decoding, sampled or not, because a draw depends only on its position and on the logits. They need fewer passes over the core's
//! weights, because rows share a pass.

use std::collections::hash_map::Entry;

use ruminate_engine::{Buffer, Device, Execution};
use ruminate_shaders::Row;
use ruminate_shaders::speculative::{Front, emitted_bytes};
use ruminate_shaders::wavefront;

use crate::arch::Spec;
use crate::decoding::{Chosen, Decoding};
use crate::diffusion::{Current, RowSpan, WavefrontSites};
use crate::early_exit::Checks;
use crate::error::Error;
use crate::options::GenerateOptions;
use crate::plans::{Follow, PlanCache, PlanKey};
use crate::schedule::passes::Passes;
use crate::schedule::store::Store;

/// Maximum rows of one pass of parallel decoding.
const MOST_ROWS: u32 = 64;

/// Self-speculation: tokens are drafted at few steps, then verified together in one pass at full depth.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(default, deny_unknown_fields))]
pub struct Speculate {
    /// Steps of a draft; by default an eighth of a token's steps, or half of them for models with few steps.
    pub draft_steps: Option<u32>,
    /// Number of tokens drafted before they are verified, 1 to 63.
    pub draft_len: u32,
    /// A draft is accepted if its probability is at least this fraction of the probability of the token chosen at full depth. With 1, only that token is
    /// accepted, so the text does not change; lower values are faster but change the text.
    pub threshold: f32,
}

impl Default for Speculate {
    fn default() -> Self {
        Self { draft_steps: None, draft_len: 4, threshold: 1.0 }
    }
}

/// Depth-pipelined decoding: when a position has had some of its steps, the next position begins with the token of an early read-out, and all of them continue
/// in the same passes. A rejected draft wastes the work on the positions after it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(default, deny_unknown_fields))]
pub struct Pipeline {
    /// Steps between read-outs; by default an eighth of a token's steps.
    pub every: Option<u32>,
}

/// Parameters of parallel decoding.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum ParallelDecoding {
    /// Passes that draft `count` tokens at `steps` steps, then one that verifies them.
    Drafts { steps: u32, count: u32, threshold: f32 },
    /// Rounds of `every` steps, for up to `rows` positions.
    Pipelined { every: u32, rows: u32 },
    /// Rounds of a wavefront, whose tokens are final once frozen.
    Wavefront(Current),
}

impl ParallelDecoding {
    /// Parallel decoding set by the options.
    pub(crate) fn of(options: &GenerateOptions, (steps, spec): (u32, &Spec)) -> Result<Option<Self>, Error> {
        let wrong = |name, value: String, allowed| Err(Error::Option { name, value, allowed });
        if let Some(diffusion) = &options.diffusion {
            return Ok(Some(Self::Wavefront(Current::of(diffusion, options, steps)?)));
        }
        let parallel = match (options.speculate, options.pipeline) {
            (None, None) => return Ok(None),
            (Some(speculate), _) => {
                let Speculate { draft_steps, draft_len, threshold } = speculate;
                let draft_steps = draft_steps.unwrap_or_else(|| spec.steps_of_draft(steps));
                if draft_steps == 0 || draft_steps > steps {
                    let limit = "the steps of a token";
                    return Err(Error::Range { name: "draft_steps", value: draft_steps, least: 1, most: steps, limit });
                }
                if draft_len == 0 || draft_len >= MOST_ROWS {
                    return wrong("draft_len", draft_len.to_string(), "from 1 to 63 tokens");
                }
                if !(threshold > 0.0 && threshold <= 1.0) {
                    return wrong("verify_threshold", threshold.to_string(), "a number above 0 and at most 1");
                }
                Self::Drafts { steps: draft_steps, count: draft_len, threshold }
            }
            (None, Some(Pipeline { every })) => {
                // A row is read out after its last step, so a larger interval has no effect.
                let every = every.unwrap_or_else(|| steps.div_ceil(8)).min(steps);
                if every == 0 || steps.div_ceil(every) > MOST_ROWS {
                    let value = format!("{every} at {steps} steps");
                    return wrong("pipeline every", value, "at least 1, and at least a 64th of the steps");
                }
                Self::Pipelined { every, rows: steps.div_ceil(every) }
            }
        };
        Ok(Some(parallel))
    }

    /// Number of rows in the table.
    pub(crate) const fn rows(&self) -> u32 {
        match *self {
            Self::Drafts { count, .. } => count + 1,
            Self::Pipelined { rows, .. } => rows,
            Self::Wavefront(current) => current.capacity,
        }
    }

    /// Rows of the first round after a prompt of `prompt` tokens.
    pub(crate) const fn first_rows(&self, prompt: u32) -> u32 {
        if self.begins_with_the_prompt() { 1 } else { prompt }
    }

    /// Number of passes in a round.
    pub(crate) const fn passes(&self) -> u32 {
        match *self {
            Self::Drafts { count, .. } => count + 1,
            Self::Pipelined { .. } | Self::Wavefront(_) => 1,
        }
    }

    /// Largest extent of the last of `rounds` rounds in a table of `rows` rows, when tokens up to `known` are known and the wavefront is at `wavefront`.
    pub(crate) fn row_span(&self, rounds: u32, rows: u32, known: u32, wavefront: RowSpan) -> RowSpan {
        match *self {
            Self::Drafts { count, .. } => RowSpan { end: known + rounds * (count + 1), rows },
            Self::Pipelined { rows: guesses, .. } => RowSpan { end: known + guesses + rounds, rows },
            Self::Wavefront(Current { headway, capacity, .. }) => {
                let grown = headway * (rounds - 1);
                RowSpan { end: wavefront.end + grown, rows: (wavefront.rows + grown).min(capacity) }
            }
        }
    }

    /// Whether the prompt's pass chooses the first token.
    pub(crate) const fn begins_with_the_prompt(&self) -> bool {
        !matches!(self, Self::Wavefront(Current { full_prefill: false, .. }))
    }

    /// Maximum number of rounds in a row without a token, in a table of `rows` rows.
    pub(crate) fn patience(&self, rows: u32) -> u32 {
        match self {
            Self::Wavefront(current) => current.patience(),
            // A row takes at most as many rounds as the table has rows.
            Self::Drafts { .. } | Self::Pipelined { .. } => rows + 1,
        }
    }

    /// Passes over the core's weights in a round, with `steps` steps per token.
    pub(crate) fn core_passes(&self, steps: u32) -> u64 {
        match *self {
            Self::Drafts { steps: drafted, count, .. } => u64::from(count) * u64::from(drafted) + u64::from(steps),
            Self::Pipelined { every, .. } => every.into(),
            Self::Wavefront(Current { steps, .. }) => steps.into(),
        }
    }
}

/// Plans and buffers of parallel decoding, for one table size.
pub(crate) struct ParallelBuffers {
    pub(crate) plans: PlanCache,
    pub(crate) sites: ParallelSites,
}

/// Buffers through which passes of parallel decoding communicate with each other and with the host.
#[derive(Clone)]
pub(crate) struct ParallelSites {
    pub(crate) table: Buffer,
    /// Positions under way, if rows begin with drafts.
    pub(crate) front: Option<Buffer>,
    /// Buffers of the wavefront, once there has been one.
    pub(crate) wavefront: Option<WavefrontSites>,
    pub(crate) emitted: Buffer,
}

impl ParallelBuffers {
    pub(crate) fn new(device: &Device, spec: &crate::arch::Spec, rows: u32) -> Result<Self, Error> {
        let plans = PlanCache::new(device, spec, rows, rows)?;
        let sites = ParallelSites {
            table: plans.sites.rows.clone(),
            front: Some(device.buffer("front", size_of::<Front>() as u64)?),
            wavefront: None,
            emitted: device.buffer("emitted tokens", emitted_bytes(rows).max(wavefront::emitted_bytes(rows)))?,
        };
        Ok(Self { plans, sites })
    }
}

impl Store {
    /// Rows of the table of parallel decoding. In invariant mode, it is the fixed number of rows.
    pub(crate) fn parallel_rows(&self, parallel: ParallelDecoding) -> Result<u32, Error> {
        let Some(rows) = self.fixed_rows() else { return Ok(parallel.rows()) };
        if parallel.rows() <= rows && !matches!(parallel, ParallelDecoding::Wavefront(_)) {
            return Ok(rows);
        }
        let (name, value, allowed) = match parallel {
            ParallelDecoding::Drafts { count, .. } => {
                ("draft_len", count, "at most 7 tokens in invariant mode, whose passes have 8 rows")
            }
            ParallelDecoding::Pipelined { every, .. } => {
                ("pipeline every", every, "at least an eighth of the steps in invariant mode, whose passes have 8 rows")
            }
            ParallelDecoding::Wavefront(_) => {
                let why = "a wavefront's tokens differ from those of plain decoding anyway";
                return Err(Error::Together { one: "diffusion", other: "invariant", why });
            }
        };
        Err(Error::Option { name, value: value.to_string(), allowed })
    }
}

impl Passes<'_> {
    /// Prepares parallel decoding after a prompt: its buffers, table and plans.
    pub(crate) fn prepare_parallel(&mut self, decoding: &Decoding, prompt: &[u32]) -> Result<(), Error> {
        let Some((parallel, rows)) = decoding.parallel else { return Ok(()) };
        let device = self.store.model.device().clone();
        if decoding.given.is_some() {
            // Plans of an earlier generation read the values given to that one.
            self.own.parallel_buffers.remove(&rows);
        }
        let buffers = match self.own.parallel_buffers.entry(rows) {
            Entry::Occupied(buffers) => buffers.into_mut(),
            Entry::Vacant(place) => place.insert(ParallelBuffers::new(&device, self.store.model.spec(), rows)?),
        };
        let mut table = vec![Row::RESTING; rows as usize];
        device.write(&buffers.plans.sites.picked, 0, bytemuck::cast_slice(&table))?;
        if let ParallelDecoding::Wavefront(current) = parallel {
            let sites = match &mut buffers.sites.wavefront {
                Some(sites) => sites,
                none => {
                    none.insert(WavefrontSites::new(&device, self.store.model.spec(), rows, decoding.given.as_ref())?)
                }
            };
            if !current.full_prefill {
                self.store.write_history(self.own.slot, self.own.position, prompt)?;
            }
            current.launch(
                &device,
                (sites, &buffers.sites.table),
                (self.own.slot, self.own.position, prompt),
                decoding.depth.steps,
            )?;
        } else {
            // Drafts count from this position before there are any.
            let position = self.own.position + prompt.len() as u32;
            table[0].position = position;
            device.write(&buffers.sites.table, 0, bytemuck::cast_slice(&table))?;
            if let Some(front) = &buffers.sites.front {
                device.write(front, 0, bytemuck::bytes_of(&Front { oldest: position, origin: position }))?;
            }
        }
        self.write_sequence(decoding.depth.steps)?;
        let mut most = parallel.first_rows(prompt.len() as u32);
        self.plan_parallel(parallel, rows, (decoding, most))?;
        // Record plans up to the usual size of a wavefront, so that none is recorded during generation.
        while let ParallelDecoding::Wavefront(current) = parallel
            && most < current.usual_rows()
        {
            most = wavefront_rows(most + 1);
            self.plan_parallel(parallel, rows, (decoding, most))?;
        }
        Ok(())
    }

    /// Begins pass `index` of a round that extends at most to `row_span`. The last pass of the round brings tokens.
    pub(crate) fn begin_parallel(
        &mut self,
        index: u32,
        decoding: &Decoding,
        row_span: RowSpan,
    ) -> Result<Execution, Error> {
        let (parallel, rows) = decoding.parallel.ok_or(Error::bug("parallel passes belong to parallel decoding"))?;
        let end = row_span.end.min(self.store.context());
        self.reserve(end, decoding.slots())?;
        self.own.position = self.own.position.max(end);
        self.own.last = None;
        let device = self.store.model.device().clone();
        if index + 1 < parallel.passes() {
            let ParallelDecoding::Drafts { steps, .. } = parallel else {
                return Err(Error::bug("only drafts take several passes"));
            };
            return Ok(device.begin(self.plan(self.store.single(), decoding.decoded())?, &[steps], &[])?);
        }
        let counts = match parallel {
            ParallelDecoding::Drafts { .. } => decoding.depth.counts(decoding.depth.decoding()),
            ParallelDecoding::Pipelined { every, .. } => vec![every],
            ParallelDecoding::Wavefront(Current { steps, .. }) => vec![steps],
        };
        let ParallelBuffers { plans, sites } = self
            .own
            .parallel_buffers
            .get(&rows)
            .ok_or(Error::bug("the buffers of parallel decoding exist before its passes"))?;
        let mut brought = vec![sites.emitted.clone(), plans.sites.picked.clone()];
        if let (Some(_), Some(ranks)) = (decoding.choosing.logprobs, &plans.ranks) {
            brought.extend([ranks.ranked.clone(), ranks.logprobs.clone()]);
        }
        let reads: Vec<&Buffer> = brought.iter().collect();
        Ok(device.begin(self.plan_parallel(parallel, rows, (decoding, row_span.rows))?, &counts, &reads)?)
    }

    /// Plan of the pass that brings tokens. A wavefront's plan has at most `most` rows, rounded up.
    fn plan_parallel(
        &mut self,
        parallel: ParallelDecoding,
        rows: u32,
        (decoding, most): (&Decoding, u32),
    ) -> Result<&ruminate_engine::Plan, Error> {
        let (follow, checks) = match parallel {
            ParallelDecoding::Drafts { threshold, .. } => {
                (Follow::Verify(threshold.to_bits()), decoding.depth.decoding())
            }
            ParallelDecoding::Pipelined { .. } => (Follow::Guess, Checks::apart(decoding.depth.exit.iter())),
            ParallelDecoding::Wavefront(current) => (Follow::Wavefront(wavefront_rows(most).min(rows), current), None),
        };
        let plan = PlanKey { checks, follow, noise: decoding.noise.is_some(), ..PlanKey::choosing(&decoding.choosing) };
        let next = self.next_row()?;
        let ParallelBuffers { plans, sites } = self
            .own
            .parallel_buffers
            .get_mut(&rows)
            .ok_or(Error::bug("the buffers of parallel decoding exist before its passes"))?;
        plans.plan(&self.store.plan_inputs(Some(&next), Some(sites)), plan)
    }
}

/// Rows of the plan for a wavefront of `count` rows. There are only a few sizes, and no small ones, because a wavefront outgrows them quickly.
fn wavefront_rows(count: u32) -> u32 {
    count.next_power_of_two().max(8)
}

/// Tokens that a round brought, with the steps of the rows that they were chosen from.
pub(crate) fn emitted(results: &[Vec<u8>], rows: u32, ranked: Option<u32>) -> Option<Vec<Chosen>> {
    let [words, picked, rest @ ..] = results else { return None };
    let words: Vec<u32> = bytemuck::pod_collect_to_vec(words);
    let picked: Vec<Row> = bytemuck::pod_collect_to_vec(picked);
    let count = *words.first()? as usize;
    let tokens = words.get(1..=count)?;
    let places = words.get(1 + rows as usize..)?.get(..count)?;
    let chosen = |(&token, &place): (&u32, &u32)| {
        let place = place as usize;
        Chosen::ranked(token, picked.get(place)?.step, rest, place, ranked)
    };
    tokens.iter().zip(places).map(chosen).collect()
}
