//! `y = wte[token] · scale`. The token ids come from the row table in device memory, so that a chosen token becomes the next row's input without a round trip.

use crate::shared::params;
use crate::weight::{self, EIGHT, Form, Resident, WEIGHT_ANY};
use crate::{
    Binding, Case, Check, Choice, Cost, Kernel, Launch, Noise, Params, ROW, Row, Slots, Workload, activation_bytes,
    reduce,
};

/// Embedding gather.
pub static EMBED: Kernel = Kernel {
    name: "embed",
    wgsl: include_str!("embed.wgsl"),
    parts: &[ROW, EIGHT],
    bindings: &[Binding::read("rows", "Row"), Binding::write("y", "vec4<f32>")],
    axes: &[WEIGHT_ANY],
    overrides: &["WG"],
    params: EmbedParams::FIELDS,
    params_size: size_of::<EmbedParams>(),
    reference,
    cases,
    random,
    at,
};

params! {
    /// Parameters of [`EMBED`].
    pub struct EmbedParams {
        /// Rows of the table.
        pub rows: u32,
        /// Width of an embedding.
        pub n: u32,
        /// Chunks of eight per row of the matrix.
        pub chunks: u32,
        /// First token of this part of the matrix.
        pub first: u32,
        /// Tokens in this part of the matrix.
        pub count: u32,
        /// Factor applied to every value.
        pub scale: f32,
        /// Subgroup size that the matrix is laid out for, or 0.
        pub lanes: u32,
        /// Start of the factors of blocks in the matrix, in units of 16 bytes.
        pub scales: u32,
    }
}

/// Shape of an embedding gather.
#[derive(Clone, Copy, Debug)]
pub struct Embed {
    /// Rows of the table.
    pub rows: u32,
    /// Width of an embedding.
    pub n: u32,
    /// First token of this part of the matrix.
    pub first: u32,
    /// Tokens in this part of the matrix.
    pub count: u32,
    /// Form of the matrix.
    pub form: Form,
    /// Factor applied to every value.
    pub scale: f32,
}

/// Gathers `y [rows, n]`. Bindings: rows, y, w `[count, n]`.
#[must_use]
pub fn embed(shape: Embed) -> Launch {
    let Embed { rows, n, first, count, form, scale } = shape;
    let chunks = weight::chunks(n);
    let mut choice = Choice::default();
    choice.0[0] = weight::any_option(form);
    let bytes = activation_bytes(rows, n);
    let w = Resident { form, rows: count, chunks };
    let params = EmbedParams { rows, n, chunks, first, count, scale, lanes: form.lanes(), scales: w.scales() };
    Launch {
        kernel: &EMBED,
        choice,
        overrides: vec![reduce::lanes(chunks, 128)],
        params: bytemuck::bytes_of(&params).to_vec(),
        workgroups: [rows, 1, 1],
        sizes: vec![u64::from(rows) * size_of::<Row>() as u64, bytes, w.bytes()],
        cost: Cost {
            bytes: bytes + u64::from(rows) * (w.bytes() / u64::from(count.max(1))),
            flops: u64::from(rows) * u64::from(n),
        },
    }
}

fn reference(launch: &Launch, mut slots: Slots<'_>) {
    let params: EmbedParams = launch.params();
    let form = weight::form_of(launch.option(0), params.lanes);
    let held = Resident { form, rows: params.count, chunks: params.chunks };
    let (rows, y, w) = (slots.read::<Row>(), slots.write::<f32>(), slots.read::<u32>());
    let width = params.chunks as usize * 8;
    for (row, y) in rows.iter().zip(y.chunks_mut(width)).take(params.rows as usize) {
        let Some(entry) = row.token.checked_sub(params.first).filter(|&e| e < params.count && row.live != 0) else {
            continue;
        };
        held.decode_row(w, entry, y);
        let (real, padding) = y.split_at_mut(params.n as usize);
        real.iter_mut().for_each(|y| *y *= params.scale);
        padding.fill(0.0);
    }
}

fn case(rows: u32, n: u32, vocab: u32, first: u32, form: Form, seed: u64) -> Case {
    let mut noise = Noise::new(seed);
    let launch = embed(Embed { rows, n, first, count: vocab - first, form, scale: 3.5 });
    let table: Vec<Row> = (0..rows).map(|row| Row::new(0, row, noise.below(vocab))).collect();
    let w = weight::test_matrix(&mut noise, form, vocab - first, &[n]);
    Case {
        name: format!("{rows} rows of {n} from tokens {first}..{vocab}, {}", form.name()),
        data: vec![bytemuck::cast_slice(&table).to_vec(), vec![0; launch.sizes[1] as usize / 4], w].into(),
        checks: vec![Check::Skip, Check::F32, Check::Skip],
        launch,
    }
}

fn cases() -> Vec<Case> {
    let shapes = [(1, 96, 448, 0), (3, 130, 777, 0), (40, 33, 300, 128), (4000, 8, 16, 0), (2, 5280, 50, 0)];
    let all = shapes.into_iter().flat_map(|shape| weight::test_forms().map(move |form| (shape, form)));
    all.zip(1..).map(|(((rows, n, vocab, first), form), seed)| case(rows, n, vocab, first, form, seed)).collect()
}

fn at(work: &Workload) -> Vec<Case> {
    vec![case(
        work.rows,
        work.n_embd,
        work.vocab.min(work.most_weight_rows),
        0,
        Form::preferred(&work.caps, work.dtype),
        1,
    )]
}

fn random(seed: u64) -> Case {
    let mut noise = Noise::new(seed);
    let vocab = 2 + noise.below(500);
    let form = weight::random_form(&mut noise);
    case(1 + noise.below(50), 1 + noise.below(600), vocab, noise.below(vocab - 1), form, seed)
}

#[cfg(test)]
mod tests {
    use super::{EMBED, case, weight};
    use crate::{Slot, Slots};

    /// A block with a minimum cannot represent 0, so the padding of a row in q4_1 is not 0; a norm would sum it.
    #[test]
    fn padding_is_zero_in_every_dtype() {
        for form in weight::test_forms() {
            let case = case(3, 33, 50, 0, form, 7);
            let mut data = case.data.to_vec();
            let [rows, y, w] = &mut data[..] else { panic!("a case has three bindings") };
            (EMBED.reference)(&case.launch, Slots::new(vec![Slot::Read(rows), Slot::Write(y), Slot::Read(w)]));
            for row in y.chunks(40) {
                assert!(row[33..].iter().all(|&bits| bits == 0), "{}", form.name());
                assert!(row[..33].iter().any(|&bits| bits != 0), "{}", form.name());
            }
        }
    }
}
