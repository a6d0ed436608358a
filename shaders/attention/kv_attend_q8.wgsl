// Keys and values in q8. Stored numbers are 128 too large, which is subtracted from sums rather than from each number. Factors are stored 4096 times too large.

// Factors of the blocks of each key's value.
var<workgroup> value_factors: array<vec4<f32>, SPAN * WG + SPARE>;

// Sums of the blocks of the queries, times -128.
var<workgroup> query_sums: array<PerHead, MAX_CHUNKS / 4u>;

// Numbers as stored.
fn four_stored(p: u32) -> vec4<f32> {
    return vec4<f32>(vec4(p, p >> 8u, p >> 16u, p >> 24u) & vec4(255u));
}

fn stored(p: vec2<u32>) -> Eight {
    return Eight(four_stored(p.x), four_stored(p.y));
}

fn prepare_scores(at: Lane) {
    if (at.index < params.chunks / 4u) {
        let minus = Eight(vec4(-128.0), vec4(-128.0));
        var sums = nothing();
        for (var c = 4u * at.index; c < 4u * at.index + 4u; c += 1u) {
            sums = with_chunk(sums, line_of(c), minus);
        }
        query_sums[at.index] = sums;
    }
    workgroupBarrier();
}

// Products of the queries with a key. Also keeps the factors of the value's blocks, which share words with those of the key.
fn products(page: u32, kv_head: u32, position: u32, i: u32) -> PerHead {
    let start = key_unit(page, kv_head, position, 0u);
    let factors = factor_word(page, kv_head, position, 0u);
    var sums = nothing();
    var b = 0u;
    loop {
        let factor = unpack2x16float(factor_at(factors + b * PAGE)) * 0.000244140625;
        let first = unit_at(start + 2u * b * PAGE);
        let second = unit_at(start + (2u * b + 1u) * PAGE);
        var block = query_sums[b];
        let line = line_of(4u * b);
        block = with_chunk(block, line, stored(first.xy));
        block = with_chunk(block, line + CHUNK_LINE, stored(first.zw));
        block = with_chunk(block, line + 2u * CHUNK_LINE, stored(second.xy));
        block = with_chunk(block, line + 3u * CHUNK_LINE, stored(second.zw));
        sums = sum_of(sums, scaled_by(block, factor.x));
        value_factors[i][b] = factor.y;
        continuing {
            b += 1u;
            break if b >= params.chunks / 4u;
        }
    }
    return sums;
}

// Start of a value, in units of 16 bytes.
fn value_place(page: u32, kv_head: u32, position: u32) -> u32 {
    return value_unit(page, kv_head, position, 0u);
}

// Chunk c of the value at a place, as stored numbers; `value_quad` is one of its halves.
fn value_chunk(place: u32, c: u32) -> Eight {
    return stored(vec2(word_at(place, 2u * c), word_at(place, 2u * c + 1u)));
}

fn value_quad(place: u32, quad: u32) -> vec4<f32> {
    return four_stored(word_at(place, quad));
}

fn value_factor(i: u32, block: u32) -> f32 {
    return value_factors[i][block];
}

fn clear_factors(i: u32) {
    value_factors[i] = vec4<f32>();
}

// Excess of a sum of values from stored numbers, given the sum of their weights times their factors.
fn center_of(factor_sum: f32) -> f32 {
    return 128.0 * factor_sum;
}
