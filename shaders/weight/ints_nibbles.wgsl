// Numbers of a unit as bytes, four per word: of every eight, those at even positions, then those at odd ones. Twice four words are a block.
const FOURS: u32 = 2u;
const OFFSETS: bool = true;

fn ints_of(unit: Unit, i: u32) -> vec4<u32> {
    let q = select(unit.q.xy, unit.q.zw, i == 1u);
    return vec4(q.x, q.x >> 4u, q.y, q.y >> 4u) & vec4(0x0f0f0f0fu);
}
