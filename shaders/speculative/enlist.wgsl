// Puts the row that a drafted token became behind those that are to be verified with it: the table begins with the row of the last token that is known.
@compute @workgroup_size(1)
fn main() {
    let row = next[0];
    let place = row.position - table[0].position;
    if (place >= params.rows) {
        return;
    }
    table[place] = Row(row.sequence, row.position, 0u, row.token, row.live, place, 1u, 0u);
}
