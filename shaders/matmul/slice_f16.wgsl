// Products within a slice are summed in f16, slices in f32. Only for small tiles.
alias Number = f16;

fn add_slice(sums: ptr<function, array<vec4<f32>, SUMS>>, ty: u32, tx: u32, left: u32) {
    var part: array<vec4<f16>, 4>;
    for (var k = 0u; k < DEPTH; k += 1u) {
        let x = xs[(k * TILE + ty) / 4u];
        let w = ws[(k * TILE + tx) / 4u];
        part[0] = fma(vec4(x.x), w, part[0]);
        part[1] = fma(vec4(x.y), w, part[1]);
        part[2] = fma(vec4(x.z), w, part[2]);
        part[3] = fma(vec4(x.w), w, part[3]);
    }
    for (var i = 0u; i < 4u; i += 1u) {
        (*sums)[i] += vec4<f32>(part[i]);
    }
}
