// Numbers of a unit, half a block, as signed bytes, four per word.
const FOURS: u32 = 1u;
const OFFSETS: bool = false;

fn ints_of(unit: Unit, i: u32) -> vec4<u32> {
    return unit.q ^ vec4(0x80808080u);
}

fn factors_of(unit: Unit) -> vec2<f32> {
    return vec2(unit.scale.x * 0.00390625, 0.0);
}
