override WG: u32;

// Moves every active row to its next step. Rows exit if this step's check meets their criterion, or if they have taken all their steps; later launches skip
// them.
@compute @workgroup_size(WG)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if (id.x >= params.rows || rows[id.x].live == 0u) {
        return;
    }
    let row = rows[id.x];
    let asked = exit_params[row.sequence];
    var judged = due(asked, row);
    var value = 0.0;
    if (params.rule == MEAN) {
        var count = 0.0;
        for (var i = 0u; i < table_rows(); i += 1u) {
            if (memo[i].checks > 0u) {
                value += memo[i].value;
                count += 1.0;
            }
        }
        value /= count;
    } else if (params.rule == ALONE) {
        // A criterion on read-outs does not apply to a row that is not read out.
        let place = select(id.x, row.output, reads_out(asked));
        judged = judged && place < params.rows;
        value = memo[min(place, params.rows - 1u)].value;
    } else if (params.rule == NEVER) {
        judged = false;
    } else {
        value = memo[0].value;
    }
    rows[id.x].step = row.step + 1u;
    let settled = select((value < asked.threshold), (value >= asked.threshold), at_least(asked));
    if ((judged && settled) || row.step + 1u >= asked.steps) {
        rows[id.x].live = 0u;
        rows[id.x].exited = 1u;
    }
}
