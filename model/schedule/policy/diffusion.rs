//! Diffusion forcing: several positions are iterated together before their tokens are final ([`Diffusion`](crate::Diffusion)).

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
            why: "tokens of a wavefront become final by its own rule (freeze)",
        },
        Exclusion {
            other: "steps_of",
            asked: |asked| (asked.options.steps_of.is_some()).then_some("steps_of"),
            why: "a position is iterated until it is frozen",
        },
        Exclusion {
            other: "noise",
            asked: |asked| (asked.options.noise.is_some()).then_some("noise"),
            why: "a wavefront adds noise by its own rule (noise_mix)",
        },
        Exclusion {
            other: "continuous=normed",
            asked: |asked| (asked.options.continuous == Some(Continuous::Normed)).then_some("continuous=normed"),
            why: "a position starts from the previous position's state without a norm (raw)",
        },
        Exclusion {
            other: "invariant",
            asked: |asked| (asked.session.invariant).then_some("invariant"),
            why: "a wavefront's tokens differ from those of plain decoding anyway",
        },
        RULES,
    ],
};
