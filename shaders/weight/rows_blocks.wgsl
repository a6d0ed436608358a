// Products of raw numbers with x, and the sum of x, give the products of a block's weights.
fn weigh(sum: f32, unit: Unit, w: Eight, v: Eight, all: f32) -> f32 {
    return fma(with_eight(0.0, w, v), unit.scale.x, fma(all, unit.scale.y, sum));
}
