// Whether the step that a row is at is checked, by what is read out or by the state.
fn due(terms: Terms, row: Row) -> bool {
    if (terms.criterion == NONE || row.position < terms.first || row.step < terms.min_steps) {
        return false;
    }
    return (row.step - terms.min_steps) % terms.every == 0u;
}

fn reads_out(terms: Terms) -> bool {
    return terms.criterion >= ENTROPY_DIFF;
}
