// Factors of the outer and the inner norm of a row, from the sums of the squares of t and of t·w, where w are the weights of the outer norm. Without an outer
// norm, its factor is 1 and both sums are equal.
fn norm_factors(squares: vec2<f32>) -> vec2<f32> {
    let n = f32(params.width);
    let outer = select(1.0, inverseSqrt(squares.x / n + params.eps), params.outer != 0u);
    return vec2(outer, inverseSqrt(outer * outer * squares.y / n + params.eps));
}
