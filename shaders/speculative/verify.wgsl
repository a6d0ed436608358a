// Whether a draft passes for the token that was chosen in its place: the same token, or one that is nearly as likely.
fn passes(output: u32, draft: u32, token: u32) -> bool {
    if (draft == token) {
        return true;
    }
    let drafted = scores[output * params.stride + draft];
    let best = scores[output * params.stride + token];
    let ratio = select(exp(drafted - best), drafted / best, params.sampled != 0u);
    return ratio >= params.threshold;
}

// Goes along the rows as long as the next one's token passes for what was chosen behind this one; the first choice that has no such row is the last token of
// the round, and the first row of the next one.
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
