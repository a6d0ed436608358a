//! Pipelined decoding: rows start from provisional tokens while earlier rows are still iterated.

use super::MOST_TIMED;
use crate::shared::{params, table};
use crate::{
    Binding, Case, Check, Choice, Cost, Kernel, Launch, Noise, Params, Part, ROW, Row, Slots, TABLE_ROWS, Workload,
};

/// Ensures that every row is followed by one that started from the token now chosen after it.
pub static GUESS: Kernel = Kernel {
    name: "guess",
    wgsl: include_str!("guess.wgsl"),
    parts: &[ROW, TABLE_ROWS, Part::shared(&[], &[Front::TABLE])],
    bindings: &[
        Binding::read("chosen", "u32"),
        Binding::write("rows", "Row"),
        Binding::write("front", "Front"),
        Binding::write("history", "u32"),
        Binding::write("emitted", "u32"),
    ],
    axes: &[],
    overrides: &[],
    params: GuessParams::FIELDS,
    params_size: size_of::<GuessParams>(),
    reference,
    cases,
    random,
    at: |work: &Workload| {
        let rows = work.rows.min(MOST_TIMED);
        vec![case(rows, rows, true, rows + 1, 2 * rows, 1)]
    },
};

params! {
    /// Parameters of [`GUESS`].
    pub struct GuessParams {
        /// Rows of the table.
        pub rows: u32,
        /// Positions per sequence.
        pub context: u32,
    }
}

table! {
    /// Positions in the pipeline.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Front {
        /// First position in the pipeline; all tokens before it are final.
        pub oldest: u32,
        /// The position that has index 0 in the table.
        pub origin: u32,
    }
}

/// Bytes of `emitted`: the number of tokens, at most `rows` tokens, and the rows after which they were chosen.
#[must_use]
pub const fn emitted_bytes(rows: u32) -> u64 {
    (1 + 2 * rows as u64) * 4
}

/// Advances the pipeline `rows [rows]`, in which position p has index `(p - origin) mod rows`.
///
/// The token chosen after a row determines the next row: if it is missing, it is started; if it started with this token, it is kept; else it is started again,
/// and all rows after it are dropped. The oldest row leaves the table once it has exited the loop: its token is written to `emitted [1 + 2·rows]`, after the
/// number of tokens, and its index after space for `rows` tokens. The next row follows if it has exited too. Other rows that have exited become inactive.
/// Bindings: chosen `[rows]`, rows, front, history `[sequences, context]`, emitted.
#[must_use]
pub fn guess(rows: u32, (sequences, context): (u32, u32)) -> Launch {
    let bytes = u64::from(rows) * size_of::<Row>() as u64;
    Launch {
        kernel: &GUESS,
        choice: Choice::default(),
        overrides: vec![],
        params: bytemuck::bytes_of(&GuessParams { rows, context }).to_vec(),
        workgroups: [1, 1, 1],
        sizes: vec![
            u64::from(rows) * 4,
            bytes,
            size_of::<Front>() as u64,
            u64::from(sequences) * u64::from(context) * 4,
            emitted_bytes(rows),
        ],
        cost: Cost { bytes: 2 * bytes, flops: 0 },
    }
}

fn reference(launch: &Launch, mut slots: Slots<'_>) {
    let params: GuessParams = launch.params();
    let (chosen, rows) = (slots.read::<u32>(), slots.write::<Row>());
    let (fronts, history, emitted) = (slots.write::<Front>(), slots.write::<u32>(), slots.write::<u32>());
    let front = &mut fronts[0];
    let mut stand = Vec::new();
    let mut position = front.oldest;
    for _ in 0..params.rows {
        let place = |position: u32| ((position - front.origin) % params.rows) as usize;
        let (here, after) = (place(position), place(position + 1));
        let row = rows[here];
        if row.live == 0 || row.position != position {
            break;
        }
        let token = chosen[here];
        if row.exited != 0 && position == front.oldest {
            stand.push((token, here as u32));
            (rows[here].live, rows[here].exited) = (0, 0);
            front.oldest += 1;
        }
        position += 1;
        let behind = rows[after];
        if behind.live != 0 && behind.position == position && behind.token == token {
            continue;
        }
        for row in rows.iter_mut().filter(|row| row.live != 0 && row.position >= position) {
            (row.live, row.exited) = (0, 0);
        }
        if position < params.context && rows[after].live == 0 {
            history[(row.sequence * params.context + position) as usize] = token;
            rows[after] = Row { output: after as u32, ..Row::new(row.sequence, position, token) };
        }
        break;
    }
    rows.iter_mut().take(params.rows as usize).filter(|row| row.exited != 0).for_each(|row| row.live = 0);
    emitted[0] = stand.len() as u32;
    for (i, (token, place)) in (1..).zip(&stand) {
        (emitted[i], emitted[params.rows as usize + i]) = (*token, *place);
    }
}

/// A case with `under_way` rows in the pipeline. If `done`, the first row and every third of the others have exited. The row after row `wrong` started with a
/// token that is no longer chosen.
fn case(rows: u32, under_way: u32, done: bool, wrong: u32, room: u32, seed: u64) -> Case {
    let mut noise = Noise::new(seed);
    let (origin, vocab) = (5, 90);
    let oldest = origin + noise.below(3 * rows);
    let context = oldest + room;
    let launch = guess(rows, (1, context));
    let mut chosen: Vec<u32> = (0..rows).map(|_| noise.below(vocab)).collect();
    let mut table = vec![Row::RESTING; rows as usize];
    for i in 0..under_way.min(room) {
        let position = oldest + i;
        let place = |position: u32| ((position - origin) % rows) as usize;
        let before = if i == 0 { 3 } else { chosen[place(position - 1)] };
        table[place(position)] = Row {
            output: place(position) as u32,
            step: 4 * (under_way - i),
            exited: u32::from(done && (i == 0 || i % 3 == 1)),
            draw: 1,
            ..Row::new(0, position, before)
        };
        if i == wrong {
            chosen[place(position)] = vocab + 1;
        }
    }
    // The token chosen after the wrong row has changed since the rows after it started.
    if let Some(row) = table.iter_mut().find(|row| row.live != 0 && row.position == oldest + wrong + 1) {
        row.token = vocab + 2;
    }
    let words = |binding: usize, fill: u32| vec![fill; launch.sizes[binding] as usize / 4];
    Case {
        name: format!("{under_way} of {rows} under way, done {done}, wrong {wrong}, room {room}"),
        data: vec![
            chosen,
            bytemuck::cast_slice(&table).to_vec(),
            bytemuck::cast_slice(&[Front { oldest, origin }]).to_vec(),
            words(3, 77),
            words(4, 0),
        ]
        .into(),
        checks: vec![Check::Skip, Check::Exact, Check::Exact, Check::Exact, Check::Exact],
        launch,
    }
}

fn cases() -> Vec<Case> {
    vec![
        case(1, 1, true, 9, 30, 1),
        case(1, 1, false, 9, 30, 2),
        case(8, 1, false, 9, 30, 3),
        case(8, 8, true, 9, 30, 4),
        case(8, 8, true, 0, 30, 5),
        case(8, 8, true, 5, 30, 6),
        case(8, 6, false, 3, 30, 7),
        // Every index of the table is taken, and no row leaves the pipeline.
        case(8, 8, false, 9, 30, 8),
        // The context ends.
        case(8, 8, true, 9, 3, 9),
        case(8, 0, false, 9, 3, 10),
    ]
}

fn random(seed: u64) -> Case {
    let mut noise = Noise::new(seed);
    let rows = 1 + noise.below(40);
    case(rows, noise.below(rows + 1), noise.below(2) == 0, noise.below(rows + 5), 1 + noise.below(2 * rows), seed)
}
