// Start of a part. `combine` joins several: each has the largest score, the sum of the weights, and the sums of the values.
fn part_of(row: u32, split: u32) -> u32 {
    return ((row * params.heads + head) * params.parts + params.first_part + split) * (4u * params.chunks + 1u);
}

// Stores the largest score and the sum of the weights of a row.
fn put_softmax(row: u32, split: u32, lane: u32, alive: bool, largest: f32, total: f32) {
    if (alive && lane == 0u) {
        partial_sums[part_of(row, split)] = vec2(largest, total);
    }
}

// put_chunk and put_quad store a chunk or a quad of the sums of values.
fn put_chunk(row: u32, split: u32, c: u32, alive: bool, v: Eight) {
    if (alive && c < params.chunks) {
        let place = part_of(row, split) + 1u + 4u * c;
        partial_sums[place] = v.lo.xy;
        partial_sums[place + 1u] = v.lo.zw;
        partial_sums[place + 2u] = v.hi.xy;
        partial_sums[place + 3u] = v.hi.zw;
    }
}

fn put_quad(row: u32, split: u32, quad: u32, alive: bool, v: vec4<f32>) {
    if (alive && quad < 2u * params.chunks) {
        let place = part_of(row, split) + 1u + 2u * quad;
        partial_sums[place] = v.xy;
        partial_sums[place + 1u] = v.zw;
    }
}

// Division by the sum of weights is left to `combine`, which sees all parts.
fn factor_of(total: f32) -> f32 {
    return 1.0;
}
