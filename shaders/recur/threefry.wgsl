// Threefry-2x32, 20 rounds: the 64 random bits that belong to a key and a counter.
fn threefry(key: vec2<u32>, counter: vec2<u32>) -> vec2<u32> {
    var keys = array<u32, 3>(key.x, key.y, PARITY ^ key.x ^ key.y);
    var rotations = array<vec4<u32>, 2>(vec4(13u, 15u, 26u, 6u), vec4(17u, 29u, 16u, 24u));
    var x = counter + key;
    for (var group = 0u; group < 5u; group += 1u) {
        let by = rotations[group % 2u];
        for (var round = 0u; round < 4u; round += 1u) {
            x.x += x.y;
            x.y = ((x.y << by[round]) | (x.y >> (32u - by[round]))) ^ x.x;
        }
        x.x += keys[(group + 1u) % 3u];
        x.y += keys[(group + 2u) % 3u] + group + 1u;
    }
    return x;
}

// A number in (0, 1), exactly representable: the middle of one of 2^23 intervals.
fn unit(bits: u32) -> f32 {
    return (f32(bits >> 9u) + 0.5) / 8388608.0;
}
