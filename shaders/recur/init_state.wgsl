override WG: u32;

// One workgroup per row, two values per random block. The counter is (position, pair) and the key is the sequence's seed, so a state depends on nothing else:
// not on the batch, the chunking of a prompt, or the device. A row past step 0 keeps its state.
@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let row = rows[group.x];
    if (row.live == 0u || row.draw == 0u || row.step > 0u) {
        return;
    }
    let sequence = sequences[row.sequence];
    for (var pair = lane; pair < 2u * params.quads; pair += WG) {
        let bits = threefry(sequence.state_seed, vec2(row.position, pair));
        var v = vec2(normal_within(WITHIN, bits.x), normal_within(WITHIN, bits.y)) * sequence.state_std;
        v = select(vec2<f32>(), v, vec2(2u * pair, 2u * pair + 1u) < vec2(params.n));
        state[group.x * 2u * params.quads + pair] = v;
    }
}
