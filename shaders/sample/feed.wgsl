override WG: u32;

// Makes the chosen token the sequence's next row, in device memory, and notes it in the history. A sequence that has reached
// the end of its context rests. Its state is drawn, or carried on from the token before.
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
