// A workgroup has QUERIES / 4 columns of eight lanes: lane (down, across) holds the scores of four queries, DOWN apart, with four keys, eight apart, and every
// eighth quad of the sums of their values.
const DOWN: u32 = QUERIES / 4u;
const LANES_ACROSS: u32 = 8u;
const WORKGROUP: u32 = DOWN * LANES_ACROSS;
// Quads of a head that scores are computed from at a time. Queries and keys are stored quad by quad, in lines padded by one element so that neighbors fall into
// different banks.
const SLICE: u32 = 8u;
const QUERY_LINE: u32 = QUERIES + 1u;
const KEY_LINE: u32 = PAGE + 1u;
// Quads of a head, rounded up to whole slices.
const QUADS: u32 = SPANS * SLICE;

// Holds a slice of the queries, a slice of the keys, and the numbers that lanes exchange about their scores. While values are summed, weights replace the
// queries, and the values of eight keys replace the keys.
const KEYS_AT: u32 = SLICE * QUERY_LINE;
const TOLD_AT: u32 = KEYS_AT + SLICE * KEY_LINE;
const VALUES_AT: u32 = 8u * QUERIES;
var<workgroup> tile: array<vec4<f32>, 10u * QUERIES + 8u + 8u * KEY_LINE>;

// Row (or NONE) and head of each query.
var<workgroup> owners: array<vec2<u32>, QUERIES>;

// Page of each position of the tile, or NONE.
var<workgroup> pages: array<u32, PAGE>;

// Smallest and largest sequence and step among the active rows of the tile, the number of these rows, and the most keys that one of them sees.
var<workgroup> least_sequence: atomic<u32>;
var<workgroup> most_sequence: atomic<u32>;
var<workgroup> least_step: atomic<u32>;
var<workgroup> most_step: atomic<u32>;
var<workgroup> active_rows: atomic<u32>;
var<workgroup> longest: atomic<u32>;
var<workgroup> run_of_tile: Run;

var<private> head: u32;

// Sequence and step of the rows of a tile, and the number of keys that the last of them sees; length 0 if the rows are not a run.
struct Run {
    sequence: u32,
    step: u32,
    length: u32,
}

// A query of a lane: its start in q and the number of keys that it sees, 0 if there is no such query.
struct Query {
    line: u32,
    length: u32,
}

// Four vectors, one for each of a lane's four queries or keys.
struct Four {
    a: vec4<f32>,
    b: vec4<f32>,
    c: vec4<f32>,
    d: vec4<f32>,
}

// Query m of the tile: one head of one row. Its owner is kept in workgroup memory, to save registers.
fn query_at(first_row: u32, kv_head: u32, first_head: u32, m: u32, across: u32) -> Query {
    let row = first_row + m / params.tile_heads;
    let of_group = first_head + m % params.tile_heads;
    let group = params.heads / params.kv_heads;
    let inside = m < params.tile_rows * params.tile_heads && row < params.rows && of_group < group;
    let real_row = min(row, params.rows - 1u);
    let real_head = kv_head * group + min(of_group, group - 1u);
    let it = rows[real_row];
    let alive = inside && it.live != 0u;
    if (across == 0u) {
        owners[m] = vec2(select(NONE, row, alive), real_head);
    }
    return Query((real_row * params.heads + real_head) * 2u * params.chunks, select(0u, it.position + 1u, alive));
}

// Tests whether the rows of the tile are a run: enough active rows, all of one sequence at one step.
fn find_run(first_row: u32, lane: u32) -> Run {
    if (lane == 0u) {
        atomicStore(&least_sequence, NONE);
        atomicStore(&most_sequence, 0u);
        atomicStore(&least_step, NONE);
        atomicStore(&most_step, 0u);
        atomicStore(&active_rows, 0u);
        atomicStore(&longest, 0u);
    }
    workgroupBarrier();
    if (lane < params.tile_rows && first_row + lane < params.rows) {
        let it = rows[first_row + lane];
        if (it.live != 0u) {
            atomicMin(&least_sequence, it.sequence);
            atomicMax(&most_sequence, it.sequence);
            atomicMin(&least_step, it.step);
            atomicMax(&most_step, it.step);
            atomicAdd(&active_rows, 1u);
            atomicMax(&longest, it.position + 1u);
        }
    }
    workgroupBarrier();
    if (lane == 0u) {
        let sequence = atomicLoad(&least_sequence);
        let step = atomicLoad(&least_step);
        let alike = sequence == atomicLoad(&most_sequence) && step == atomicLoad(&most_step);
        let found = alike && atomicLoad(&active_rows) >= params.run_rows;
        run_of_tile = Run(sequence, step, select(0u, min(atomicLoad(&longest), params.context), found));
    }
    return workgroupUniformLoad(&run_of_tile);
}

// Looks up the page of each position of a tile of keys in the bound segment.
fn find_pages(run: Run, first: u32, lane: u32) {
    if (lane < PAGE) {
        let position = first + lane;
        var page = NONE;
        if (position < run.length) {
            let slot = slot_seen(run.step, depth[run.sequence * params.context + position], false);
            page = page_of(run.sequence, slot, position);
        }
        pages[lane] = page;
    }
}

// Whether any position of the tile has its keys in the bound segment.
fn any_page() -> bool {
    var least = NONE;
    for (var i = 0u; i < PAGE; i += 1u) {
        least = min(least, pages[i]);
    }
    return least != NONE;
}

fn put_query_quad(slice: u32, line: u32, m: u32, across: u32) {
    let quad = slice * SLICE + across;
    tile[across * QUERY_LINE + m] = select(vec4<f32>(), q[line + min(quad, 2u * params.chunks - 1u)], quad < 2u * params.chunks);
}

fn fetch_keys(slice: u32, kv_head: u32, lane: u32) {
    for (var item = lane; item < PAGE * 4u; item += WORKGROUP) {
        let position = item / 4u;
        let c = slice * 4u + item % 4u;
        let page = pages[position];
        var v = Eight();
        if (page != NONE && c < params.chunks) {
            v = key_chunk(page, kv_head, position, c);
        }
        let place = KEYS_AT + 2u * (item % 4u) * KEY_LINE + position;
        tile[place] = v.lo;
        tile[place + KEY_LINE] = v.hi;
    }
}

// Loads the values of the eight keys from `first` on.
fn fetch_values(first: u32, kv_head: u32, lane: u32) {
    for (var item = lane; item < 8u * QUADS / 2u; item += WORKGROUP) {
        let position = first + item / (QUADS / 2u);
        let c = item % (QUADS / 2u);
        let page = pages[position];
        var v = Eight();
        if (page != NONE && c < params.chunks) {
            v = value_chunk(page, kv_head, position, c);
        }
        tile[VALUES_AT + 2u * item] = v.lo;
        tile[VALUES_AT + 2u * item + 1u] = v.hi;
    }
}

// Adds the products of one quad of a query with the same quad of four keys.
fn with_products(sum: vec4<f32>, v: vec4<f32>, x: Four) -> vec4<f32> {
    let a = fma(vec4(v.x), vec4(x.a.x, x.b.x, x.c.x, x.d.x), sum);
    let b = fma(vec4(v.y), vec4(x.a.y, x.b.y, x.c.y, x.d.y), a);
    let c = fma(vec4(v.z), vec4(x.a.z, x.b.z, x.c.z, x.d.z), b);
    return fma(vec4(v.w), vec4(x.a.w, x.b.w, x.c.w, x.d.w), c);
}

// The bound of the loop is a runtime value on purpose: unrolled, the loop would need too many registers.
fn add_slice(sums: ptr<function, Four>, quads: u32, down: u32, across: u32) {
    for (var quad = 0u; quad < quads; quad += 1u) {
        let k = KEYS_AT + quad * KEY_LINE + across;
        let keys = Four(tile[k], tile[k + 8u], tile[k + 16u], tile[k + 24u]);
        let at = quad * QUERY_LINE + down;
        (*sums).a = with_products((*sums).a, tile[at], keys);
        (*sums).b = with_products((*sums).b, tile[at + DOWN], keys);
        (*sums).c = with_products((*sums).c, tile[at + 2u * DOWN], keys);
        (*sums).d = with_products((*sums).d, tile[at + 3u * DOWN], keys);
    }
}

// Shares one number for each of a lane's queries with the lanes across.
fn tell(v: vec4<f32>, down: u32, across: u32) {
    for (var i = 0u; i < 4u; i += 1u) {
        tile[TOLD_AT + 2u * (down + DOWN * i) + across / 4u][across % 4u] = v[i];
    }
}

fn largest_told(down: u32, i: u32) -> f32 {
    let at = TOLD_AT + 2u * (down + DOWN * i);
    let most = max(tile[at], tile[at + 1u]);
    return max(max(most.x, most.y), max(most.z, most.w));
}

fn total_told(down: u32, i: u32) -> f32 {
    let at = TOLD_AT + 2u * (down + DOWN * i);
    return dot(tile[at] + tile[at + 1u], vec4(1.0));
}

// Scores of a query with a lane's keys; LOWEST for keys that it does not see.
fn shown(sum: vec4<f32>, positions: vec4<u32>, here: vec4<bool>, length: u32) -> vec4<f32> {
    return select(vec4(LOWEST), params.scale * sum, here & positions < vec4(length));
}

fn largest_of(v: vec4<f32>) -> f32 {
    return max(max(v.x, v.y), max(v.z, v.w));
}

// Writes the weights of a query's keys to workgroup memory, four keys to a quad, and returns their sum.
fn put_weights(score: vec4<f32>, largest: f32, m: u32, across: u32) -> f32 {
    let w = select(vec4<f32>(), exp(score - largest), score > vec4(LOWEST));
    let at = across / 4u * QUERIES + m;
    tile[at][across % 4u] = w.x;
    tile[at + 2u * QUERIES][across % 4u] = w.y;
    tile[at + 4u * QUERIES][across % 4u] = w.z;
    tile[at + 6u * QUERIES][across % 4u] = w.w;
    return dot(w, vec4(1.0));
}

fn with_values(sum: vec4<f32>, w: vec4<f32>, v: Four) -> vec4<f32> {
    return fma(vec4(w.w), v.d, fma(vec4(w.z), v.c, fma(vec4(w.y), v.b, fma(vec4(w.x), v.a, sum))));
}

// Adds the values of `fours` groups of four keys, from group `first` on, to the sums of a lane's four queries, span by span.
fn add_values(sums: ptr<function, array<vec4<f32>, 4u * SPANS>>, first: u32, fours: u32, down: u32, across: u32) {
    for (var four = 0u; four < fours; four += 1u) {
        let at = (first + four) * QUERIES + down;
        let w = Four(tile[at], tile[at + DOWN], tile[at + 2u * DOWN], tile[at + 3u * DOWN]);
        for (var span = 0u; span < SPANS; span += 1u) {
            let v = VALUES_AT + 4u * four * QUADS + span * LANES_ACROSS + across;
            let values = Four(tile[v], tile[v + QUADS], tile[v + 2u * QUADS], tile[v + 3u * QUADS]);
            (*sums)[4u * span] = with_values((*sums)[4u * span], w.a, values);
            (*sums)[4u * span + 1u] = with_values((*sums)[4u * span + 1u], w.b, values);
            (*sums)[4u * span + 2u] = with_values((*sums)[4u * span + 2u], w.c, values);
            (*sums)[4u * span + 3u] = with_values((*sums)[4u * span + 3u], w.d, values);
        }
    }
}

// One workgroup attends for one tile of queries (the heads of some rows that share keys) over one split of the keys, one page at a time. It exits if the rows
// are not a run: the launch for single rows covers them.
@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let run = find_run(group.z * params.tile_rows, lane);
    if (run.length == 0u) {
        return;
    }
    let parts_of_group = (params.heads / params.kv_heads + params.tile_heads - 1u) / params.tile_heads;
    let kv_head = group.x / parts_of_group;
    let first_head = group.x % parts_of_group * params.tile_heads;
    let down = lane / LANES_ACROSS;
    let across = lane % LANES_ACROSS;
    let first_row = group.z * params.tile_rows;
    let a = query_at(first_row, kv_head, first_head, down, across);
    let b = query_at(first_row, kv_head, first_head, down + DOWN, across);
    let c = query_at(first_row, kv_head, first_head, down + 2u * DOWN, across);
    let d = query_at(first_row, kv_head, first_head, down + 3u * DOWN, across);

    let tiles = (run.length + PAGE - 1u) / PAGE;
    let share = (tiles + params.splits - 1u) / params.splits;
    let last = min(tiles, (group.y + 1u) * share);
    var largest = vec4(LOWEST);
    var total = vec4<f32>();
    var sums: array<vec4<f32>, 4u * SPANS>;
    for (var page = group.y * share; page < last; page += 1u) {
        find_pages(run, page * PAGE, lane);
        workgroupBarrier();
        let work = any_page();
        var s = Four();
        for (var slice = 0u; slice < SPANS; slice += 1u) {
            if (slice > 0u) {
                workgroupBarrier();
            }
            if (work) {
                put_query_quad(slice, a.line, down, across);
                put_query_quad(slice, b.line, down + DOWN, across);
                put_query_quad(slice, c.line, down + 2u * DOWN, across);
                put_query_quad(slice, d.line, down + 3u * DOWN, across);
                fetch_keys(slice, kv_head, lane);
            }
            workgroupBarrier();
            if (work) {
                add_slice(&s, min(SLICE, 2u * params.chunks - slice * SLICE), down, across);
            }
        }
        let positions = vec4(page * PAGE + across) + vec4(0u, 8u, 16u, 24u);
        let here = vec4(pages[across], pages[across + 8u], pages[across + 16u], pages[across + 24u]) != vec4(NONE);
        s.a = shown(s.a, positions, here, a.length);
        s.b = shown(s.b, positions, here, b.length);
        s.c = shown(s.c, positions, here, c.length);
        s.d = shown(s.d, positions, here, d.length);
        tell(vec4(largest_of(s.a), largest_of(s.b), largest_of(s.c), largest_of(s.d)), down, across);
        workgroupBarrier();
        let told = vec4(largest_told(down, 0u), largest_told(down, 1u), largest_told(down, 2u), largest_told(down, 3u));
        let before = largest;
        largest = max(before, told);
        let kept = exp(before - largest);
        total = total * kept + vec4(
            put_weights(s.a, largest.x, down, across),
            put_weights(s.b, largest.y, down + DOWN, across),
            put_weights(s.c, largest.z, down + 2u * DOWN, across),
            put_weights(s.d, largest.w, down + 3u * DOWN, across),
        );
        for (var span = 0u; span < SPANS; span += 1u) {
            sums[4u * span] *= kept.x;
            sums[4u * span + 1u] *= kept.y;
            sums[4u * span + 2u] *= kept.z;
            sums[4u * span + 3u] *= kept.w;
        }
        let fours = (min(run.length - page * PAGE, PAGE) + 3u) / 4u;
        for (var four = 0u; four < fours; four += 2u) {
            if (four > 0u) {
                workgroupBarrier();
            }
            if (work) {
                fetch_values(4u * four, kv_head, lane);
            }
            workgroupBarrier();
            if (work) {
                add_values(&sums, four, min(fours - four, 2u), down, across);
            }
        }
    }
    workgroupBarrier();
    tell(total, down, across);
    workgroupBarrier();
    put(group.y, down, 0u, across, largest.x, &sums);
    put(group.y, down, 1u, across, largest.y, &sums);
    put(group.y, down, 2u, across, largest.z, &sums);
    put(group.y, down, 3u, across, largest.w, &sums);
}

fn put(split: u32, down: u32, i: u32, across: u32, largest: f32, sums: ptr<function, array<vec4<f32>, 4u * SPANS>>) {
    let owner = owners[down + DOWN * i];
    let total = total_told(down, i);
    let alive = owner.x != NONE;
    head = owner.y;
    put_softmax(owner.x, split, across, alive, largest, total);
    for (var span = 0u; span < SPANS; span += 1u) {
        put_quad(owner.x, split, span * LANES_ACROSS + across, alive, (*sums)[4u * span + i] * factor_of(total));
    }
}
