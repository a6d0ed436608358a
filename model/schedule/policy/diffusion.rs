//! Positions that are iterated together before their tokens stand: [`Diffusion`](crate::Diffusion).

use ruminate_shaders::exit::Continuous;

use super::{Exclusion, Policy, RULES};

pub(super) const POLICY: Policy = Policy {
    name: "diffusion",
    asked: |asked| asked.options.diffusion.is_some(),
    excludes: &[
        Exclusion {
            other: "speculate",
            asked: |asked| (asked.options.speculate.is_some()).then_some("speculate"),
            why: "each computes ahead in its own way",
        },
        Exclusion {
            other: "pipeline",
            asked: |asked| (asked.options.pipeline.is_some()).then_some("pipeline"),
            why: "each computes ahead in its own way",
        },
        Exclusion {
            other: "exit",
            asked: |asked| (asked.options.exit.is_some()).then_some("exit"),
            why: "tokens stand by rules of their own (freeze)",
        },
        Exclusion {
            other: "steps_of",
            asked: |asked| (asked.options.steps_of.is_some()).then_some("steps_of"),
            why: "a position is iterated until it has settled",
        },
        Exclusion {
            other: "noise",
            asked: |asked| (asked.options.noise.is_some()).then_some("noise"),
            why: "it mixes random states into its own by another rule (noise_mix)",
        },
        Exclusion {
            other: "continuous=normed",
            asked: |asked| (asked.options.continuous == Some(Continuous::Normed)).then_some("continuous=normed"),
            why: "a position begins with the state in front of it as it is: raw",
        },
        Exclusion {
            other: "invariant",
            asked: |asked| (asked.session.invariant).then_some("invariant"),
            why: "a wavefront's tokens are not those of plain decoding anyhow",
        },
        RULES,
    ],
};
