override WG: u32;

// Turns the chosen token into the sequence's next row, in device memory, and stores it in the history. The row is inactive if the sequence has reached the end
// of its context. Its state is drawn, or carried over from the token before.
@compute @workgroup_size(WG)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if (id.x >= params.outputs) {
        return;
    }
    var row = picked[id.x];
    if (row.live == 0u) {
        next[id.x].live = 0u;
        next[id.x].output = NONE;
        return;
    }
    row.position += 1u;
    row.step = 0u;
    row.token = chosen[id.x];
    row.output = id.x;
    row.draw = 1u - params.carry;
    row.exited = 0u;
    if (row.position < params.context) {
        history[row.sequence * params.context + row.position] = row.token;
    } else {
        row.live = 0u;
    }
    next[id.x] = row;
}
