alias PerRow = f32;

alias Chunks = Eight;

// Running softmax of one row; each lane holds its own part of the sum of weights.
struct State {
    largest: PerRow,
    share: PerRow,
    values: Held,
}

fn new_state() -> State {
    return State(LOWEST, 0.0, Held());
}

fn of_every_row(v: u32) -> u32 {
    return v;
}

// The weights of a lane's four keys.
alias Shares = vec4<f32>;

fn weigh(state: ptr<function, State>, sums: Sums, positions: vec4<u32>, seen: vec4<bool>, length: u32) -> Shares {
    let counts = seen & positions < vec4(length);
    let scores = params.scale * vec4(total(sums.a, 0u), total(sums.b, 0u), total(sums.c, 0u), total(sums.d, 0u));
    let shown = select(vec4(LOWEST), scores, counts);
    let before = (*state).largest;
    let largest = max(before, largest_of_lanes(vec4(max(max(shown.x, shown.y), max(shown.z, shown.w)))).x);
    let kept = exp(before - largest);
    let shares = select(vec4<f32>(), exp(shown - largest), counts);
    (*state).largest = largest;
    (*state).share = (*state).share * kept + dot(shares, vec4(1.0));
    (*state).values = rescaled((*state).values, kept);
    return shares;
}

fn rescaled_chunks(v: Chunks, kept: PerRow) -> Chunks {
    return scaled_eight(v, kept);
}

// Adds a chunk of the values of lane j's keys.
fn with_lane(sum: Chunks, places: vec4<u32>, chunk: u32, shares: Shares, j: u32) -> Chunks {
    let at = subgroupShuffle(places, j) + chunk;
    let share = subgroupShuffle(shares, j);
    let a = add_eight(sum, kv_at(at.x), share.x);
    let b = add_eight(a, kv_at(at.y), share.y);
    let c = add_eight(b, kv_at(at.z), share.z);
    return add_eight(c, kv_at(at.w), share.w);
}

fn with_values(sum: Chunks, places: vec4<u32>, chunk: u32, shares: Shares) -> Chunks {
    let a = with_lane(with_lane(sum, places, chunk, shares, 0u), places, chunk, shares, 1u);
    let b = with_lane(with_lane(a, places, chunk, shares, 2u), places, chunk, shares, 3u);
    let c = with_lane(with_lane(b, places, chunk, shares, 4u), places, chunk, shares, 5u);
    return with_lane(with_lane(c, places, chunk, shares, 6u), places, chunk, shares, 7u);
}

fn put(state: State, first_row: u32, split: u32, lane: u32, alive: bool) {
    let total = total_share(state.share, lane);
    put_softmax(first_row, split, lane, alive, state.largest, total);
    put_values(rescaled(state.values, factor_of(total)), first_row, split, lane, alive);
}

fn put_chunks(v: Chunks, first_row: u32, split: u32, c: u32, alive: bool) {
    put_chunk(first_row, split, c, alive, v);
}
