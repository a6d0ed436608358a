// Whether a draft is accepted for the token chosen in its place: it is the same token, or nearly as likely.
fn passes(output: u32, draft: u32, token: u32) -> bool {
    if (draft == token) {
        return true;
    }
    let drafted = scores[output * params.stride + draft];
    let best = scores[output * params.stride + token];
    let ratio = select(exp(drafted - best), drafted / best, params.sampled != 0u);
    return ratio >= params.threshold;
}

// Walks along the rows while the next row's token is accepted for the token chosen after this row. The first choice without such a row is the last new token,
// and becomes the first row of the table.
@compute @workgroup_size(1)
fn main() {
    var count = 0u;
    for (var i = 0u; i < table_rows(); i += 1u) {
        var row = rows[i];
        if (row.live == 0u) {
            break;
        }
        var token = chosen[i];
        var agreed = false;
        if (i + 1u < params.rows) {
            let draft = rows[i + 1u];
            agreed = draft.live != 0u && passes(i, draft.token, token);
            token = select(token, draft.token, agreed);
        }
        count += 1u;
        emitted[count] = token;
        emitted[params.rows + count] = i;
        if (agreed) {
            continue;
        }
        row.position += 1u;
        row.token = token;
        if (row.position < params.context) {
            history[row.sequence * params.context + row.position] = token;
        } else {
            row.live = 0u;
        }
        next[0] = Row(row.sequence, row.position, 0u, token, row.live, 0u, 1u, 0u);
        break;
    }
    emitted[0] = count;
    rows[0] = next[0];
    for (var i = 1u; i < table_rows(); i += 1u) {
        rows[i].live = 0u;
        rows[i].exited = 0u;
    }
}
