// Rows one after another; the factors of a row side by side, padded to whole pairs.
fn put(row: u32, unit: u32, units: u32, v: vec4<u32>) {
    // Float dtypes are not padded to blocks.
    let real = select(params.chunks * UNITS / 4u, units, FACTORS > 0u);
    if (row < params.first + params.count && unit < real) {
        w[row * real + unit] = v;
    }
}

fn put_factors(quad: u32, pair: u32, blocks: u32, factors: array<vec4<u32>, 2>) {
    let pairs = (blocks + 1u) / 2u;
    for (var r = 0u; r < 4u && FACTORS > 0u; r += 1u) {
        let row = 4u * quad + r;
        if (row >= params.first + params.count) {
            return;
        }
        let place = row * pairs + pair;
        if (FACTORS == 1u) {
            w[params.scales + place / 4u][place % 4u] = factors[0][r] | (factors[1][r] << 16u);
        } else {
            w[params.scales + place / 2u][place % 2u * 2u] = factors[0][r];
            w[params.scales + place / 2u][place % 2u * 2u + 1u] = factors[1][r];
        }
    }
}
