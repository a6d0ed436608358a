override WG: u32;

// Whether a row of the same sequence in front of this one is still in the loop.
fn waits(row: Row) -> bool {
    for (var i = 0u; i < table_rows(); i += 1u) {
        if (rows[i].live != 0u && rows[i].sequence == row.sequence && rows[i].position < row.position) {
            return true;
        }
    }
    return false;
}

// Behind the loop, rows that have left it take their turn once all in front of them have, and those that have not wait for the next round. One workgroup, which
// has looked at all rows before it changes one.
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
