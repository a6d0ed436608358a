// Adds the row of a drafted token to the rows that are verified together. The table begins with the row of the last known token.
@compute @workgroup_size(1)
fn main() {
    let row = next[0];
    let place = row.position - table[0].position;
    if (place >= params.rows) {
        return;
    }
    table[place] = Row(row.sequence, row.position, 0u, row.token, row.live, place, 1u, 0u);
}
