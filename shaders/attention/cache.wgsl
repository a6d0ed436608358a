// Where the KV cache keeps things. `tables` holds, one behind the other: the slot that each step writes; for each number of
// stored steps how many slots are filled; and a page number per (sequence, slot, page of positions).
const PAGE: u32 = 32u;
const LOOKUP_FULL: u32 = 0u;
const LOOKUP_LATEST: u32 = 1u;
const LOOKUP_ALWAYS_LAST: u32 = 2u;

// The slot that holds a position's keys as a row at `step` sees them, if the position has stored `depth` steps. Slot 0 belongs
// to the layers outside the recurrence.
fn slot_seen(step: u32, depth: u32) -> u32 {
    if (params.recurrent == 0u) {
        return 0u;
    }
    let slot = tables[min(step, params.steps - 1u)];
    let filled = tables[params.steps + min(depth, params.steps)];
    let missing = slot >= filled;
    if (params.lookup == LOOKUP_ALWAYS_LAST || (missing && params.lookup == LOOKUP_LATEST)) {
        return select(1u + tables[min(max(depth, 1u), params.steps) - 1u], NONE, depth == 0u);
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
