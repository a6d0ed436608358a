alias Number = f32;

fn add_slice(sums: ptr<function, array<vec4<f32>, SUMS>>, ty: u32, tx: u32, left: u32) {
    for (var k = 0u; k < rounds(DEPTH, 8u * left); k += 1u) {
        let x0 = xs[(k * TILE + ty) / 4u];
        let w0 = ws[(k * TILE + tx) / 4u];
        add(sums, 0u, x0, w0);
        if (QUADS == 2u) {
            let x1 = xs[(k * TILE + ty) / 4u + 16u];
            let w1 = ws[(k * TILE + tx) / 4u + 16u];
            add(sums, 4u, x0, w1);
            add(sums, 8u, x1, w0);
            add(sums, 12u, x1, w1);
        }
    }
}

// Adds four rows by four outputs.
fn add(sums: ptr<function, array<vec4<f32>, SUMS>>, first: u32, x: vec4<f32>, w: vec4<f32>) {
    (*sums)[first] += x.x * w;
    (*sums)[first + 1u] += x.y * w;
    (*sums)[first + 2u] += x.z * w;
    (*sums)[first + 3u] += x.w * w;
}
