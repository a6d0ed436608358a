// Factor for the sums: that of both norms of row m of the fused sums x.
fn factor_in(at: Lane, m: u32) -> f32 {
    let start = (m * params.fused + 16u * params.chunks) / 4u;
    var s = vec2<f32>();
    for (var i = at.index; 2u * i < params.parts; i += lanes_at_work()) {
        let two = x[start + i];
        s += two.xy + select(vec2<f32>(), two.zw, 2u * i + 1u < params.parts);
    }
    let factors = norm_factors(total_over_lanes(at, s));
    return factors.x * factors.y;
}
