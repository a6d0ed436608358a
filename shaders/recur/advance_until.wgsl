override WG: u32;

// Moves every active row to its next step. A row that has taken all steps of its sequence exits: later launches of the loop skip it.
@compute @workgroup_size(WG)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if (id.x >= params.rows || rows[id.x].live == 0u) {
        return;
    }
    let step = rows[id.x].step + 1u;
    rows[id.x].step = step;
    if (step >= sequences[rows[id.x].sequence].steps) {
        rows[id.x].live = 0u;
        rows[id.x].exited = 1u;
    }
}
