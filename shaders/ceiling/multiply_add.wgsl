override WG: u32;

// Independent sums, in registers.
struct Sums {
    a: Pair,
    b: Pair,
    c: Pair,
    d: Pair,
    e: Pair,
    f: Pair,
}

fn step(sums: ptr<function, Sums>, factor: Pair, term: Pair) {
    (*sums).a = fma((*sums).a, factor, term);
    (*sums).b = fma((*sums).b, factor, term);
    (*sums).c = fma((*sums).c, factor, term);
    (*sums).d = fma((*sums).d, factor, term);
    (*sums).e = fma((*sums).e, factor, term);
    (*sums).f = fma((*sums).f, factor, term);
}

// With a factor of -1, each sum alternates between two small numbers that every format represents exactly.
@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let factor = pair(vec2(params.factor));
    let term = pair(vec2(params.term));
    let start = 0.25 * f32(lane % 32u) + vec2(0.0, 0.5);
    var sums = Sums();
    sums.a = pair(start);
    sums.b = pair(start + 1.0);
    sums.c = pair(start + 2.0);
    sums.d = pair(start + 3.0);
    sums.e = pair(start + 4.0);
    sums.f = pair(start + 5.0);
    for (var round = 0u; round < params.rounds; round += 1u) {
        step(&sums, factor, term);
        step(&sums, factor, term);
        step(&sums, factor, term);
        step(&sums, factor, term);
        step(&sums, factor, term);
        step(&sums, factor, term);
        step(&sums, factor, term);
    }
    let all = vec2<f32>(sums.a + sums.b + sums.c) + vec2<f32>(sums.d + sums.e + sums.f);
    y[group.x * WG + lane] = all;
}
