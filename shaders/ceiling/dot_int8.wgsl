override WG: u32;

// Multiplies the four bytes of every sum by the four of the factor. Each step needs the previous one, so the compiler can neither skip nor precompute a
// product.
fn step(sums: vec4<i32>) -> vec4<i32> {
    let bytes = bitcast<vec4<u32>>(sums);
    let products = vec4(
        dot4I8Packed(bytes.x, params.factor),
        dot4I8Packed(bytes.y, params.factor),
        dot4I8Packed(bytes.z, params.factor),
        dot4I8Packed(bytes.w, params.factor),
    );
    return products + i32(params.term);
}

// Twelve independent sums, in registers.
@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    var a = vec4<i32>(0, 1, 2, 3) + i32(lane % 32u);
    var b = a + 4;
    var c = a + 8;
    for (var round = 0u; round < params.rounds; round += 1u) {
        a = step(a);
        b = step(b);
        c = step(c);
        a = step(a);
        b = step(b);
        c = step(c);
        a = step(a);
        b = step(b);
        c = step(c);
        a = step(a);
        b = step(b);
        c = step(c);
    }
    y[group.x * WG + lane] = a + b + c;
}
