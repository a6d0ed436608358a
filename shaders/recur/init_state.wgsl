override WG: u32;

struct Params {
    rows: u32,
    n: u32,
    quads: u32,
}

// Inverse error function by Giles' single-precision approximation.
fn erfinv(x: f32) -> f32 {
    var w = -log((1.0 - x) * (1.0 + x));
    var p: f32;
    if (w < 5.0) {
        w -= 2.5;
        p = 2.81022636e-08;
        p = 3.43273939e-07 + p * w;
        p = -3.5233877e-06 + p * w;
        p = -4.39150654e-06 + p * w;
        p = 0.00021858087 + p * w;
        p = -0.00125372503 + p * w;
        p = -0.00417768164 + p * w;
        p = 0.246640727 + p * w;
        p = 1.50140941 + p * w;
    } else {
        w = sqrt(w) - 3.0;
        p = -0.000200214257;
        p = 0.000100950558 + p * w;
        p = 0.00134934322 + p * w;
        p = -0.00367342844 + p * w;
        p = 0.00573950773 + p * w;
        p = -0.0076224613 + p * w;
        p = 0.00943887047 + p * w;
        p = 1.00167406 + p * w;
        p = 2.83297682 + p * w;
    }
    return p * x;
}

// A standard normal cut at ±3: the inverse of its distribution function at a uniform number.
fn truncated_normal(bits: u32) -> f32 {
    return 1.41421356 * erfinv(0.9973002 * (2.0 * unit(bits) - 1.0));
}

// One workgroup per row, two values per random block. The counter is (position, pair), the key the sequence's seed, so a state
// depends on nothing else: not on the batch, the chunking of a prompt, or the device. A row that is under way keeps the state that it has.
@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let row = rows[group.x];
    if (row.live == 0u || row.draw == 0u || row.step > 0u) {
        return;
    }
    let sequence = sequences[row.sequence];
    for (var pair = lane; pair < 2u * params.quads; pair += WG) {
        let bits = threefry(sequence.seed, vec2(row.position, pair));
        var v = vec2(truncated_normal(bits.x), truncated_normal(bits.y)) * sequence.state_std;
        v = select(vec2<f32>(), v, vec2(2u * pair, 2u * pair + 1u) < vec2(params.n));
        state[group.x * 2u * params.quads + pair] = v;
    }
}
