//! Flags for decoding several tokens per pass: speculative and pipelined decoding, and diffusion forcing.

use clap::{Args, ValueEnum};
use ruminate::{Diffusion, Freezing, KvShare, NoiseMix, Pipeline, Speculate};

/// Flags that reduce the passes over the weights per token.
#[derive(Args)]
pub(crate) struct ParallelDecodingOptions {
    /// Draft tokens at N steps, verify them in one pass; same text
    ///
    /// Without N, an eighth of the steps, or half of them for models that take few.
    #[arg(long, value_name = "N", num_args = 0..=1, require_equals = true, conflicts_with = "pipeline", help_heading = "Fewer passes")]
    pub(crate) speculate: Option<Option<u32>>,
    /// Tokens to draft before they are verified, up to 63
    ///
    /// With --invariant, up to 7.
    #[arg(long, value_name = "N", requires = "speculate", default_value_t = Speculate::default().draft_len, help_heading = "Fewer passes", hide_short_help = true)]
    pub(crate) draft_len: u32,
    /// Accept drafts at least X times as likely as the chosen token
    ///
    /// From above 0 to 1; below 1 the text changes.
    #[arg(long, value_name = "X", requires = "speculate", default_value_t = Speculate::default().threshold, help_heading = "Fewer passes", hide_short_help = true)]
    pub(crate) verify_threshold: f32,
    /// Start next tokens from early read-outs, every N steps; same text
    ///
    /// Without N, an eighth of the steps; at least a 64th of them.
    #[arg(long, value_name = "N", num_args = 0..=1, require_equals = true, help_heading = "Fewer passes")]
    pub(crate) pipeline: Option<Option<u32>>,
    #[command(flatten)]
    pub(crate) diffusion: DiffusionOptions,
}

/// Decay of the noise that diffusion forcing mixes in.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum NoiseSchedule {
    /// As 1/(steps + 1)
    Decaying,
    /// The same fraction in every round
    Constant,
}

/// Diffusion forcing.
#[derive(Args)]
pub(crate) struct DiffusionOptions {
    /// Loop over many positions together; the text may differ
    ///
    /// A wavefront of positions is iterated together, and their tokens are chosen again each round until they are frozen. Steps share their keys and
    /// values (--kv-share 1). A token needs a position of its own until it is frozen, so the context holds one token less.
    #[arg(long, conflicts_with_all = ["speculate", "pipeline"], help_heading = "Fewer passes")]
    pub(crate) diffusion: bool,
    /// Diffusion: positions by which the wavefront grows per round, 1 to 255
    #[arg(long, value_name = "N", requires = "diffusion", default_value_t = Diffusion::default().headway, help_heading = "Diffusion forcing", hide_short_help = true)]
    pub(crate) headway: u32,
    /// Diffusion: steps per round, 1 to 65536
    #[arg(long, value_name = "N", requires = "diffusion", default_value_t = Diffusion::default().inner_steps, help_heading = "Diffusion forcing", hide_short_help = true)]
    pub(crate) inner_steps: u32,
    /// Diffusion: largest wavefront, above --headway and up to 256
    #[arg(long, value_name = "N", requires = "diffusion", default_value_t = Diffusion::default().wavefront, help_heading = "Diffusion forcing", hide_short_help = true)]
    pub(crate) wavefront: u32,
    /// Diffusion: fraction of an embedding kept from the last round, 0 to below 1
    #[arg(long, value_name = "X", requires = "diffusion", default_value_t = Diffusion::default().ema, help_heading = "Diffusion forcing", hide_short_help = true)]
    pub(crate) ema: f32,
    /// Diffusion: fraction of fresh noise mixed into each state, 0 to 1
    ///
    /// Decays as 1/(steps + 1), except with 0.5,constant; 0.5,sqrt takes square roots of the factors; 0.5,constant,sqrt does both. The paper uses 0, the
    /// authors' code 0.5.
    #[arg(
        long,
        value_name = "X",
        requires = "diffusion",
        default_value = "0",
        help_heading = "Diffusion forcing",
        hide_short_help = true
    )]
    pub(crate) noise_mix: NoiseMix,
    /// Diffusion: decay of --noise-mix: decaying or constant
    ///
    /// decaying divides the fraction by steps + 1, where steps counts those that the position has taken.
    #[arg(
        long,
        value_enum,
        value_name = "KIND",
        requires = "diffusion",
        help_heading = "Diffusion forcing",
        hide_short_help = true,
        hide_possible_values = true
    )]
    noise_schedule: Option<NoiseSchedule>,
    /// Diffusion: when a token is frozen: latent-diff, token-stability, fixed, …
    ///
    /// latent-diff, latent-acceleration-1 and latent-acceleration-2 take a threshold: latent-diff=0.03. Tokens are frozen up to the first that does
    /// not meet the rule; latent-diff,authors follows the authors' code.
    #[arg(
        long,
        value_name = "RULE",
        requires = "diffusion",
        default_value = "latent-diff",
        help_heading = "Diffusion forcing",
        hide_short_help = true
    )]
    pub(crate) freeze: Freezing,
    /// Diffusion: freeze tokens as the authors' code does, like `,authors`
    #[arg(long, requires = "diffusion", help_heading = "Diffusion forcing", hide_short_help = true)]
    freeze_authors: bool,
    /// Diffusion: make the prompt part of the first wavefront
    ///
    /// The wavefront must have room for it (--wavefront).
    #[arg(long, requires = "diffusion", help_heading = "Diffusion forcing", hide_short_help = true)]
    pub(crate) no_full_prefill: bool,
}

impl DiffusionOptions {
    /// Requested diffusion forcing.
    pub(crate) fn diffusion(&self) -> Option<Diffusion> {
        self.diffusion.then(|| Diffusion {
            headway: self.headway,
            inner_steps: self.inner_steps,
            wavefront: self.wavefront,
            ema: self.ema,
            noise_mix: NoiseMix {
                dampened: self.noise_schedule.map_or(self.noise_mix.dampened, |it| it == NoiseSchedule::Decaying),
                ..self.noise_mix
            },
            freeze: Freezing { authors: self.freeze.authors || self.freeze_authors, ..self.freeze },
            full_prefill: !self.no_full_prefill,
            ..Diffusion::default()
        })
    }

    /// Sharing of keys and values: with `--diffusion`, defaults to `Diffusion::SHARE`.
    pub(crate) fn share(&self, asked: KvShare) -> KvShare {
        if self.diffusion && asked == KvShare::None { Diffusion::SHARE } else { asked }
    }
}

impl ParallelDecodingOptions {
    /// Speculative decoding requested by `--speculate`.
    pub(crate) fn speculate(&self) -> Option<Speculate> {
        let draft_steps = self.speculate?;
        Some(Speculate { draft_steps, draft_len: self.draft_len, threshold: self.verify_threshold })
    }

    /// Pipelined decoding requested by `--pipeline`.
    pub(crate) fn pipeline(&self) -> Option<Pipeline> {
        self.pipeline.map(|every| Pipeline { every })
    }
}
