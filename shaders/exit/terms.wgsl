// Whether the step that a row is at is checked, by what is read out or by the state.
fn due(terms: Terms, row: Row) -> bool {
    if (terms.criterion == NONE || row.position < terms.first || row.step < terms.min_steps) {
        return false;
    }
    return (row.step - terms.min_steps) % terms.every == 0u;
}

fn reads_out(terms: Terms) -> bool {
    return listed(READS_OUT, terms.criterion);
}

// Whether a row leaves when the value has reached the threshold, instead of when it is below.
fn at_least(terms: Terms) -> bool {
    return listed(AT_LEAST, terms.criterion);
}

// A list of criteria has a bit for each; no criterion at all is in none.
fn listed(list: u32, criterion: u32) -> bool {
    return ((list >> min(criterion, 31u)) & 1u) != 0u;
}
