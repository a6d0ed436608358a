override WG: u32;

@compute @workgroup_size(WG)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if (id.x < params.rows && rows[id.x].live != 0u) {
        rows[id.x].step += 1u;
    }
}
