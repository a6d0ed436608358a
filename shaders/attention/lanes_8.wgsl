// One value per row of x.
struct PerRow {
    lo: vec4<f32>,
    hi: vec4<f32>,
}

// One chunk per row.
struct Chunks {
    a: Eight,
    b: Eight,
    c: Eight,
    d: Eight,
    e: Eight,
    f: Eight,
    g: Eight,
    h: Eight,
}

// Running softmax of eight rows; each lane holds its own part of the sums of weights.
struct State {
    largest: PerRow,
    share: PerRow,
    values: Held,
}

fn new_state() -> State {
    return State(PerRow(vec4(LOWEST), vec4(LOWEST)), PerRow(), Held());
}

struct Lengths {
    lo: vec4<u32>,
    hi: vec4<u32>,
}

fn of_every_row(v: u32) -> Lengths {
    let lo = vec4(subgroupShuffle(v, 0u), subgroupShuffle(v, 1u), subgroupShuffle(v, 2u), subgroupShuffle(v, 3u));
    let hi = vec4(subgroupShuffle(v, 4u), subgroupShuffle(v, 5u), subgroupShuffle(v, 6u), subgroupShuffle(v, 7u));
    return Lengths(lo, hi);
}

// The weights of a lane's four keys.
struct Shares {
    a: PerRow,
    b: PerRow,
    c: PerRow,
    d: PerRow,
}

// Scores of four rows at a lane's four keys; LOWEST for keys that a row does not see.
struct Scores {
    a: vec4<f32>,
    b: vec4<f32>,
    c: vec4<f32>,
    d: vec4<f32>,
}

fn shown(score: vec4<f32>, position: u32, seen: bool, lengths: vec4<u32>) -> vec4<f32> {
    return select(vec4(LOWEST), params.scale * score, vec4(seen) & vec4(position) < lengths);
}

fn weight_of(score: vec4<f32>, largest: vec4<f32>) -> vec4<f32> {
    return select(vec4<f32>(), exp(score - largest), score > vec4(LOWEST));
}

fn largest_of(s: Scores, before: vec4<f32>) -> vec4<f32> {
    return max(before, largest_of_lanes(max(max(s.a, s.b), max(s.c, s.d))));
}

fn rescaled_chunks(v: Chunks, kept: PerRow) -> Chunks {
    return Chunks(
        scaled_eight(v.a, kept.lo.x),
        scaled_eight(v.b, kept.lo.y),
        scaled_eight(v.c, kept.lo.z),
        scaled_eight(v.d, kept.lo.w),
        scaled_eight(v.e, kept.hi.x),
        scaled_eight(v.f, kept.hi.y),
        scaled_eight(v.g, kept.hi.z),
        scaled_eight(v.h, kept.hi.w),
    );
}

fn weigh(state: ptr<function, State>, sums: Sums, positions: vec4<u32>, seen: vec4<bool>, lengths: Lengths) -> Shares {
    let lo = Scores(
        shown(sums.a.lo, positions.x, seen.x, lengths.lo),
        shown(sums.b.lo, positions.y, seen.y, lengths.lo),
        shown(sums.c.lo, positions.z, seen.z, lengths.lo),
        shown(sums.d.lo, positions.w, seen.w, lengths.lo),
    );
    let hi = Scores(
        shown(sums.a.hi, positions.x, seen.x, lengths.hi),
        shown(sums.b.hi, positions.y, seen.y, lengths.hi),
        shown(sums.c.hi, positions.z, seen.z, lengths.hi),
        shown(sums.d.hi, positions.w, seen.w, lengths.hi),
    );
    let before = (*state).largest;
    let now = PerRow(largest_of(lo, before.lo), largest_of(hi, before.hi));
    let kept = PerRow(exp(before.lo - now.lo), exp(before.hi - now.hi));
    let shares = Shares(
        PerRow(weight_of(lo.a, now.lo), weight_of(hi.a, now.hi)),
        PerRow(weight_of(lo.b, now.lo), weight_of(hi.b, now.hi)),
        PerRow(weight_of(lo.c, now.lo), weight_of(hi.c, now.hi)),
        PerRow(weight_of(lo.d, now.lo), weight_of(hi.d, now.hi)),
    );
    (*state).largest = now;
    (*state).share.lo = (*state).share.lo * kept.lo + shares.a.lo + shares.b.lo + shares.c.lo + shares.d.lo;
    (*state).share.hi = (*state).share.hi * kept.hi + shares.a.hi + shares.b.hi + shares.c.hi + shares.d.hi;
    (*state).values = rescaled((*state).values, kept);
    return shares;
}

// Adds a chunk of the value of one of lane j's keys.
fn add_value(sums: ptr<function, Chunks>, v: Eight, share: PerRow, j: u32) {
    let lo = subgroupShuffle(share.lo, j);
    let hi = subgroupShuffle(share.hi, j);
    (*sums).a = add_eight((*sums).a, v, lo.x);
    (*sums).b = add_eight((*sums).b, v, lo.y);
    (*sums).c = add_eight((*sums).c, v, lo.z);
    (*sums).d = add_eight((*sums).d, v, lo.w);
    (*sums).e = add_eight((*sums).e, v, hi.x);
    (*sums).f = add_eight((*sums).f, v, hi.y);
    (*sums).g = add_eight((*sums).g, v, hi.z);
    (*sums).h = add_eight((*sums).h, v, hi.w);
}

fn add_lane(sums: ptr<function, Chunks>, places: vec4<u32>, chunk: u32, shares: Shares, j: u32) {
    let at = subgroupShuffle(places, j) + chunk;
    add_value(sums, kv_at(at.x), shares.a, j);
    add_value(sums, kv_at(at.y), shares.b, j);
    add_value(sums, kv_at(at.z), shares.c, j);
    add_value(sums, kv_at(at.w), shares.d, j);
}

fn with_values(before: Chunks, places: vec4<u32>, chunk: u32, shares: Shares) -> Chunks {
    var sums = before;
    add_lane(&sums, places, chunk, shares, 0u);
    add_lane(&sums, places, chunk, shares, 1u);
    add_lane(&sums, places, chunk, shares, 2u);
    add_lane(&sums, places, chunk, shares, 3u);
    add_lane(&sums, places, chunk, shares, 4u);
    add_lane(&sums, places, chunk, shares, 5u);
    add_lane(&sums, places, chunk, shares, 6u);
    add_lane(&sums, places, chunk, shares, 7u);
    return sums;
}

fn totals_of(share: vec4<f32>, lane: u32) -> vec4<f32> {
    return vec4(total_share(share.x, lane), total_share(share.y, lane), total_share(share.z, lane), total_share(share.w, lane));
}

fn factors_of(total: vec4<f32>) -> vec4<f32> {
    return vec4(factor_of(total.x), factor_of(total.y), factor_of(total.z), factor_of(total.w));
}

fn put(state: State, first_row: u32, split: u32, lane: u32, alive: bool) {
    let total = PerRow(totals_of(state.share.lo, lane), totals_of(state.share.hi, lane));
    put_softmax(first_row + 0u, split, lane, at_row(alive, 0u), state.largest.lo.x, total.lo.x);
    put_softmax(first_row + 1u, split, lane, at_row(alive, 1u), state.largest.lo.y, total.lo.y);
    put_softmax(first_row + 2u, split, lane, at_row(alive, 2u), state.largest.lo.z, total.lo.z);
    put_softmax(first_row + 3u, split, lane, at_row(alive, 3u), state.largest.lo.w, total.lo.w);
    put_softmax(first_row + 4u, split, lane, at_row(alive, 4u), state.largest.hi.x, total.hi.x);
    put_softmax(first_row + 5u, split, lane, at_row(alive, 5u), state.largest.hi.y, total.hi.y);
    put_softmax(first_row + 6u, split, lane, at_row(alive, 6u), state.largest.hi.z, total.hi.z);
    put_softmax(first_row + 7u, split, lane, at_row(alive, 7u), state.largest.hi.w, total.hi.w);
    let factors = PerRow(factors_of(total.lo), factors_of(total.hi));
    put_values(rescaled(state.values, factors), first_row, split, lane, alive);
}

fn put_chunks(v: Chunks, first_row: u32, split: u32, c: u32, alive: bool) {
    put_chunk(first_row + 0u, split, c, at_row(alive, 0u), v.a);
    put_chunk(first_row + 1u, split, c, at_row(alive, 1u), v.b);
    put_chunk(first_row + 2u, split, c, at_row(alive, 2u), v.c);
    put_chunk(first_row + 3u, split, c, at_row(alive, 3u), v.d);
    put_chunk(first_row + 4u, split, c, at_row(alive, 4u), v.e);
    put_chunk(first_row + 5u, split, c, at_row(alive, 5u), v.f);
    put_chunk(first_row + 6u, split, c, at_row(alive, 6u), v.g);
    put_chunk(first_row + 7u, split, c, at_row(alive, 7u), v.h);
}

fn at_row(alive: bool, m: u32) -> bool {
    return subgroupShuffle(u32(alive), m) != 0u;
}
