override WG: u32;

// Rows that waited become active again. A row that was read out becomes the row of its chosen token, at the same index, and starts from the state stored there
// if its sequence is continuous; if the sequence parks, it is inactive until the host wakes it. A row inside a prompt, which is not read out, becomes inactive;
// its steps are stored.
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
