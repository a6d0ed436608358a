override WG: u32;

// One workgroup per row. Tokens whose embedding lies in another part of a split matrix are left to that part's launch.
@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let row = group.x;
    let entry = rows[row].token - params.first;
    if (rows[row].live == 0u || rows[row].token < params.first || entry >= params.count) {
        return;
    }
    for (var c = lane; c < params.chunks; c += WG) {
        let v = weight(entry, c);
        let place = 2u * (row * params.chunks + c);
        y[place] = real(8u * c, v.lo * params.scale);
        y[place + 1u] = real(8u * c + 4u, v.hi * params.scale);
    }
}

// Zeros in the padding of y: a block of q4_1 with a minimum cannot represent 0, so the padding of W is not 0 there.
fn real(column: u32, v: vec4<f32>) -> vec4<f32> {
    return select(vec4<f32>(), v, vec4(column) + vec4(0u, 1u, 2u, 3u) < vec4(params.n));
}
