override WG: u32;

// Rows that exited the recurrence early become active again for the layers after it.
@compute @workgroup_size(WG)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if (id.x < params.rows && rows[id.x].exited != 0u) {
        rows[id.x].live = 1u;
    }
}
