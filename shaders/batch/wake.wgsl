override WG: u32;

// Whether an earlier row of the same sequence is still in the loop.
fn waits(row: Row) -> bool {
    for (var i = 0u; i < table_rows(); i += 1u) {
        if (rows[i].live != 0u && rows[i].sequence == row.sequence && rows[i].position < row.position) {
            return true;
        }
    }
    return false;
}

// After the loop, a row that has exited is read out once all earlier rows of its sequence have exited; rows still in the loop wait for the next pass. One
// workgroup, which reads all rows before it changes any.
@compute @workgroup_size(WG)
fn main(@builtin(local_invocation_index) lane: u32) {
    let row = rows[min(lane, params.rows - 1u)];
    var wakes = false;
    if (row.exited == 1u) {
        wakes = !waits(row);
    }
    storageBarrier();
    if (lane >= params.rows) {
        return;
    }
    if (wakes) {
        rows[lane].live = 1u;
    } else if (row.live != 0u) {
        rows[lane].live = 0u;
        rows[lane].exited = WAITS;
    }
}
