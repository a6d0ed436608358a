// Lookup in the KV cache. `tables` holds three arrays: the slot that each step writes; the number of filled slots for each number of stored steps; and a page
// number per (sequence, slot, page of positions).

// Whether a row sees the last step of every earlier position: with LOOKUP_ALWAYS_LAST, if one of the first `length` positions lacks the row's own step.
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

// Slot in which a row at `step` finds a position's keys, if the position has stored `stored` steps. Slot 0 belongs to the layers outside the recurrence.
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

// Page of a position, counted within the bound segment; NONE if there is no page or it lies in another segment.
fn page_of(sequence: u32, slot: u32, position: u32) -> u32 {
    if (slot == NONE) {
        return NONE;
    }
    let place = (sequence * params.slots + slot) * params.pages_per_slot + position / PAGE;
    let page = tables[2u * params.steps + 1u + place] - params.page_base;
    return select(NONE, page, page < params.page_count);
}

// First chunk of eight of one head's key (which = 0) or value (which = 1) at a position.
fn kv_chunk(page: u32, which: u32, head: u32, position: u32) -> u32 {
    return (((page * 2u + which) * params.kv_heads + head) * PAGE + position % PAGE) * params.chunks;
}
