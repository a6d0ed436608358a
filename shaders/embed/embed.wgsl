override WG: u32;

// One workgroup per row. Tokens whose embedding lies in another part of a split matrix are left to that part's launch.
@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let row = group.x;
    let entry = rows[row].token - params.first;
    if (rows[row].live == 0u || rows[row].token < params.first || entry >= params.count) {
        return;
    }
    for (var c = lane; c < params.chunks; c += WG) {
        let v = weight(entry, c);
        let place = 2u * (row * params.chunks + c);
        y[place] = v.lo * params.scale;
        y[place + 1u] = v.hi * params.scale;
    }
}
