// The offset of a block is its minimum.
fn factors_of(unit: Unit) -> vec2<f32> {
    return vec2(unit.scale.x * 0.0625, unit.scale.x + unit.scale.y);
}
