// Drops the rows after a position.
fn drop_behind(position: u32) {
    for (var i = 0u; i < table_rows(); i += 1u) {
        if (rows[i].live != 0u && rows[i].position > position) {
            rows[i].live = 0u;
            rows[i].exited = 0u;
        }
    }
}

// Walks along the rows in the pipeline, from the oldest on. The row after each must have started from the token now chosen after it: if it is missing, it is
// started; if it started from another token, it is started again, and all rows after it are dropped. The oldest row leaves once it has exited the loop: the
// token chosen after it is final. A row that exits before earlier rows stays inactive until they have exited. Position p has index (p - origin) mod rows.
@compute @workgroup_size(1)
fn main() {
    var count = 0u;
    var position = front[0].oldest;
    for (var i = 0u; i < table_rows(); i += 1u) {
        let place = (position - front[0].origin) % params.rows;
        let row = rows[place];
        if (row.live == 0u || row.position != position) {
            break;
        }
        let token = chosen[place];
        if (row.exited != 0u && position == front[0].oldest) {
            count += 1u;
            emitted[count] = token;
            emitted[params.rows + count] = place;
            rows[place].live = 0u;
            rows[place].exited = 0u;
            front[0].oldest += 1u;
        }
        position += 1u;
        let after = (position - front[0].origin) % params.rows;
        let behind = rows[after];
        if (behind.live != 0u && behind.position == position && behind.token == token) {
            continue;
        }
        drop_behind(position - 1u);
        if (position < params.context && rows[after].live == 0u) {
            history[row.sequence * params.context + position] = token;
            rows[after] = Row(row.sequence, position, 0u, token, 1u, after, 1u, 0u);
        }
        break;
    }
    emitted[0] = count;
    for (var i = 0u; i < table_rows(); i += 1u) {
        if (rows[i].exited != 0u) {
            rows[i].live = 0u;
        }
    }
}
