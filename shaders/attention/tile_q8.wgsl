// Chunks of eight of keys and values in q8, dequantized.
fn key_chunk(page: u32, kv_head: u32, position: u32, c: u32) -> Eight {
    let factors = factor_at(factor_word(page, kv_head, position, c / 4u));
    return scaled(q8_chunk(unit_at(key_unit(page, kv_head, position, c / 2u)), c % 2u), scale_of_q8(factors));
}

fn value_chunk(page: u32, kv_head: u32, position: u32, c: u32) -> Eight {
    let factors = factor_at(factor_word(page, kv_head, position, c / 4u));
    return scaled(q8_chunk(unit_at(value_unit(page, kv_head, position, c / 2u)), c % 2u), scale_of_q8(factors >> 16u));
}
