//! End of a wavefront's round: tokens that are frozen now, and the rows of the next round.

use super::{FreezeRule, Mark, SOME_SEQUENCES, UNJUDGED, WAVEFRONT, Wavefront, some, some_wavefront};
use crate::recur::{SEQUENCE, THREEFRY, Threefry};
use crate::shared::params;
use crate::{
    Binding, Case, Check, Choice, Const, Cost, Kernel, Launch, Noise, Params, Part, ROW, Row, Sequence, Slots, Workload,
};

/// Ends a round.
pub static WAVEFRONT_FREEZE: Kernel = Kernel {
    name: "wavefront_freeze",
    wgsl: include_str!("freeze.wgsl"),
    parts: &[WAVEFRONT, ROW, SEQUENCE, THREEFRY, Part::shared(&[Const::u32("STREAM", STREAM)], &[])],
    bindings: &[
        Binding::read("chosen", "u32"),
        Binding::read("given", "u32"),
        Binding::read("sequences", "Sequence"),
        Binding::write("rows", "Row"),
        Binding::write("wavefront", "Wavefront"),
        Binding::write("marks", "Mark"),
        Binding::write("history", "u32"),
        Binding::write("emitted", "u32"),
    ],
    axes: &[],
    overrides: &[],
    params: WavefrontFreezeParams::FIELDS,
    params_size: size_of::<WavefrontFreezeParams>(),
    reference,
    cases,
    random,
    at,
};

params! {
    /// Parameters of [`WAVEFRONT_FREEZE`].
    pub struct WavefrontFreezeParams {
        /// Capacity of the table, in rows.
        pub capacity: u32,
        /// Positions per sequence.
        pub context: u32,
        /// Vocabulary from which placeholders are drawn.
        pub vocab: u32,
        /// Rows that a wavefront grows by per round.
        pub headway: u32,
        /// Steps per round.
        pub steps: u32,
        /// Code of the [`FreezeRule`].
        pub rule: u32,
        /// 1 if all tokens up to the last row that meets the rule are frozen.
        pub authors: u32,
        /// Threshold that a value must be below.
        pub threshold: f32,
        /// Number of rounds to exceed, for rules that count rounds.
        pub rounds: u32,
        /// Steps after which a row meets any rule.
        pub most_steps: u32,
        /// 1 if a new row starts from the state of an earlier row.
        pub carries: u32,
        /// Number of given placeholders; 0 if they are drawn.
        pub given: u32,
    }
}

/// Parameters of the end of a round.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Freeze {
    /// Rows that a wavefront grows by per round.
    pub headway: u32,
    /// Steps per round.
    pub steps: u32,
    /// Rule that decides when a token is frozen.
    pub rule: FreezeRule,
    /// Whether all tokens up to the last row that meets the rule are frozen, as in the authors' code, or only those before the first row that does not.
    pub authors: bool,
    /// Threshold that a value must be below, for rules that compare states.
    pub threshold: f32,
    /// Number of rounds to exceed, for rules that count rounds.
    pub rounds: u32,
    /// Steps after which a row meets any rule.
    pub most_steps: u32,
    /// Whether a new row starts from the state of the row `headway` rows before it.
    pub carries: bool,
    /// Number of given placeholders; 0 if they are drawn.
    pub given: u32,
}

/// Bytes of `emitted`: the number of newly frozen tokens; the tokens; the rows after which they were chosen; the steps of those rows; and, after space for a
/// whole wavefront of each, the position of the first row and the number of rows of the next round.
#[must_use]
pub const fn emitted_bytes(capacity: u32) -> u64 {
    (3 + 3 * capacity as u64) * 4
}

/// Ends a round: gives rows the tokens chosen after the rows before them, appends rows, freezes tokens, and drops rows that are done.
///
/// It changes `rows [capacity]`, `wavefront` and `marks [capacity]`; `emitted` reports to the host. Bindings: chosen `[capacity]`, given tokens, sequences,
/// rows, wavefront, marks, history `[sequences, context]`, emitted.
#[must_use]
pub fn freeze(capacity: u32, vocab: u32, (sequences, context): (u32, u32), rule: Freeze) -> Launch {
    let room = u64::from(capacity);
    let bytes = room * (size_of::<Row>() + size_of::<Mark>()) as u64;
    let params = WavefrontFreezeParams {
        capacity,
        context,
        vocab,
        headway: rule.headway,
        steps: rule.steps,
        rule: rule.rule as u32,
        authors: u32::from(rule.authors),
        threshold: rule.threshold,
        rounds: rule.rounds,
        most_steps: rule.most_steps,
        carries: u32::from(rule.carries),
        given: rule.given,
    };
    Launch {
        kernel: &WAVEFRONT_FREEZE,
        choice: Choice::default(),
        overrides: vec![],
        params: bytemuck::bytes_of(&params).to_vec(),
        workgroups: [1, 1, 1],
        sizes: vec![
            room * 4,
            u64::from(rule.given.max(1)) * 4,
            u64::from(sequences) * size_of::<Sequence>() as u64,
            room * size_of::<Row>() as u64,
            size_of::<Wavefront>() as u64,
            room * size_of::<Mark>() as u64,
            u64::from(sequences) * u64::from(context) * 4,
            emitted_bytes(capacity),
        ],
        cost: Cost { bytes: 2 * bytes, flops: 0 },
    }
}

/// Maximum rows of a wavefront in cases that are checked and timed.
const MOST_TIMED: u32 = 64;

/// Stream of random numbers; not 0, so that they differ from those of initial states and samples.
const STREAM: u32 = 0x746f_6b65;

fn reference(launch: &Launch, mut slots: Slots<'_>) {
    let params: WavefrontFreezeParams = launch.params();
    let (chosen, given, sequences) = (slots.read::<u32>(), slots.read::<u32>(), slots.read::<Sequence>());
    let (rows, wavefronts, marks) = (slots.write::<Row>(), slots.write::<Wavefront>(), slots.write::<Mark>());
    let (history, emitted) = (slots.write::<u32>(), slots.write::<u32>());
    let (rule, authors, w) = (FreezeRule::ALL[params.rule as usize], params.authors != 0, wavefronts[0]);
    emitted[0] = 0;
    if w.length == 0 {
        return;
    }
    let (length, stands) = (w.length as usize, (w.known - w.first) as usize);
    let mut table: Vec<(Row, Mark)> = rows.iter().copied().zip(marks.iter().copied()).take(length).collect();
    for (i, (row, mark)) in table.iter_mut().enumerate() {
        mark.steps += params.steps;
        let token = if i >= stands { chosen[i - 1] } else { row.token };
        mark.stable += u32::from(token == row.token);
        row.token = token;
    }
    let sequence = table[0].0.sequence;
    for i in 0..params.headway {
        let position = w.first + table.len() as u32;
        if table.len() == params.capacity as usize || position >= params.context {
            break;
        }
        let [low, high] = sequences[w.sequence as usize].seed;
        let token = match (i, params.given) {
            (0, _) => chosen[length - 1],
            (_, 0) => Threefry::from_words([low, high ^ STREAM]).block([position, w.round])[0] % params.vocab,
            (_, given_count) => given[((w.round * (params.headway - 1) + i - 1) % given_count) as usize],
        };
        table.push((Row::new(sequence, position, token), Mark { value: UNJUDGED, ..Mark::default() }));
    }
    for (row, _) in &table[stands..] {
        history[(sequence * params.context + row.position) as usize] = row.token;
    }

    let frozen = |(_, mark): &(Row, Mark)| {
        mark.steps >= params.most_steps
            || match rule {
                FreezeRule::TokenStability => mark.stable > params.rounds,
                FreezeRule::Fixed => false,
                _ => mark.value >= 0.0 && mark.value < params.threshold,
            }
    };
    let frozen_end = if authors {
        table[..length].iter().rposition(frozen).map_or(0, |last| last + 1)
    } else {
        table[..length].iter().take_while(|entry| frozen(entry)).count()
    };
    let (mut first, mut known) = (w.first, w.known);
    if frozen_end > 0 {
        first += frozen_end as u32 - 1;
        known = known.max(w.first + frozen_end as u32);
    }
    if rule == FreezeRule::Fixed && w.round > params.rounds {
        known = known.max((w.known + params.headway).min(w.first + table.len() as u32));
        first = first.max(w.first + known - w.known);
    }
    let capacity = params.capacity as usize;
    emitted[0] = known - w.known;
    for (count, row) in (1..=(known - w.known) as usize).zip(stands..) {
        emitted[count] = table[row].0.token;
        emitted[capacity + count] = row as u32 - 1;
        emitted[2 * capacity + count] = table[row - 1].1.steps;
    }

    let slip = (first - w.first) as usize;
    let carries = params.carries != 0 && w.length >= params.headway;
    let end = table.len();
    for (i, (row, mark)) in table.iter().enumerate() {
        (rows[i], marks[i]) = (Row { output: i as u32, ..*row }, *mark);
    }
    for (i, (row, mark)) in table.into_iter().enumerate().skip(slip) {
        let draw = u32::from(i >= length && !carries);
        rows[i - slip] = Row { step: 0, output: (i - slip) as u32, draw, ..row };
        marks[i - slip] = mark;
    }
    for row in &mut rows[end - slip..end] {
        row.live = 0;
    }
    let (kept, length) = (w.length.saturating_sub(slip as u32), (end - slip) as u32);
    wavefronts[0] = Wavefront {
        first,
        length,
        known,
        fresh: if carries { length } else { kept },
        kept,
        slip: slip as u32,
        slip_before: w.slip,
        swept: w.length,
        changes: if authors { w.length.saturating_sub(w.slip) } else { kept },
        round: w.round + 1,
        sequence: w.sequence,
        unused: 0,
    };
    emitted[3 * capacity + 1] = first;
    emitted[3 * capacity + 2] = length;
}

fn case(capacity: u32, room: u32, rule: Freeze, seed: u64) -> Case {
    let mut noise = Noise::new(seed);
    let vocab = 90;
    let mut wavefront = some_wavefront(&mut noise, capacity);
    let context = wavefront.first + wavefront.length + room;
    wavefront.round = noise.below(2 * rule.rounds + 2);
    let launch = freeze(capacity, vocab, (SOME_SEQUENCES, context), rule);
    let chosen: Vec<u32> = (0..capacity).map(|_| noise.below(vocab)).collect();
    let mut rows = vec![Row::RESTING; capacity as usize];
    let mut marks = vec![Mark::default(); capacity as usize];
    for i in 0..wavefront.length {
        // About half of the tokens are chosen again.
        let token = if i > 0 && noise.below(2) == 0 { chosen[i as usize - 1] } else { noise.below(vocab) };
        rows[i as usize] =
            Row { output: i, step: rule.steps, ..Row::new(wavefront.sequence, wavefront.first + i, token) };
        let value = if noise.below(4) == 0 { UNJUDGED } else { noise.signed().abs() };
        marks[i as usize] = Mark { steps: noise.below(30), stable: noise.below(2 * rule.rounds + 1), value, unused: 0 };
    }
    let words = |binding: usize, fill: u32| vec![fill; launch.sizes[binding] as usize / 4];
    let sequences = (0..SOME_SEQUENCES).map(|index| Sequence {
        seed: [seed as u32, 3 + index],
        state_seed: [0; 2],
        state_std: 1.0,
        steps: 0,
        reserved: [0; 2],
    });
    let sequences: Vec<Sequence> = sequences.collect();
    Case {
        name: format!(
            "{} of {capacity}, {}, headway {}, seed {seed}",
            wavefront.length,
            rule.rule.name(),
            rule.headway
        ),
        data: vec![
            chosen,
            (0..rule.given.max(1)).collect(),
            bytemuck::cast_slice(&sequences).to_vec(),
            bytemuck::cast_slice(&rows).to_vec(),
            bytemuck::cast_slice(&[wavefront]).to_vec(),
            bytemuck::cast_slice(&marks).to_vec(),
            words(6, 77),
            words(7, 0),
        ]
        .into(),
        checks: vec![
            Check::Skip,
            Check::Skip,
            Check::Skip,
            Check::Exact,
            Check::Exact,
            Check::Exact,
            Check::Exact,
            Check::Exact,
        ],
        launch,
    }
}

fn random(seed: u64) -> Case {
    let mut noise = Noise::new(!seed);
    let mut even = || noise.below(2) == 0;
    let (authors, carries, given, stalls) = (even(), even(), even(), even());
    let rule = Freeze {
        headway: 1 + noise.below(3),
        steps: 1 + noise.below(8),
        rule: FreezeRule::ALL[noise.below(5) as usize],
        authors,
        threshold: noise.signed().abs(),
        rounds: 1 + noise.below(6),
        most_steps: if stalls { 20 } else { u32::MAX },
        carries,
        given: if given { 5 } else { 0 },
    };
    case(2 + noise.below(40), noise.below(6), rule, seed)
}

fn cases() -> Vec<Case> {
    some(40, random)
}

/// A wavefront whose rows are all active, with the defaults of `--diffusion`.
fn at(work: &Workload) -> Vec<Case> {
    let rule = Freeze {
        headway: 1,
        steps: 4,
        rule: FreezeRule::LatentDiff,
        authors: false,
        threshold: 0.5,
        rounds: 1,
        most_steps: u32::MAX,
        carries: false,
        given: 0,
    };
    vec![case(work.rows.clamp(2, MOST_TIMED), 4, rule, 1)]
}
