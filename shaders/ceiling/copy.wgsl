override WG: u32;

// Each lane copies one unit, without a branch.
@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let i = (group.y * params.groups_x + group.x) * WG + lane;
    y[i] = x[i];
}
