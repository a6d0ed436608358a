// The softmax of one row, as far as it has come; a lane knows its own part of the sum of weights.
struct State {
    largest: f32,
    share: f32,
    low: Eight,
    high: Eight,
}

fn new_state() -> State {
    return State(LOWEST, 0.0, Eight(), Eight());
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
    let largest = max(before, subgroupMax(max(max(shown.x, shown.y), max(shown.z, shown.w))));
    let kept = exp(before - largest);
    let shares = select(vec4<f32>(), exp(shown - largest), counts);
    (*state).largest = largest;
    (*state).share = (*state).share * kept + dot(shares, vec4(1.0));
    (*state).low = scaled_eight((*state).low, kept);
    (*state).high = scaled_eight((*state).high, kept);
    return shares;
}

// The values of lane j's keys, a chunk of each.
fn added(sum: Eight, places: vec4<u32>, chunk: u32, shares: Shares, j: u32) -> Eight {
    let at = subgroupShuffle(places, j) + chunk;
    let share = subgroupShuffle(shares, j);
    let a = add_eight(sum, kv_at(at.x), share.x);
    let b = add_eight(a, kv_at(at.y), share.y);
    let c = add_eight(b, kv_at(at.z), share.z);
    return add_eight(c, kv_at(at.w), share.w);
}

fn added_all(sum: Eight, places: vec4<u32>, chunk: u32, shares: Shares) -> Eight {
    let a = added(added(sum, places, chunk, shares, 0u), places, chunk, shares, 1u);
    let b = added(added(a, places, chunk, shares, 2u), places, chunk, shares, 3u);
    let c = added(added(b, places, chunk, shares, 4u), places, chunk, shares, 5u);
    return added(added(c, places, chunk, shares, 6u), places, chunk, shares, 7u);
}

fn add_low(state: ptr<function, State>, places: vec4<u32>, chunk: u32, shares: Shares) {
    (*state).low = added_all((*state).low, places, chunk, shares);
}

fn add_high(state: ptr<function, State>, places: vec4<u32>, chunk: u32, shares: Shares) {
    (*state).high = added_all((*state).high, places, chunk, shares);
}

fn put(state: State, first_row: u32, last_row: u32, split: u32, lane: u32) {
    put_row(first_row, last_row, split, lane, state.largest, state.share, state.low, state.high);
}
