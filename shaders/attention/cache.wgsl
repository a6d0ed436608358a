// Where the KV cache keeps things. `tables` holds, one behind the other: the slot that each step writes; for each number of
// stored steps how many slots are filled; and a page number per (sequence, slot, page of positions).

// Whether a row sees the last step of every position before it: that is so if it is asked for, and one of the first `length` positions lacks the row's own
// step.
fn sees_last(sequence: u32, step: u32, length: u32) -> bool {
    if (params.recurrent == 0u || params.lookup != LOOKUP_ALWAYS_LAST) {
        return false;
    }
    let slot = tables[min(step, params.steps - 1u)];
    for (var position = 0u; position < length; position += 1u) {
        if (slot >= tables[params.steps + min(depth[sequence * params.context + position], params.steps)]) {
            return true;
        }
    }
    return false;
}

// The slot that holds a position's keys as a row at `step` sees them, if the position has stored `stored` steps. Slot 0 belongs
// to the layers outside the recurrence.
fn slot_seen(step: u32, stored: u32, last: bool) -> u32 {
    if (params.recurrent == 0u) {
        return 0u;
    }
    let slot = tables[min(step, params.steps - 1u)];
    let filled = tables[params.steps + min(stored, params.steps)];
    let missing = slot >= filled;
    if (last || (missing && params.lookup == LOOKUP_LATEST)) {
        return select(1u + tables[min(max(stored, 1u), params.steps) - 1u], NONE, stored == 0u);
    }
    return select(1u + slot, NONE, missing);
}

// The page, counted within the bound segment, or NONE if it lies in another segment or there is none.
fn page_of(sequence: u32, slot: u32, position: u32) -> u32 {
    if (slot == NONE) {
        return NONE;
    }
    let place = (sequence * params.slots + slot) * params.pages_per_slot + position / PAGE;
    let page = tables[2u * params.steps + 1u + place] - params.page_base;
    return select(NONE, page, page < params.page_count);
}

// The first chunk of eight of one head's key (which = 0) or value (1) at a position.
fn kv_chunk(page: u32, which: u32, head: u32, position: u32) -> u32 {
    return (((page * 2u + which) * params.kv_heads + head) * PAGE + position % PAGE) * params.chunks;
}
