override WG: u32;

// A slice of 32 values of k, in lines of LINE values, padded to begin in different banks of workgroup memory.
const CHUNKS: u32 = 4u;
const DEPTH: u32 = 32u;
// A subgroup computes a quarter of the tile: ACROSS by ACROSS matrices.
const ACROSS: u32 = 32u / SIDE;
const CELLS: u32 = SIDE * SIDE;

// Values in a slice of x or of W; BUFFERS slices of each are in memory.
const SLICE: u32 = TILE * LINE;
const ITEMS: u32 = TILE * CHUNKS;

var<workgroup> xs: array<Number, BUFFERS * SLICE>;
var<workgroup> ws: array<Number, BUFFERS * SLICE>;
var<workgroup> done: array<f32, QUARTERS * CELLS>;

// Eight values of k of a line of x, and of a line of W, as loaded.
struct Item {
    x: Eight,
    w: Unit,
}

// One workgroup computes a tile of 64 rows by 64 outputs. The driver decides how many subgroups its lanes form: with fewer than four, the tile is processed
// again for the remaining quarters; with more, some subgroups only fetch.
@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
    @builtin(subgroup_id) subgroup: u32,
    @builtin(num_subgroups) subgroups: u32,
) {
    let first_n = group.x * TILE;
    let first_row = group.y * TILE;
    if (rests(first_row)) {
        return;
    }
    for (var first = 0u; first < QUARTERS; first += subgroups) {
        let quarter = first + subgroup;
        let top = quarter / 2u * 32u;
        let left = quarter % 2u * 32u;
        var sums: array<Sum, ACROSS * ACROSS>;
        var slice = 0u;
        if (BUFFERS > 1u) {
            fetch(first_row, first_n, 0u, lane);
        }
        for (var c = 0u; c < params.chunks; c += CHUNKS) {
            workgroupBarrier();
            var a: Item;
            var b: Item;
            if (BUFFERS > 1u) {
                // The next slice is loaded while this one is multiplied. Past the last one, `keep` stores zeros.
                a = take(first_row, first_n, c + CHUNKS, lane);
                b = take(first_row, first_n, c + CHUNKS, lane + WG);
            } else {
                fetch(first_row, first_n, c, lane);
                workgroupBarrier();
            }
            if (quarter < QUARTERS) {
                for (var k = 0u; k < DEPTH; k += SIDE) {
                    var x: array<Left, ACROSS>;
                    for (var i = 0u; i < ACROSS; i += 1u) {
                        x[i] = coopLoadT<Left>(&xs[slice + (top + SIDE * i) * LINE + k], LINE);
                    }
                    for (var j = 0u; j < ACROSS; j += 1u) {
                        let w = coopLoad<Right>(&ws[slice + (left + SIDE * j) * LINE + k], LINE);
                        for (var i = 0u; i < ACROSS; i += 1u) {
                            sums[i * ACROSS + j] = coopMultiplyAdd(x[i], w, sums[i * ACROSS + j]);
                        }
                    }
                }
            }
            if (BUFFERS > 1u) {
                slice = SLICE - slice;
                keep(a, c + CHUNKS, lane, slice);
                keep(b, c + CHUNKS, lane + WG, slice);
            }
        }
        for (var i = 0u; i < ACROSS; i += 1u) {
            for (var j = 0u; j < ACROSS; j += 1u) {
                workgroupBarrier();
                if (quarter < QUARTERS) {
                    coopStoreT(sums[i * ACROSS + j], &done[quarter * CELLS], SIDE);
                }
                workgroupBarrier();
                put(first, min(first + subgroups, QUARTERS), first_row + SIDE * i, first_n + SIDE * j, lane);
            }
        }
    }
}

fn take(first_row: u32, first_n: u32, c: u32, item: u32) -> Item {
    let line = item / CHUNKS;
    let chunk = min(c + item % CHUNKS, params.chunks - 1u);
    let x = input(min(first_row + line, params.rows - 1u), chunk);
    return Item(x, unit_at(min(first_n + line, params.n - 1u), chunk / UNIT));
}

fn keep(it: Item, c: u32, item: u32, slice: u32) {
    if (item >= ITEMS) {
        return;
    }
    let chunk = c + item % CHUNKS;
    var x = Eight();
    var w = Eight();
    if (chunk < params.chunks) {
        x = it.x;
        w = chunk_of(it.w, chunk % UNIT);
    }
    let place = slice + item / CHUNKS * LINE + 8u * (item % CHUNKS);
    for (var i = 0u; i < 4u; i += 1u) {
        xs[place + i] = Number(x.lo[i]);
        xs[place + 4u + i] = Number(x.hi[i]);
        ws[place + i] = Number(w.lo[i]);
        ws[place + 4u + i] = Number(w.hi[i]);
    }
}

// Loads a whole slice into the first buffer.
fn fetch(first_row: u32, first_n: u32, c: u32, lane: u32) {
    for (var item = lane; item < ITEMS; item += WG) {
        keep(take(first_row, first_n, c, item), c, item, 0u);
    }
}

// Emits one matrix of each quarter from `begin` up to `end`; row and n are its position in quarter 0.
fn put(begin: u32, end: u32, row: u32, n: u32, lane: u32) {
    for (var item = begin * CELLS / 4u + lane; item < end * CELLS / 4u; item += WG) {
        let quarter = item / (CELLS / 4u);
        let m = row + quarter / 2u * 32u + item % (CELLS / 4u) / (SIDE / 4u);
        let at = n + quarter % 2u * 32u + item % (SIDE / 4u) * 4u;
        emit_inside(m, at, vec4(done[4u * item], done[4u * item + 1u], done[4u * item + 2u], done[4u * item + 3u]));
    }
}
