// Whether the step that a row is at is checked.
fn due(exit_params: ExitParams, row: Row) -> bool {
    if (exit_params.criterion == NONE || row.position < exit_params.first || row.step < exit_params.min_steps) {
        return false;
    }
    return (row.step - exit_params.min_steps) % exit_params.every == 0u;
}

fn reads_out(exit_params: ExitParams) -> bool {
    return listed(READS_OUT, exit_params.criterion);
}

// Whether a row exits when the value has reached the threshold, instead of when it is below.
fn at_least(exit_params: ExitParams) -> bool {
    return listed(AT_LEAST, exit_params.criterion);
}

// A list of criteria has one bit per code; NONE is in no list.
fn listed(list: u32, criterion: u32) -> bool {
    return ((list >> min(criterion, 31u)) & 1u) != 0u;
}
