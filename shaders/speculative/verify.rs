//! Verification of drafted tokens.

use super::MOST_TIMED;
use super::guess::emitted_bytes;
use crate::shared::params;
use crate::{
    Binding, Case, Check, Choice, Cost, Kernel, Launch, Noise, Params, ROW, Row, Slots, TABLE_ROWS, Workload,
    activation_bytes, stride,
};

/// Accepts drafts, and makes the row that decoding continues with.
pub static VERIFY: Kernel = Kernel {
    name: "verify",
    wgsl: include_str!("verify.wgsl"),
    parts: &[ROW, TABLE_ROWS],
    bindings: &[
        Binding::read("chosen", "u32"),
        Binding::read("scores", "f32"),
        Binding::write("rows", "Row"),
        Binding::write("next", "Row"),
        Binding::write("history", "u32"),
        Binding::write("emitted", "u32"),
    ],
    axes: &[],
    overrides: &[],
    params: VerifyParams::FIELDS,
    params_size: size_of::<VerifyParams>(),
    reference,
    cases,
    random,
    at: |work: &Workload| {
        let rows = work.rows.min(MOST_TIMED);
        vec![case(rows, rows, rows - 1, rows + 4, Judge { threshold: 1.0, sampled: false }, 1)]
    },
};

params! {
    /// Parameters of [`VERIFY`].
    pub struct VerifyParams {
        /// Rows of the table: the row of a known token, then drafts.
        pub rows: u32,
        /// Positions per sequence.
        pub context: u32,
        /// Floats from read-out to read-out.
        pub stride: u32,
        /// 1 if the scores are probabilities, 0 if they are logits.
        pub sampled: u32,
        /// Minimum probability of a draft, as a share of the chosen token's; from 1 on, only the chosen token itself is accepted.
        pub threshold: f32,
    }
}

/// Rule for accepting drafts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Judge {
    /// Minimum probability of a draft, as a share of the chosen token's; from 1 on, only the chosen token itself is accepted.
    pub threshold: f32,
    /// Whether the scores are probabilities, as [`sample`](crate::sample::sample) leaves them, or logits.
    pub sampled: bool,
}

/// Compares the token chosen after each row of `table [rows]` with the token of the next row.
///
/// Writes `emitted [1 + 2·rows]`: the number of new tokens, these tokens, and, after space for `rows` tokens, the rows after which they were chosen. `next` and
/// the first row of the table become the row of the last new token; the other rows become inactive. Bindings: chosen `[rows]`, scores `[rows, vocab]`, rows,
/// next, history `[sequences, context]`, emitted.
#[must_use]
pub fn verify(rows: u32, vocab: u32, (sequences, context): (u32, u32), judge: Judge) -> Launch {
    let row = size_of::<Row>() as u64;
    // Above 1, so that rounding of equal scores never accepts another token.
    let threshold = if judge.threshold >= 1.0 { f32::MAX } else { judge.threshold };
    let params = VerifyParams { rows, context, stride: stride(vocab), sampled: u32::from(judge.sampled), threshold };
    Launch {
        kernel: &VERIFY,
        choice: Choice::default(),
        overrides: vec![],
        params: bytemuck::bytes_of(&params).to_vec(),
        workgroups: [1, 1, 1],
        sizes: vec![
            u64::from(rows) * 4,
            activation_bytes(rows, vocab),
            u64::from(rows) * row,
            row,
            u64::from(sequences) * u64::from(context) * 4,
            emitted_bytes(rows),
        ],
        cost: Cost { bytes: 2 * u64::from(rows) * row, flops: 0 },
    }
}

fn reference(launch: &Launch, mut slots: Slots<'_>) {
    let params: VerifyParams = launch.params();
    let (chosen, scores) = (slots.read::<u32>(), slots.read::<f32>());
    let (table, next) = (slots.write::<Row>(), slots.write::<Row>());
    let (history, emitted) = (slots.write::<u32>(), slots.write::<u32>());
    let rows = params.rows as usize;
    let passes = |output: usize, draft: u32, token: u32| {
        let score = |token: u32| scores[output * params.stride as usize + token as usize];
        let (drafted, best) = (score(draft), score(token));
        let ratio = if params.sampled == 0 { (drafted - best).exp() } else { drafted / best };
        draft == token || ratio >= params.threshold
    };
    let mut count = 0;
    for i in 0..rows {
        let row = table[i];
        if row.live == 0 {
            break;
        }
        let draft = table.get(i + 1).filter(|draft| i + 1 < rows && draft.live != 0);
        let agreed = draft.filter(|draft| passes(i, draft.token, chosen[i]));
        let token = agreed.map_or(chosen[i], |draft| draft.token);
        count += 1;
        emitted[count] = token;
        emitted[rows + count] = i as u32;
        if agreed.is_none() {
            let position = row.position + 1;
            let room = position < params.context;
            if room {
                history[(row.sequence * params.context + position) as usize] = token;
            }
            next[0] = Row { output: 0, live: u32::from(room), ..Row::new(row.sequence, position, token) };
            break;
        }
    }
    emitted[0] = count as u32;
    table[0] = next[0];
    for row in &mut table[1..rows] {
        (row.live, row.exited) = (0, 0);
    }
}

/// Rows of which `agreeing` drafts agree; the next draft, if there is one, does not.
fn case(rows: u32, live: u32, agreeing: u32, room: u32, judge: Judge, seed: u64) -> Case {
    let mut noise = Noise::new(seed);
    let (vocab, base) = (50, 7);
    let context = base + room;
    let launch = verify(rows, vocab, (1, context), judge);
    let chosen: Vec<u32> = (0..rows).map(|_| noise.below(vocab)).collect();
    let table: Vec<Row> = (0..rows)
        .map(|i| {
            let before = i.checked_sub(1).map_or(3, |i| chosen[i as usize]);
            let token = if i > agreeing { (before + 1) % vocab } else { before };
            Row { output: i, live: u32::from(i < live), step: 4, ..Row::new(0, base + i, token) }
        })
        .collect();
    let mut scores = vec![0.0; (rows * stride(vocab)) as usize];
    for (i, score) in scores.iter_mut().enumerate() {
        *score = if judge.sampled { 0.001 + noise.signed().abs() } else { 4.0 * noise.signed() };
        let (row, token) = (i as u32 / stride(vocab), i as u32 % stride(vocab));
        if token == chosen[row as usize] {
            *score = 4.0;
        }
    }
    let words = |binding: usize, fill: u32| vec![fill; launch.sizes[binding] as usize / 4];
    Case {
        name: format!("{rows} rows, {live} live, {agreeing} agree, room {room}, threshold {}", judge.threshold),
        data: vec![
            chosen,
            bytemuck::cast_slice(&scores).to_vec(),
            bytemuck::cast_slice(&table).to_vec(),
            words(3, 9),
            words(4, 77),
            words(5, 0),
        ]
        .into(),
        checks: vec![Check::Skip, Check::Skip, Check::Exact, Check::Exact, Check::Exact, Check::Exact],
        launch,
    }
}

fn cases() -> Vec<Case> {
    let strict = Judge { threshold: 1.0, sampled: false };
    vec![
        case(1, 1, 0, 9, strict, 1),
        case(9, 9, 8, 40, strict, 2),
        case(9, 9, 0, 40, strict, 3),
        case(9, 9, 4, 40, strict, 4),
        // The context ends after the last row, and before it.
        case(5, 5, 4, 5, strict, 5),
        case(5, 3, 4, 3, strict, 6),
        // There is nothing to compute.
        case(5, 0, 0, 3, strict, 7),
        case(9, 9, 2, 40, Judge { threshold: 0.02, sampled: false }, 8),
        case(9, 9, 2, 40, Judge { threshold: 0.1, sampled: true }, 9),
    ]
}

fn random(seed: u64) -> Case {
    let mut noise = Noise::new(seed);
    let rows = 1 + noise.below(20);
    let judge = Judge { threshold: [1.0, 0.01, 0.2][noise.below(3) as usize], sampled: noise.below(2) == 0 };
    case(rows, noise.below(rows + 1), noise.below(rows + 1), rows + noise.below(9), judge, seed)
}
