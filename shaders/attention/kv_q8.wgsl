// Layout of a page of keys and values in q8, blocks of 32. First the keys of every head: 16 bytes of each of the page's positions side by side, then the next
// 16, so that lanes that load one position each read neighboring memory. Then the values, position by position, because neighboring lanes load neighboring
// pairs of a value. Then, block by block, one word per position: the factors of the key's block and of the value's block.
// All places are counted in units of 16 bytes, those of factors in words.

fn page_start(page: u32) -> u32 {
    return page * params.kv_heads * 34u * params.chunks;
}

fn key_unit(page: u32, kv_head: u32, position: u32, unit: u32) -> u32 {
    return page_start(page) + (kv_head * params.chunks / 2u + unit) * PAGE + position % PAGE;
}

fn value_unit(page: u32, kv_head: u32, position: u32, unit: u32) -> u32 {
    let start = page_start(page) + params.kv_heads * 16u * params.chunks;
    return start + (kv_head * PAGE + position % PAGE) * (params.chunks / 2u) + unit;
}

fn factor_word(page: u32, kv_head: u32, position: u32, block: u32) -> u32 {
    let start = 4u * (page_start(page) + params.kv_heads * 32u * params.chunks);
    return start + (kv_head * params.chunks / 4u + block) * PAGE + position % PAGE;
}
