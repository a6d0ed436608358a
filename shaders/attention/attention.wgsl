override WG: u32;

var<workgroup> query: array<Eight, MAX_CHUNKS>;
var<workgroup> shares: array<f32, WG>;
var<workgroup> places: array<u32, WG>;
var<workgroup> skipped: u32;

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

// One workgroup attends for one row and one head over one split of the keys, WG keys at a time: first each lane scores one key, then each lane sums one pair of
// the values. With the online softmax, one pass over the keys is enough. `combine` joins the splits and the segments of the cache.
fn run(at: Lane) {
    head = at.group.x;
    let row = rows[at.group.z];
    if (row.live == 0u) {
        return;
    }
    if (params.tile_rows > 0u) {
        if (in_run(at, row)) {
            return;
        }
    }
    let kv_head = head / (params.heads / params.kv_heads);
    let length = row.position + 1u;
    let tiles = (length + WG - 1u) / WG;
    let share = (tiles + params.splits - 1u) / params.splits;
    let last = min(tiles, (at.group.y + 1u) * share);
    // A split without keys stores 0 as its sum of weights; its sums of values are never read.
    if (at.group.y * share >= last) {
        put_softmax(at.group.z, at.group.y, at.index, true, LOWEST, 0.0);
        return;
    }
    prepare(at, row, head, kv_head, last == tiles);
    workgroupBarrier();

    // Positions whose keys are in the cache: all of them, or all but the newest, whose key is at hand.
    let cached = length - AT_HAND;
    let last_steps = sees_last(row.sequence, row.step, cached);
    let pairs = (params.head_dim + 1u) / 2u;
    var largest = LOWEST;
    var weight_sum = 0.0;
    var sum = vec2<f32>();
    for (var tile = at.group.y * share; tile < last; tile += 1u) {
        let position = tile * WG + at.index;
        var score = LOWEST;
        var place = NONE;
        if (position < cached) {
            let slot = slot_seen(row.step, depth[row.sequence * params.context + position], last_steps);
            let page = page_of(row.sequence, slot, position);
            if (page != NONE) {
                place = value_place(page, kv_head, position);
                score = params.scale * product(page, kv_head, position, at.index);
            }
        }
        let before = largest;
        largest = max(largest, reduce_max(at, score));
        let kept = exp(before - largest);
        var weight = 0.0;
        if (place != NONE) {
            weight = exp(score - largest);
        }
        shares[at.index] = weight;
        places[at.index] = place;
        weight_sum = weight_sum * kept + reduce_sum4(at, vec4(weight, 0.0, 0.0, 0.0)).x;
        workgroupBarrier();
        sum *= kept;
        if (at.index < pairs) {
            for (var i = 0u; i < min(WG, cached - tile * WG); i += 1u) {
                if (places[i] != NONE) {
                    sum += shares[i] * value_of(i, places[i], at.index);
                }
            }
        }
        workgroupBarrier();
    }

    if (AT_HAND > 0u && last == tiles && holds_newest(row)) {
        let score = params.scale * reduce_sum4(at, vec4(newest_product(at.index), 0.0, 0.0, 0.0)).x;
        let before = largest;
        largest = max(largest, score);
        let kept = exp(before - largest);
        let weight = exp(score - largest);
        weight_sum = weight_sum * kept + weight;
        if (at.index < pairs) {
            sum = sum * kept + weight * newest_pair(at.index);
        }
    }
    put_softmax(at.group.z, at.group.y, at.index, true, largest, weight_sum);
    if (at.index < pairs) {
        put_pair(at.group.z, at.group.y, at.index, sum * factor_of(weight_sum));
    }
}
