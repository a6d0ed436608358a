// The raw weights of a block are summed, and the block's scale is applied once.
fn weigh(v: Eight, scale: vec2<f32>) -> Eight {
    return v;
}

fn open_block(sums: Sums) -> Sums {
    return Sums();
}

fn close_block(sums: ptr<function, Sums>, part: Sums, x: Values, s: Scales) {
    let left = subgroupShuffle(x, 0u) + subgroupShuffle(x, 1u) + subgroupShuffle(x, 2u) + subgroupShuffle(x, 3u);
    let all = left + subgroupShuffle(x, 4u) + subgroupShuffle(x, 5u) + subgroupShuffle(x, 6u) + subgroupShuffle(x, 7u);
    (*sums).a = fma(part.a, vec4(s.a.x), fma(all, vec4(s.a.y), (*sums).a));
    (*sums).b = fma(part.b, vec4(s.b.x), fma(all, vec4(s.b.y), (*sums).b));
    (*sums).c = fma(part.c, vec4(s.c.x), fma(all, vec4(s.c.y), (*sums).c));
    (*sums).d = fma(part.d, vec4(s.d.x), fma(all, vec4(s.d.y), (*sums).d));
}
