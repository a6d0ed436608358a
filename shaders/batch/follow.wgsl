override WG: u32;

// Rows that waited go on. Behind a row that was read out, its sequence goes on with what was chosen, in the same place, and if it is continuous from the state
// that is there, or rests until the host wakes it; one that was not read out, of the inside of a prompt, leaves its place; its steps tell.
@compute @workgroup_size(WG)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if (id.x >= params.rows) {
        return;
    }
    results[id.x] = RowResult(NONE, 0u);
    var row = rows[id.x];
    if (row.exited == WAITS) {
        rows[id.x].live = 1u;
        rows[id.x].exited = 0u;
        return;
    }
    if (row.live == 0u) {
        return;
    }
    if (row.output == NONE) {
        rows[id.x].live = 0u;
        rows[id.x].exited = 0u;
        results[id.x].steps = row.step;
        return;
    }
    let token = chosen[id.x];
    results[id.x] = RowResult(token, row.step);
    row.position += 1u;
    if (row.position < params.context) {
        history[row.sequence * params.context + row.position] = token;
    } else {
        row.live = 0u;
    }
    let asked = exit_params[row.sequence];
    if (asked.parks != 0u) {
        row.live = 0u;
    }
    let draw = u32(asked.continuous == NONE);
    rows[id.x] = Row(row.sequence, row.position, 0u, token, row.live, id.x, draw, 0u);
}
