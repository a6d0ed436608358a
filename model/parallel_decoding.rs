//! Computing ahead of what is known: drafted tokens that one pass verifies, and positions that begin with a guess while those before them are still iterated.
//!
//! Both give the tokens of plain decoding, sampled or not, since a draw depends on its position and on the logits alone. They need fewer passes over the core's
//! weights for it: rows share a pass.

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

/// Rows of one pass ahead of what is known, at most.
const MOST_ROWS: u32 = 64;

/// Self-speculation: tokens are drafted at few steps and verified at full depth, all in one pass.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(default, deny_unknown_fields))]
pub struct Speculate {
    /// Steps of a draft; by default an eighth of the steps of a token, of a model that takes few of them half.
    pub draft_steps: Option<u32>,
    /// Tokens that are drafted before they are verified, 1 to 63.
    pub draft_len: u32,
    /// A draft stands if its probability is at least this share of that of the token chosen at full depth: 1 lets only that token stand, so that nothing
    /// changes; less is faster and changes what is said.
    pub threshold: f32,
}

impl Default for Speculate {
    fn default() -> Self {
        Self { draft_steps: None, draft_len: 4, threshold: 1.0 }
    }
}

/// Depth-pipelined decoding: behind a position that has had some of its steps, the next one begins with the token that an early read-out chose, and all of
/// them go on in the same passes. A guess that turns out wrong costs what was computed behind it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(default, deny_unknown_fields))]
pub struct Pipeline {
    /// Steps from read-out to read-out; by default an eighth of the steps of a token.
    pub every: Option<u32>,
}

/// How far a generation computes ahead, in numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum ParallelDecoding {
    /// Drafts at `steps`, then a pass that verifies them.
    Drafts { steps: u32, count: u32, threshold: f32 },
    /// Rounds of `every` steps, for up to `rows` positions.
    Pipelined { every: u32, rows: u32 },
    /// Rounds of a wavefront, whose tokens stand once they have settled.
    Wavefront(Current),
}

impl ParallelDecoding {
    /// What options ask for.
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
                    return wrong("draft_steps", draft_steps.to_string(), "from 1 to the steps of a token");
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
                // A row is read out when it has had its steps, however many more were asked for.
                let every = every.unwrap_or_else(|| steps.div_ceil(8)).min(steps);
                if every == 0 || steps.div_ceil(every) > MOST_ROWS {
                    return wrong(
                        "pipeline",
                        every.to_string(),
                        "at least 1, and at least a 64th of the steps of a token",
                    );
                }
                Self::Pipelined { every, rows: steps.div_ceil(every) }
            }
        };
        Ok(Some(parallel))
    }

    /// Rows of the table.
    pub(crate) const fn rows(&self) -> u32 {
        match *self {
            Self::Drafts { count, .. } => count + 1,
            Self::Pipelined { rows, .. } => rows,
            Self::Wavefront(current) => current.capacity,
        }
    }

    /// Rows of the first round, behind a prompt of so many tokens.
    pub(crate) const fn first_rows(&self, prompt: u32) -> u32 {
        if self.begins_with_the_prompt() { 1 } else { prompt }
    }

    /// Passes of a round.
    pub(crate) const fn passes(&self) -> u32 {
        match *self {
            Self::Drafts { count, .. } => count + 1,
            Self::Pipelined { .. } | Self::Wavefront(_) => 1,
        }
    }

    /// How far the last of so many rounds reaches at most, in a table of so many rows, if tokens up to a position are known, and a wavefront is where it is.
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

    /// Whether the pass of the prompt brings the first token.
    pub(crate) const fn begins_with_the_prompt(&self) -> bool {
        !matches!(self, Self::Wavefront(Current { full_prefill: false, .. }))
    }

    /// Rounds that bring no token, one after the other, at most, in a table of so many rows.
    pub(crate) fn patience(&self, rows: u32) -> u32 {
        match self {
            Self::Wavefront(current) => current.patience(),
            // A row takes no more rounds than there are places.
            Self::Drafts { .. } | Self::Pipelined { .. } => rows + 1,
        }
    }

    /// Passes over the core's weights in a round, at so many steps per token.
    pub(crate) fn core_passes(&self, steps: u32) -> u64 {
        match *self {
            Self::Drafts { steps: drafted, count, .. } => u64::from(count) * u64::from(drafted) + u64::from(steps),
            Self::Pipelined { every, .. } => every.into(),
            Self::Wavefront(Current { steps, .. }) => steps.into(),
        }
    }
}

/// The rows ahead of what is known.
pub(crate) struct ParallelBuffers {
    pub(crate) plans: PlanCache,
    pub(crate) sites: ParallelSites,
}

/// What passes ahead hand on to each other and to the host.
#[derive(Clone)]
pub(crate) struct ParallelSites {
    pub(crate) table: Buffer,
    /// Which positions are under way, where rows begin with guesses.
    pub(crate) front: Option<Buffer>,
    /// What is known of a wavefront, where there has been one.
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
    /// Rows of the table of a generation ahead. If sums must not depend on it, every pass has as many.
    pub(crate) fn parallel_rows(&self, parallel: ParallelDecoding) -> Result<u32, Error> {
        let Some(rows) = self.fixed_rows() else { return Ok(parallel.rows()) };
        if parallel.rows() <= rows && !matches!(parallel, ParallelDecoding::Wavefront(_)) {
            return Ok(rows);
        }
        let (name, value, allowed) = match parallel {
            ParallelDecoding::Drafts { count, .. } => {
                ("draft_len", count, "at most 7 tokens in the invariant mode, whose passes have 8 rows")
            }
            ParallelDecoding::Pipelined { every, .. } => {
                ("pipeline", every, "at least an eighth of the steps in the invariant mode, whose passes have 8 rows")
            }
            ParallelDecoding::Wavefront(_) => {
                let why = "a wavefront's tokens are not those of plain decoding anyhow";
                return Err(Error::Together { one: "diffusion", other: "invariant", why });
            }
        };
        Err(Error::Option { name, value: value.to_string(), allowed })
    }
}

impl Passes<'_> {
    /// Makes what a generation ahead needs, behind a prompt.
    pub(crate) fn prepare_parallel(&mut self, decoding: &Decoding, prompt: &[u32]) -> Result<(), Error> {
        let Some((parallel, rows)) = decoding.parallel else { return Ok(()) };
        let device = self.store.model.device().clone();
        if decoding.given.is_some() {
            // Plans of another generation read what was given to that.
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
            // Where drafts count from, before there are any.
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
        // What a wavefront usually grows to, so that no plan is made under way.
        while let ParallelDecoding::Wavefront(current) = parallel
            && most < current.usual_rows()
        {
            most = wavefront_rows(most + 1);
            self.plan_parallel(parallel, rows, (decoding, most))?;
        }
        Ok(())
    }

    /// Begins pass `index` of a round that goes so far at most; the last one brings tokens.
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

    /// The plan of the pass that brings tokens; a wavefront's has no more rows than it can have.
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

/// Rows of the plan for a round of so many: few sizes, and no small ones, through which a wavefront hurries.
fn wavefront_rows(count: u32) -> u32 {
    count.next_power_of_two().max(8)
}

/// The tokens that a round brought, with the steps of the rows that they were chosen behind.
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
