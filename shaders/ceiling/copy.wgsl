override WG: u32;

// A unit per lane, and no branch.
@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let i = (group.y * params.groups_x + group.x) * WG + lane;
    y[i] = x[i];
}
