// Placeholder for a token at the end of the wavefront, before one has been chosen.
fn placeholder(position: u32, round: u32, i: u32) -> u32 {
    if (params.given != 0u) {
        return given[(round * (params.headway - 1u) + i) % params.given];
    }
    let seed = sequences[wavefront[0].sequence].seed;
    return threefry(vec2(seed.x, seed.y ^ STREAM), vec2(position, round)).x % params.vocab;
}

// Whether a row meets the rule. `most_steps` ends the iteration under any rule.
fn frozen(row: u32) -> bool {
    if (marks[row].steps >= params.most_steps) {
        return true;
    }
    if (params.rule == TOKEN_STABILITY) {
        return marks[row].stable > params.rounds;
    }
    let value = marks[row].value;
    return params.rule != FIXED && value >= 0.0 && value < params.threshold;
}

// Number of rows before the first that does not meet the rule; with `authors`, up to the last that does.
fn frozen_rows(length: u32) -> u32 {
    var count = 0u;
    for (var i = 0u; i < length; i += 1u) {
        if (frozen(i)) {
            count = i + 1u;
        } else if (params.authors == 0u) {
            break;
        }
    }
    return count;
}

// Ends a round: every row whose token is not frozen gets the token chosen after the row before it, new rows are appended, the tokens of rows that meet the rule
// are frozen, and the rows before the last of these are dropped.
@compute @workgroup_size(1)
fn main() {
    let w = wavefront[0];
    emitted[0] = 0u;
    if (w.length == 0u) {
        return;
    }
    let sequence = rows[0].sequence;
    let stands = w.known - w.first;
    for (var i = 0u; i < w.length; i += 1u) {
        marks[i].steps += params.steps;
        var same = true;
        if (i >= stands) {
            same = rows[i].token == chosen[i - 1u];
            rows[i].token = chosen[i - 1u];
        }
        marks[i].stable += select(0u, 1u, same);
    }
    var end = w.length;
    for (var i = 0u; i < params.headway && end < params.capacity && w.first + end < params.context; i += 1u) {
        var token = chosen[w.length - 1u];
        if (i > 0u) {
            token = placeholder(w.first + end, w.round, i - 1u);
        }
        rows[end] = Row(sequence, w.first + end, 0u, token, 1u, end, 1u, 0u);
        marks[end] = Mark(0u, 0u, UNJUDGED, 0u);
        end += 1u;
    }
    for (var i = stands; i < end; i += 1u) {
        history[sequence * params.context + w.first + i] = rows[i].token;
    }

    var first = w.first;
    var known = w.known;
    let frozen_end = frozen_rows(w.length);
    if (frozen_end > 0u) {
        first += frozen_end - 1u;
        known = max(known, w.first + frozen_end);
    }
    if (params.rule == FIXED && w.round > params.rounds) {
        known = max(known, min(w.known + params.headway, w.first + end));
        first = max(first, w.first + known - w.known);
    }
    for (var position = w.known; position < known; position += 1u) {
        let row = position - w.first;
        let count = position - w.known + 1u;
        emitted[0] = count;
        emitted[count] = rows[row].token;
        emitted[params.capacity + count] = row - 1u;
        emitted[2u * params.capacity + count] = marks[row - 1u].steps;
    }

    let slip = first - w.first;
    let carries = params.carries != 0u && w.length >= params.headway;
    for (var i = slip; i < end; i += 1u) {
        var row = rows[i];
        row.step = 0u;
        row.output = i - slip;
        row.draw = select(0u, 1u, i >= w.length && !carries);
        rows[i - slip] = row;
        marks[i - slip] = marks[i];
    }
    for (var i = end - slip; i < end; i += 1u) {
        rows[i].live = 0u;
    }
    let kept = max(w.length, slip) - slip;
    let length = end - slip;
    let changes = select(kept, max(w.length, w.slip) - w.slip, params.authors != 0u);
    wavefront[0] = Wavefront(first, length, known, select(kept, length, carries), kept, slip, w.slip, w.length, changes, w.round + 1u, w.sequence, 0u);
    emitted[3u * params.capacity + 1u] = first;
    emitted[3u * params.capacity + 2u] = length;
}
