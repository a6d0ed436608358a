//! Flags that say how far ahead of what is known is computed.

use clap::Args;
use ruminate::{Diffusion, Freezing, KvShare, NoiseMix, Pipeline, Speculate};

/// Ways to need fewer passes over the weights for the same text.
#[derive(Args)]
pub(crate) struct AheadOptions {
    /// Draft tokens at so many steps, fewer than a token has, and verify them in one pass at full depth; the text stays the same [default: an eighth of the steps]
    #[arg(long, value_name = "DRAFT_STEPS", num_args = 0..=1, require_equals = true, conflicts_with = "pipeline", help_heading = "Computing ahead")]
    pub(crate) speculate: Option<Option<u32>>,
    /// Tokens to draft before they are verified, up to 63; with --invariant, up to 7
    #[arg(long, value_name = "N", requires = "speculate", default_value_t = Speculate::default().draft_len, help_heading = "Computing ahead")]
    pub(crate) draft_len: u32,
    /// Let a draft stand that is at least X times as likely as the token chosen at full depth, X above 0 and at most 1; below 1 the text changes
    #[arg(long, value_name = "X", requires = "speculate", default_value_t = Speculate::default().threshold, help_heading = "Computing ahead")]
    pub(crate) verify_threshold: f32,
    /// Begin the next tokens with guesses, read out every EVERY steps (a 64th of all or more), while those before them are still iterated; the text stays the same
    /// [default: an eighth of the steps]
    #[arg(long, value_name = "EVERY", num_args = 0..=1, require_equals = true, help_heading = "Computing ahead")]
    pub(crate) pipeline: Option<Option<u32>>,
    #[command(flatten)]
    pub(crate) diffusion: DiffusionOptions,
}

/// Diffusion forcing.
#[derive(Args)]
pub(crate) struct DiffusionOptions {
    /// Iterate a wave of positions together, choosing their tokens anew every round, until they settle: far fewer passes, but the text may be another one.
    /// Steps share their keys and values (--kv-share 1). A token needs a position of its own to settle, so the context holds one less than otherwise
    #[arg(long, conflicts_with_all = ["speculate", "pipeline"], help_heading = "Diffusion forcing")]
    pub(crate) diffusion: bool,
    /// Positions that the wave grows by in a round, from 1 to 255
    #[arg(long, value_name = "N", requires = "diffusion", default_value_t = Diffusion::default().headway, help_heading = "Diffusion forcing")]
    pub(crate) headway: u32,
    /// Steps of a round, from 1 to 65536
    #[arg(long, value_name = "N", requires = "diffusion", default_value_t = Diffusion::default().inner_steps, help_heading = "Diffusion forcing")]
    pub(crate) inner_steps: u32,
    /// Positions of the wave at most: more than --headway, up to 256
    #[arg(long, value_name = "N", requires = "diffusion", default_value_t = Diffusion::default().wavefront, help_heading = "Diffusion forcing")]
    pub(crate) wavefront: u32,
    /// Share that an embedding keeps of the one in the round before, from 0 to below 1
    #[arg(long, value_name = "X", requires = "diffusion", default_value_t = Diffusion::default().ema, help_heading = "Diffusion forcing")]
    pub(crate) ema: f32,
    /// Mix a random state into those of every round, such a share of it (0 to 1), divided by one more than the steps that the position has had; not so with
    /// 0.5,constant; factors are roots with 0.5,sqrt; both with 0.5,constant,sqrt. The paper has 0, the authors' code 0.5
    #[arg(long, value_name = "X", requires = "diffusion", default_value = "0", help_heading = "Diffusion forcing")]
    pub(crate) noise_mix: NoiseMix,
    /// When a token stands: latent-diff, latent-acceleration-1 or -2, with a threshold as latent-diff=0.03; token-stability; or fixed. Tokens stand up to
    /// the first that has not settled, but as the authors' code has it with latent-diff,authors
    #[arg(
        long,
        value_name = "RULE",
        requires = "diffusion",
        default_value = "latent-diff",
        help_heading = "Diffusion forcing"
    )]
    pub(crate) freeze: Freezing,
    /// Make the prompt part of the first wave, which must have room for it (--wavefront), instead of computing it before
    #[arg(long, requires = "diffusion", help_heading = "Diffusion forcing")]
    pub(crate) no_full_prefill: bool,
}

impl DiffusionOptions {
    /// What the flags ask for.
    pub(crate) fn diffusion(&self) -> Option<Diffusion> {
        self.diffusion.then(|| Diffusion {
            headway: self.headway,
            inner_steps: self.inner_steps,
            wavefront: self.wavefront,
            ema: self.ema,
            noise_mix: self.noise_mix,
            freeze: self.freeze,
            full_prefill: !self.no_full_prefill,
            ..Diffusion::default()
        })
    }

    /// What steps share where no flag says otherwise.
    pub(crate) fn share(&self, asked: KvShare) -> KvShare {
        if self.diffusion && asked == KvShare::None { Diffusion::SHARE } else { asked }
    }
}

impl AheadOptions {
    /// What `--speculate` asks for.
    pub(crate) fn speculate(&self) -> Option<Speculate> {
        let draft_steps = self.speculate?;
        Some(Speculate { draft_steps, draft_len: self.draft_len, threshold: self.verify_threshold })
    }

    /// What `--pipeline` asks for.
    pub(crate) fn pipeline(&self) -> Option<Pipeline> {
        self.pipeline.map(|every| Pipeline { every })
    }
}
