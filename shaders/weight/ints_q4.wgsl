// Numbers are stored plus 8.
fn factors_of(unit: Unit) -> vec2<f32> {
    let factor = unit.scale.x * 0.0625;
    return vec2(factor, -8.0 * factor);
}
