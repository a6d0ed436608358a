override WG: u32;

// Keys per lane that are scored before their values are summed.
const SPAN: u32 = 2u;

// Groups of four values that the workgroup adds at a time, at most.
const MOST_COLUMNS: u32 = 16u;

// Empty entries after a span, for groups past its end.
const SPARE: u32 = 4u * MOST_COLUMNS;

// Quad i of head h of the query is element i * HEADS + h. At the end, holds the sums of each lane, up to two quads per lane.
var<workgroup> held: array<vec4<f32>, max(2u * WG, 2u * HEADS * MAX_CHUNKS)>;

// Scores of a span of keys, then their weights.
var<workgroup> weights: array<PerHead, SPAN * WG + SPARE>;

// Starts of the values of these keys.
var<workgroup> places: array<u32, SPAN * WG + SPARE>;

// Start of the value of one key that the row sees, or NONE. Read in place of values that the row does not see, whose weights are 0.
var<workgroup> seen: atomic<u32>;
var<workgroup> skipped: u32;

// First of the heads of this workgroup, their number, and the head that is being written.
var<private> first_head: u32;
var<private> real_heads: u32;
var<private> head: u32;

// Whether `attention_tiled` attends for this row because the rows of its tile are a run. `find_run` there is the same test.
fn in_run(at: Lane, row: Row) -> bool {
    let first = at.group.z / params.tile_rows * params.tile_rows;
    var found = vec2<f32>();
    for (var i = at.index; i < params.tile_rows; i += WG) {
        let other = rows[min(first + i, params.rows - 1u)];
        if (first + i < params.rows && other.live != 0u) {
            found += vec2(1.0, f32(other.sequence != row.sequence || other.step != row.step));
        }
    }
    let all = reduce_sum4(at, vec4(found, 0.0, 0.0));
    if (at.index == 0u) {
        skipped = u32(all.y == 0.0 && all.x >= f32(params.run_rows));
    }
    return workgroupUniformLoad(&skipped) != 0u;
}

// Index of chunk c of the first head's query. The mask changes nothing, but proves to compilers that adding a small number does not overflow, so that they
// fold it into the offset of a load.
fn line_of(c: u32) -> u32 {
    return (c & (MAX_CHUNKS - 1u)) * CHUNK_LINE;
}

// Elements from chunk to chunk of the queries.
const CHUNK_LINE: u32 = 2u * HEADS;

// Chunk of the query of head h, given the chunk's line.
fn query(line: u32, h: u32) -> Eight {
    return Eight(held[line + h], held[line + HEADS + h]);
}

// One workgroup attends for one row and up to HEADS heads that share keys, over one split of the keys: first each lane scores whole keys, then each lane sums
// one piece of every few values. With the online softmax, one pass over the keys is enough. `combine` joins the splits and the segments of the cache.
fn run(at: Lane) {
    let row = rows[at.group.z];
    if (row.live == 0u) {
        return;
    }
    if (params.tile_rows > 0u) {
        if (in_run(at, row)) {
            return;
        }
    }
    let group = params.heads / params.kv_heads;
    let workgroups = (group + HEADS - 1u) / HEADS;
    let kv_head = at.group.x / workgroups;
    let of_group = at.group.x % workgroups * HEADS;
    first_head = kv_head * group + of_group;
    real_heads = min(HEADS, group - of_group);
    let length = row.position + 1u;
    let tiles = (length + WG - 1u) / WG;
    let share = (tiles + params.splits - 1u) / params.splits;
    let last = min(tiles, (at.group.y + 1u) * share);
    // A split without keys stores 0 as its sum of weights; its sums of values are never read.
    if (at.group.y * share >= last) {
        for (var h = 0u; h < real_heads; h += 1u) {
            head = first_head + h;
            put_softmax(at.group.z, at.group.y, at.index, true, LOWEST, 0.0);
        }
        return;
    }
    if (at.index == 0u) {
        atomicStore(&seen, NONE);
    }
    prepare(at, row, kv_head, last == tiles);
    workgroupBarrier();
    prepare_scores(at);

    // Positions whose keys are in the cache: all of them, or all but the newest, whose key is at hand.
    let cached = length - AT_HAND;
    let last_steps = sees_last(row.sequence, row.step, cached);
    // Each lane takes one piece of groups of four values; the groups of a step lie side by side. Lanes that are left over repeat the work of others.
    let pieces = params.chunks * PIECES_OF_CHUNK;
    let piece = at.index % pieces;
    let columns = columns_of(pieces);
    let column = min(at.index / pieces, columns);
    var largest = lowest();
    var weight_sum = nothing();
    var factor_sum = nothing();
    var sums = Sums();
    var tile = at.group.y * share;
    // Loops test their condition at the end: otherwise software drivers run one more iteration without active lanes.
    loop {
        let of_lane = min(SPAN, last - tile);
        let entries = of_lane * WG;
        var best = lowest();
        var scored = at.index;
        loop {
            let i = scored;
            let position = tile * WG + i;
            var score = lowest();
            var place = NONE;
            if (position < cached) {
                let slot = slot_seen(row.step, depth[row.sequence * params.context + position], last_steps);
                let page = page_of(row.sequence, slot, position);
                if (page != NONE) {
                    place = value_place(page, kv_head, position);
                    atomicStore(&seen, place);
                    score = scaled_by(products(page, kv_head, position, i), params.scale);
                }
            }
            weights[i] = score;
            places[i] = place;
            best = larger(best, score);
            continuing {
                scored += WG;
                break if scored >= entries;
            }
        }
        let before = largest;
        largest = larger(largest, largest_of_all(at, best));
        workgroupBarrier();
        let any = atomicLoad(&seen);
        let kept = exp_of(before, largest);
        weight_sum = product_of(weight_sum, kept);
        var weighed = at.index;
        loop {
            if (places[weighed] != NONE) {
                let weight = exp_of(weights[weighed], largest);
                weights[weighed] = weight;
                weight_sum = sum_of(weight_sum, weight);
            } else {
                put_nothing(weighed, any);
            }
            continuing {
                weighed += WG;
                break if weighed >= entries;
            }
        }
        // The last groups of a span may be past its end.
        if (entries % (4u * columns) != 0u && at.index < SPARE) {
            put_nothing(entries + at.index, any);
        }
        workgroupBarrier();
        factor_sum = product_of(factor_sum, kept);
        sums = rescaled(sums, kept);
        if (any != NONE) {
            let groups = (min(entries, cached - tile * WG) + 3u) / 4u;
            var first = 0u;
            loop {
                // The mask is as in `line_of`.
                let i = 4u * ((first & (SPAN * WG / 4u - 1u)) + column);
                let a = piece_at(places[i], piece);
                let b = piece_at(places[i + 1u], piece);
                let d = piece_at(places[i + 2u], piece);
                let e = piece_at(places[i + 3u], piece);
                let block = piece / PIECES_OF_CHUNK / 4u;
                let of_a = scaled_by(weights[i], value_factor(i, block));
                let of_b = scaled_by(weights[i + 1u], value_factor(i + 1u, block));
                let of_d = scaled_by(weights[i + 2u], value_factor(i + 2u, block));
                let of_e = scaled_by(weights[i + 3u], value_factor(i + 3u, block));
                factor_sum = sum_of(sum_of(sum_of(sum_of(factor_sum, of_a), of_b), of_d), of_e);
                sums = with_value(with_value(with_value(with_value(sums, of_a, a), of_b, b), of_d, d), of_e, e);
                continuing {
                    first += columns;
                    break if first >= groups;
                }
            }
        }
        workgroupBarrier();
        continuing {
            tile += SPAN;
            break if tile >= last;
        }
    }

    if (AT_HAND > 0u && last == tiles && holds_newest(row)) {
        let score = scaled_by(sum_of_all(at, newest_products(at.index)), params.scale);
        let before = largest;
        largest = larger(largest, score);
        let kept = exp_of(before, largest);
        var weight = exp_of(score, largest);
        factor_sum = product_of(factor_sum, kept);
        sums = rescaled(sums, kept);
        if (column == 0u) {
            sums = with_value(sums, weight, piece_of(newest_chunk(true, piece / PIECES_OF_CHUNK), piece));
        }
        if (at.index > 0u) {
            weight = nothing();
        }
        weight_sum = sum_of(product_of(weight_sum, kept), weight);
    }
    put_heads(at, sums, factor_sum, largest, sum_of_all(at, weight_sum));
}

// Fills an entry of a span that has no key.
fn put_nothing(i: u32, place: u32) {
    weights[i] = nothing();
    places[i] = place;
    clear_factors(i);
}

// Number of lanes that share a piece, at least 2.
fn columns_of(pieces: u32) -> u32 {
    return min(WG / pieces, MOST_COLUMNS);
}

// Joins the sums of all lanes for head h of the workgroup and writes them.
fn put_head(at: Lane, h: u32, v: Piece, factor_sum: f32, largest: f32, weight_sum: f32) {
    if (h >= real_heads) {
        return;
    }
    workgroupBarrier();
    hold(at.index, v, center_of(factor_sum));
    workgroupBarrier();
    head = first_head + h;
    put_softmax(at.group.z, at.group.y, at.index, true, largest, weight_sum);
    let quads = 2u * params.chunks;
    if (at.index < quads) {
        let columns = columns_of(params.chunks * PIECES_OF_CHUNK);
        var sum = held[at.index];
        var column = 1u;
        loop {
            sum += held[column * quads + at.index];
            continuing {
                column += 1u;
                break if column >= columns;
            }
        }
        put_quad(at.group.z, at.group.y, at.index, true, sum * factor_of(weight_sum));
    }
}
