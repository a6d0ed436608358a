override WG: u32;

struct Params {
    rows: u32,
    by_output: u32,
    rule: u32,
    at_least: u32,
    threshold: f32,
}

const ALONE: u32 = 0u;
const MEAN: u32 = 1u;

// Moves every active row to its next step. Those that the last check found settled leave: later launches pass them by.
@compute @workgroup_size(WG)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if (id.x >= params.rows || rows[id.x].live == 0u) {
        return;
    }
    var value = 0.0;
    // A row that nobody reads out is not judged by its read-out.
    var judged = true;
    if (params.rule == MEAN) {
        var count = 0.0;
        for (var i = 0u; i < params.rows; i += 1u) {
            if (memo[i].checks > 0u) {
                value += memo[i].value;
                count += 1.0;
            }
        }
        value /= count;
    } else if (params.rule == ALONE) {
        let place = select(id.x, rows[id.x].output, params.by_output != 0u);
        judged = place < params.rows;
        value = memo[min(place, params.rows - 1u)].value;
    } else {
        value = memo[0].value;
    }
    rows[id.x].step += 1u;
    let settled = select((value < params.threshold), (value >= params.threshold), params.at_least != 0u);
    if (judged && settled) {
        rows[id.x].live = 0u;
        rows[id.x].exited = 1u;
    }
}
