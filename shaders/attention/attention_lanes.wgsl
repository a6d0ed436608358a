override LANES: u32;

var<private> head: u32;

// Start of the query of row m, in quads.
fn line(m: u32) -> u32 {
    return (m * params.heads + head) * 2u * params.chunks;
}

// Quad i of the query that begins at `start`; zeros past its end.
fn quad(start: u32, i: u32) -> vec4<f32> {
    let quads = 2u * params.chunks;
    return select(vec4<f32>(), q[start + min(i, quads - 1u)], i < quads);
}

// Starts of the keys of four neighboring positions, or NONE. The four are in one page if they have stored the same step.
fn places_of(row: Row, kv_head: u32, position: u32, last_steps: bool) -> vec4<u32> {
    let last = row.sequence * params.context + params.context - 1u;
    let first = row.sequence * params.context + position;
    var stored = vec4(row.step + 1u);
    if (params.recurrent != 0u) {
        stored = vec4(depth[first], depth[min(first + 1u, last)], depth[min(first + 2u, last)], depth[min(first + 3u, last)]);
    }
    let page = page_of(row.sequence, slot_seen(row.step, stored.x, last_steps), position);
    let start = kv_chunk(page, 0u, kv_head, position);
    let near = start + vec4(0u, 1u, 2u, 3u) * params.chunks;
    let together = select(vec4(NONE), near, page != NONE);
    if (all(stored == stored.xxxx)) {
        return together;
    }
    return vec4(
        together.x,
        place_of_key(row, kv_head, position + 1u, stored.y, last_steps),
        place_of_key(row, kv_head, position + 2u, stored.z, last_steps),
        place_of_key(row, kv_head, position + 3u, stored.w, last_steps),
    );
}

fn place_of_key(row: Row, kv_head: u32, position: u32, stored: u32, last_steps: bool) -> u32 {
    if (position >= params.context) {
        return NONE;
    }
    let page = page_of(row.sequence, slot_seen(row.step, stored, last_steps), position);
    return select(NONE, kv_chunk(page, 0u, kv_head, position), page != NONE);
}

// Adds chunk j of block b of the keys at four places. Past a key's end the query is zero, so the clamped load does not count.
fn add_keys(sums: ptr<function, Sums>, places: vec4<u32>, at: Place, x: Values, b: u32, j: u32) {
    let c = places + min(4u * b + j, params.chunks - 1u);
    add_chunk(sums, at, x, b, j, kv_at(c.x), kv_at(c.y), kv_at(c.z), kv_at(c.w));
}

fn products(places: vec4<u32>, at: Place) -> Sums {
    var sums = Sums();
    for (var b = 0u; b < (params.chunks + 3u) / 4u; b += 1u) {
        let x = values_of(at, b);
        add_keys(&sums, places, at, x, b, 0u);
        add_keys(&sums, places, at, x, b, 1u);
        add_keys(&sums, places, at, x, b, 2u);
        add_keys(&sums, places, at, x, b, 3u);
    }
    return sums;
}

// One subgroup attends for M rows and one head over one split of the keys, one page at a time: first eight lanes score four neighboring keys each, then every
// lane sums one or two chunks of the values. Rows that see the same keys are processed together, different ones one after another.
@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(subgroup_invocation_id) lane: u32) {
    head = group.x;
    let kv_head = head / (params.heads / params.kv_heads);
    let values = params.kv_heads * PAGE * params.chunks;
    let first_row = group.z * M;
    let last_row = min(first_row + M, params.rows) - 1u;
    let at = place_of(lane, first_row, last_row);
    let row = rows[min(first_row + (lane & 7u), last_row)];
    let split = (params.pages_per_slot + params.splits - 1u) / params.splits;
    let alive = row.live != 0u && first_row + lane % M <= last_row;
    let last_steps = u32(alive && sees_last(row.sequence, row.step, row.position + 1u));
    var waiting = alive;
    var state = new_state();
    // Loops test their condition at the end: otherwise software drivers run one more iteration without active lanes.
    loop {
        let lead = first_lane(waiting);
        let shows = subgroupShuffle(last_steps, lead);
        let alike = row.sequence == subgroupShuffle(row.sequence, lead) && row.step == subgroupShuffle(row.step, lead);
        let mine = waiting && alike && last_steps == shows;
        waiting = waiting && !mine;
        let shared_row = Row(subgroupShuffle(row.sequence, lead), 0u, subgroupShuffle(row.step, lead), 0u, 1u, 0u, 0u, 0u);
        let length = select(0u, row.position + 1u, mine);
        let lengths = of_every_row(length);
        let longest = subgroupMax(length);
        let last = min((longest + PAGE - 1u) / PAGE, (group.y + 1u) * split);
        var page = group.y * split;
        if (page < last) {
            loop {
                let position = page * PAGE + 4u * (lane % 8u);
                let found = places_of(shared_row, kv_head, min(position, params.context - 1u), shows != 0u);
                let positions = vec4(position) + vec4(0u, 1u, 2u, 3u);
                let seen = found != vec4(NONE) & positions < vec4(longest);
                let kept = select(vec4(NONE), found, seen);
                // For keys that no row sees, load from a place that some row sees.
                let any = least(min(min(kept.x, kept.y), min(kept.z, kept.w)));
                if (any != NONE) {
                    let places = select(vec4(any), kept, seen);
                    let scores = products(places, at);
                    let shares = weigh(&state, scores, positions, seen, lengths);
                    add_values(&state, places + values, lane, shares);
                }
                page += 1u;
                continuing {
                    break if page >= last;
                }
            }
        }
        continuing {
            break if !subgroupAny(waiting);
        }
    }
    put(state, first_row, group.y, lane, alive);
}

// First of the eight lanes for which `v` is true; lane 7 if it is true for none of them.
fn first_lane(v: bool) -> u32 {
    return min(countTrailingZeros(subgroupBallot(v).x), 7u);
}

// Minimum over the first eight lanes, by constant shuffles: software drivers loop over lanes for the built-in reductions.
fn least(v: u32) -> u32 {
    let a = min(min(subgroupShuffle(v, 0u), subgroupShuffle(v, 1u)), min(subgroupShuffle(v, 2u), subgroupShuffle(v, 3u)));
    let b = min(min(subgroupShuffle(v, 4u), subgroupShuffle(v, 5u)), min(subgroupShuffle(v, 6u), subgroupShuffle(v, 7u)));
    return min(a, b);
}

fn largest_of_lanes(v: vec4<f32>) -> vec4<f32> {
    let a = max(max(subgroupShuffle(v, 0u), subgroupShuffle(v, 1u)), max(subgroupShuffle(v, 2u), subgroupShuffle(v, 3u)));
    let b = max(max(subgroupShuffle(v, 4u), subgroupShuffle(v, 5u)), max(subgroupShuffle(v, 6u), subgroupShuffle(v, 7u)));
    return max(a, b);
}

// Sum of the weights of a row's keys, over the lanes that hold a part of it.
fn total_share(share: f32, lane: u32) -> f32 {
    return subgroupAdd(select(0.0, share, lane < 8u));
}
