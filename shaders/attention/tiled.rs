//! Attention for many rows: tiles of queries against pages of keys through workgroup memory, with the online softmax, as in FlashAttention (Dao et al.,
//! arXiv 2205.14135).
//!
//! The queries of a tile are the heads that share keys, of as many rows as fit: a prompt reads its keys and values once per tile instead of once per row and
//! head. The rows of a tile must be a run, that is, of one sequence at one step, so that they see the same keys. Runs are detected on the device: a tile whose
//! rows are not a run exits, and [`beside`] launches [`ATTENTION`] for such rows.

use super::cache::{CACHE, CacheShape, KV_TILES, Lookup, PAGE};
use super::reference;
use super::split::{ATTENTION, Attention, AttentionParams, OUT, OUT_AXIS, SCORES, attention};
use super::testbed::{self, Testbed};
use crate::variants::class_of_rows;
use crate::weight::EIGHT;
use crate::{Axis, Caps, Case, Choice, Const, Kernel, Launch, Noise, Params, Part, Place, ROW, Row, Slots};
use crate::{Trial, Variants, Workload};

/// Attention for tiles of rows that are runs.
pub static ATTENTION_TILED: Kernel = Kernel {
    name: "attention_tiled",
    wgsl: include_str!("attention_tiled.wgsl"),
    parts: &[ROW, EIGHT, CACHE, SCORES, Part::new("tiles", "").trusted()],
    bindings: ATTENTION.bindings,
    axes: &[
        KV_TILES,
        Axis {
            name: "tile",
            options: &[
                Part::new("tile16", "").with_consts(&[Const::u32("QUERIES", TILES[0])]),
                Part::new("tile32", "").with_consts(&[Const::u32("QUERIES", TILES[1])]),
                Part::new("tile64", "").with_consts(&[Const::u32("QUERIES", TILES[2])]),
            ],
        },
        OUT,
        Axis {
            name: "head",
            options: &[
                Part::new("head32", "").with_consts(&[Const::u32("SPANS", 1)]),
                Part::new("head64", "").with_consts(&[Const::u32("SPANS", 2)]),
                Part::new("head96", "").with_consts(&[Const::u32("SPANS", 3)]),
                Part::new("head128", "").with_consts(&[Const::u32("SPANS", 4)]),
            ],
        },
    ],
    overrides: &[],
    params: AttentionParams::FIELDS,
    params_size: size_of::<AttentionParams>(),
    reference,
    cases,
    random,
    at,
};

/// Queries per tile, by option.
const TILES: [u32; 3] = [16, 32, 64];

/// Minimum rows of a pass for tiles to be an option. Passes in invariant mode have fewer, since a row's result must not depend on its neighbors there.
const FROM: u32 = 9;

/// Minimum rows of a pass for tiles to be the default.
const MANY: u32 = 16;

/// Workgroups that keep a device busy.
const BUSY: u32 = 128;

/// Minimum keys per split of a tile.
const KEYS_OF_SPLIT: u32 = 256;

/// Maximum splits of a tile: each needs memory for its partial sums.
const MOST_SPLITS: u32 = 8;

/// Division of a pass into tiles.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tile {
    option: u8,
    /// Heads of a tile.
    heads: u32,
    /// Rows of a tile.
    rows: u32,
    /// Workgroups of one split.
    workgroups: [u32; 2],
}

impl Tile {
    fn of(shape: &Attention, option: u8) -> Self {
        let queries = TILES[usize::from(option)];
        let heads = shape.group().min(queries);
        let rows = queries / heads;
        let across = shape.cache.kv_heads * shape.group().div_ceil(heads);
        Self { option, heads, rows, workgroups: [across, shape.rows.div_ceil(rows)] }
    }

    /// Whether a device has enough workgroup memory and lanes.
    const fn fits(&self, caps: &Caps) -> bool {
        let queries = TILES[self.option as usize];
        // Workgroup memory of attention_tiled.wgsl: slices and numbers that lanes exchange, owners of queries, pages, and the run with its atomics.
        let memory = 16 * (10 * queries + 8 + 8 * (PAGE + 1)) + 8 * queries + 4 * PAGE + 64;
        memory <= caps.max_workgroup_memory && 2 * queries <= caps.max_invocations
    }

    const fn total(&self) -> u32 {
        self.workgroups[0] * self.workgroups[1]
    }

    /// Number of splits of the keys that keeps a device busy.
    pub(super) fn splits(&self, cache: &CacheShape) -> u32 {
        BUSY.div_ceil(self.total()).clamp(1, cache.context.div_ceil(KEYS_OF_SPLIT).min(MOST_SPLITS))
    }

    /// Sets the parameters that depend on the tile.
    const fn tell(&self, params: &mut AttentionParams) {
        params.tile_rows = self.rows;
        params.tile_heads = self.heads;
        // With fewer active rows, most of the tile's work would be wasted.
        params.run_rows = self.rows.div_ceil(4);
    }
}

/// Tiles that a shape can be cut into on a device, the largest last. Empty if neighboring rows may see different steps of a position.
fn tiles(caps: &Caps, shape: &Attention) -> Vec<Tile> {
    let possible = shape.rows >= FROM && shape.cache.place == Place::Buffer && shape.cache.lookup != Lookup::AlwaysLast;
    let options = 0..if possible { TILES.len() as u8 } else { 0 };
    options.map(|option| Tile::of(shape, option)).filter(|tile| tile.fits(caps)).collect()
}

/// Tile that suits a device without timing: the largest that still keeps the device busy. `None` for few rows, and on software drivers, which turn every access
/// to workgroup memory into a loop over lanes.
pub(super) fn preferred_tile(caps: &Caps, shape: &Attention) -> Option<Tile> {
    let tiles = tiles(caps, shape);
    if shape.rows < MANY || caps.software {
        return None;
    }
    let busy = |tile: &&Tile| tile.total() * tile.splits(&shape.cache) >= BUSY;
    tiles.iter().rev().find(busy).or(tiles.first()).copied()
}

/// All ways to attend over the keys in one segment: row by row, and in tiles, which also need the launch of [`beside`]. Bindings are those of [`attention`].
#[must_use]
pub fn attention_variants(caps: &Caps, shape: Attention) -> Variants {
    let CacheShape { kv_heads, head_dim, dtype, .. } = shape.cache;
    let class = format!(
        "attention heads={}/{kv_heads} of {head_dim} {} rows={}",
        shape.heads,
        dtype.name(),
        class_of_rows(shape.rows)
    );
    let alone = attention(caps, shape);
    let all = tiles(caps, &shape).into_iter().map(|tile| attention_tiled(&shape, tile)).chain([alone.clone()]);
    let first = preferred_tile(caps, &shape).map_or(alone, |tile| attention_tiled(&shape, tile));
    Variants::new(class, first, all.collect::<Vec<_>>())
}

fn attention_tiled(shape: &Attention, tile: Tile) -> Launch {
    let mut params = shape.params();
    tile.tell(&mut params);
    let mut choice = Choice::default();
    choice.0[0] = shape.cache.kv_option();
    choice.0[1] = tile.option;
    choice.0[OUT_AXIS] = u8::from(shape.whole());
    choice.0[3] = (shape.cache.chunks().div_ceil(4) - 1) as u8;
    let [across, down] = tile.workgroups;
    Launch {
        kernel: &ATTENTION_TILED,
        choice,
        overrides: vec![],
        params: bytemuck::bytes_of(&params).to_vec(),
        workgroups: [across, shape.splits, down],
        sizes: shape.sizes(shape.whole()),
        // Heads that share keys but not a tile read the keys again.
        cost: shape.cost(down * across / shape.cache.kv_heads),
    }
}

/// Launch that must accompany one of [`attention_variants`]: with tiles, a launch for the rows that are not in runs. Bindings are those of [`attention`].
#[must_use]
pub fn beside(caps: &Caps, shape: Attention, launch: &Launch) -> Option<Launch> {
    if launch.kernel.name != ATTENTION_TILED.name {
        return None;
    }
    let mut rest = attention(caps, shape);
    let mut params: AttentionParams = rest.params();
    Tile::of(&shape, launch.choice.0[1]).tell(&mut params);
    rest.params = bytemuck::bytes_of(&params).to_vec();
    // There is usually nothing left to do.
    rest.cost = crate::Cost { bytes: rest.sizes[0], flops: 0 };
    Some(rest)
}

/// Number of positions that the last active row of a row's tile sees, if the tile is a run. The kernels apply the same test.
pub(super) fn run_at(params: &AttentionParams, rows: &[Row], place: usize) -> Option<u32> {
    let first = place.checked_div(params.tile_rows as usize)? * params.tile_rows as usize;
    let last = (first + params.tile_rows as usize).min(params.rows as usize);
    let active = || rows[first..last].iter().filter(|row| row.live != 0);
    let of = active().next()?;
    let run = active().count() >= params.run_rows as usize
        && active().all(|row| row.sequence == of.sequence && row.step == of.step);
    run.then(|| active().map(|row| row.position + 1).max()).flatten()
}

fn reference(launch: &Launch, mut slots: Slots<'_>) {
    let params: AttentionParams = launch.params();
    let cache = testbed::shape_of(&params, launch.option(0));
    let (bound, written) = reference::bound(&mut slots);
    let shares = |place: usize, _: &Row| {
        let length = run_at(&params, bound.rows, place)?;
        Some(length.div_ceil(PAGE).div_ceil(params.splits) * PAGE)
    };
    reference::attend(&params, (&cache, launch.option(OUT_AXIS)), &shares, bound, written);
}

/// A case with tiles of one size.
fn case(bed: &Testbed, name: &str, option: u8) -> Case {
    let queries = TILES[usize::from(option)];
    bed.case_of(&format!("{name}, tiles of {queries}"), &Caps::default(), |_, shape| {
        attention_tiled(&shape, Tile::of(&shape, option))
    })
}

fn cases() -> Vec<Case> {
    let beds = testbed::runs().into_iter().flat_map(|(name, bed)| {
        let in_bf16 = bed.clone().in_bf16();
        [(name, bed.clone()), (name, in_bf16), (name, bed.quantized())]
    });
    // One shape has no runs: the kernel must not touch it.
    let beds = beds.chain(testbed::shapes().into_iter().filter(|(name, _)| *name == "mixed rows"));
    beds.zip((0..TILES.len() as u8).cycle()).map(|((name, bed), option)| case(&bed, name, option)).collect()
}

/// Cases of [`beside`], which must not touch runs.
pub(super) fn rest_cases() -> Vec<Case> {
    let rest = |(name, bed): (&str, Testbed)| {
        bed.case_of(&format!("{name}, the rest"), &Caps::default(), |caps, shape| {
            beside(caps, shape, &attention_tiled(&shape, Tile::of(&shape, 1))).expect("tiles have a launch beside them")
        })
    };
    testbed::runs().into_iter().take(3).map(rest).collect()
}

fn at(work: &Workload) -> Vec<Case> {
    trials(work).into_iter().flat_map(|trial| trial.cases().collect::<Vec<_>>()).filter(is_tiled).collect()
}

fn is_tiled(case: &Case) -> bool {
    case.launch.kernel.name == ATTENTION_TILED.name
}

fn random(seed: u64) -> Case {
    let bed = Testbed::random_run(&mut Noise::new(seed), seed);
    case(&bed, &format!("seed {seed}"), (seed % TILES.len() as u64) as u8)
}

/// Attention launches of a model's passes that have variants to choose from.
pub(crate) fn trials(work: &Workload) -> Vec<Trial> {
    let mut all: Vec<Trial> = Vec::new();
    for bed in Testbed::at(work) {
        let variants = bed.variants(&work.caps);
        let case = bed.case_of("model", &work.caps, |_, _| variants.launches[0].clone());
        if variants.launches.len() > 1 && all.iter().all(|trial| trial.variants.class != variants.class) {
            all.push(Trial { variants, case });
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Dtype;

    fn shape(rows: u32, heads: u32, kv_heads: u32) -> Attention {
        let cache = CacheShape {
            kv_heads,
            head_dim: 128,
            dtype: Dtype::Bf16,
            place: Place::Buffer,
            sequences: 1,
            context: 2048,
            steps: 4,
            slots: 5,
            lookup: Lookup::Latest,
            recurrent: true,
            page_base: 0,
            page_count: 320,
        };
        Attention { rows, heads, cache, splits: 1, segment: 0, segments: 1 }
    }

    /// Bytes of keys and values that a launch of [`attention_variants`] reads, according to its cost.
    fn keys(shape: &Attention, launch: &Launch) -> u64 {
        launch.cost.bytes - shape.cost(0).bytes
    }

    #[test]
    fn bytes_of_keys_fall_by_the_queries_of_a_tile() {
        for (heads, kv_heads) in [(16, 16), (16, 4), (64, 1)] {
            let shape = shape(2048, heads, kv_heads);
            let alone = keys(&shape, &attention(&Caps::WEBGPU, shape));
            for (option, queries) in (0..).zip(TILES) {
                let tiled = keys(&shape, &attention_tiled(&shape, Tile::of(&shape, option)));
                // Row by row, up to eight heads that share keys read them together.
                let together = u64::from(shape.group().min(8));
                assert_eq!(alone * together / tiled, u64::from(queries), "{heads}/{kv_heads}, tiles of {queries}");
            }
        }
    }

    #[test]
    fn tiles_are_the_default_for_many_rows_but_on_software_drivers() {
        let first = |caps: &Caps, rows| attention_variants(caps, shape(rows, 16, 16)).launches[0].kernel.name;
        assert_eq!(first(&Caps::WEBGPU, 512), ATTENTION_TILED.name);
        assert_eq!(first(&Caps::WEBGPU, 8), ATTENTION.name);
        assert_eq!(first(&Caps { software: true, ..Caps::WEBGPU }, 512), ATTENTION.name);
        assert_eq!(first(&Caps { max_workgroup_memory: 4 << 10, ..Caps::WEBGPU }, 512), ATTENTION.name);
        // Rows of the invariant mode never depend on their neighbors.
        assert_eq!(attention_variants(&Caps::WEBGPU, shape(8, 16, 16)).launches.len(), 1);
        let last = Attention {
            cache: CacheShape { lookup: Lookup::AlwaysLast, ..shape(64, 16, 16).cache },
            ..shape(64, 16, 16)
        };
        assert_eq!(attention_variants(&Caps::WEBGPU, last).launches.len(), 1);
    }

    #[test]
    fn few_tiles_split_their_keys() {
        let splits =
            |rows| preferred_tile(&Caps::WEBGPU, &shape(rows, 4, 4)).map(|tile| tile.splits(&shape(rows, 4, 4).cache));
        assert_eq!(splits(2048), Some(1));
        assert!(splits(64).is_some_and(|splits| splits > 4), "{:?}", splits(64));
    }
}
