// A product of raw numbers with x, and the sum of x, make the product of a block's weights.
fn weigh(unit: Unit, product: f32, all: f32) -> f32 {
    return fma(product, unit.scale.x, all * unit.scale.y);
}
