override WG: u32;

struct Params {
    rows: u32,
}

// Behind the loop, rows that have left it take their turn, and those that have not wait for the next round.
@compute @workgroup_size(WG)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if (id.x >= params.rows) {
        return;
    }
    if (rows[id.x].exited == 1u) {
        rows[id.x].live = 1u;
    } else if (rows[id.x].live != 0u) {
        rows[id.x].live = 0u;
        rows[id.x].exited = WAITS;
    }
}
