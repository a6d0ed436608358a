//! Turns the chosen token into the sequence's next row.

use crate::shared::params;
use crate::{Binding, Case, Check, Choice, Cost, Kernel, Launch, NONE, Noise, Params, ROW, Row, Slots, Workload};

/// Feeds chosen tokens back as rows.
pub static FEED: Kernel = Kernel {
    name: "feed",
    wgsl: include_str!("feed.wgsl"),
    parts: &[ROW],
    bindings: &[
        Binding::read("picked", "Row"),
        Binding::read("chosen", "u32"),
        Binding::write("history", "u32"),
        Binding::write("next", "Row"),
    ],
    axes: &[],
    overrides: &["WG"],
    params: FeedParams::FIELDS,
    params_size: size_of::<FeedParams>(),
    reference,
    cases,
    random,
    at,
};

params! {
    /// Parameters of [`FEED`].
    pub struct FeedParams {
        /// Read-outs, and rows of the next table.
        pub outputs: u32,
        /// Positions per sequence.
        pub context: u32,
        /// 1 if the next row starts from the state that is there, 0 if it draws one.
        pub carry: u32,
    }
}

/// Writes the next rows `next [outputs]` and the token history `[sequences, context]`. With `carry`, the next rows do not draw their states. Bindings: picked,
/// chosen, history, next.
#[must_use]
pub fn feed(outputs: u32, sequences: u32, context: u32, carry: bool) -> Launch {
    let rows = u64::from(outputs) * size_of::<Row>() as u64;
    Launch {
        kernel: &FEED,
        choice: Choice::default(),
        overrides: vec![32],
        params: bytemuck::bytes_of(&FeedParams { outputs, context, carry: u32::from(carry) }).to_vec(),
        workgroups: [outputs.div_ceil(32), 1, 1],
        sizes: vec![rows, u64::from(outputs) * 4, u64::from(sequences) * u64::from(context) * 4, rows],
        cost: Cost { bytes: 2 * rows, flops: 0 },
    }
}

fn reference(launch: &Launch, mut slots: Slots<'_>) {
    let params: FeedParams = launch.params();
    let (picked, chosen) = (slots.read::<Row>(), slots.read::<u32>());
    let (history, next) = (slots.write::<u32>(), slots.write::<Row>());
    for output in 0..params.outputs as usize {
        let row = picked[output];
        if row.live == 0 {
            (next[output].live, next[output].output) = (0, NONE);
            continue;
        }
        let position = row.position + 1;
        let room = position < params.context;
        if room {
            history[(row.sequence * params.context + position) as usize] = chosen[output];
        }
        next[output] = Row {
            output: output as u32,
            live: u32::from(room),
            draw: 1 - params.carry,
            ..Row::new(row.sequence, position, chosen[output])
        };
    }
}

fn case(outputs: u32, context: u32, seed: u64) -> Case {
    let mut noise = Noise::new(seed);
    let launch = feed(outputs, outputs, context, seed.is_multiple_of(2));
    let active = |noise: &mut Noise| u32::from(noise.below(4) > 0);
    let picked: Vec<Row> = (0..outputs)
        .map(|i| Row {
            step: 9,
            exited: noise.below(2),
            live: active(&mut noise),
            ..Row::new(i, noise.below(context), 5)
        })
        .collect();
    let chosen = (0..outputs).map(|_| noise.below(500)).collect();
    let words = |binding: usize| vec![0; launch.sizes[binding] as usize / 4];
    Case {
        name: format!("{outputs} sequences of at most {context}"),
        data: vec![bytemuck::cast_slice(&picked).to_vec(), chosen, words(2), words(3)].into(),
        checks: vec![Check::Skip, Check::Skip, Check::Exact, Check::Exact],
        launch,
    }
}

fn cases() -> Vec<Case> {
    vec![case(1, 1, 1), case(1, 40, 2), case(70, 3, 3)]
}

fn at(work: &Workload) -> Vec<Case> {
    vec![case(work.rows, work.positions, 1)]
}

fn random(seed: u64) -> Case {
    let mut noise = Noise::new(seed);
    case(1 + noise.below(50), 1 + noise.below(50), seed)
}
