fn unit_at(unit: u32) -> vec4<u32> {
    return kv[unit];
}

// A word after the start of a unit.
fn word_at(unit: u32, word: u32) -> u32 {
    return kv[unit + word / 4u][word % 4u];
}

fn factor_at(word: u32) -> u32 {
    return kv[word / 4u][word % 4u];
}

fn newest_factor(of_value: bool, block: u32) -> u32 {
    var largest = 0.0;
    for (var c = 4u * block; c < 4u * block + 4u; c += 1u) {
        largest = max(largest, largest_of_eight(newest_chunk(of_value, c)));
    }
    return factor_of_block(largest);
}

// Keeps the newest key and value as the cache rounds them. Each lane rounds 16 values, half a block; all lanes of a block compute its factor.
fn keep(at: Lane, page: u32, kv_head: u32, position: u32, writes: bool) {
    let units = params.chunks / 2u;
    let unit = at.index % units;
    let of_value = at.index >= units;
    let factor = newest_factor(of_value, unit / 2u);
    let inverse = inverse_of(factor);
    let a = newest_chunk(of_value, 2u * unit);
    let b = newest_chunk(of_value, 2u * unit + 1u);
    let words = vec4(word_of(a.lo, inverse), word_of(a.hi, inverse), word_of(b.lo, inverse), word_of(b.hi, inverse));
    let other = newest_factor(true, unit / 2u);
    workgroupBarrier();
    if (at.index >= 2u * units) {
        return;
    }
    let scale = scale_of_q8(factor);
    let first = scaled(q8_chunk(words, 0u), scale);
    let second = scaled(q8_chunk(words, 1u), scale);
    if (of_value) {
        newest_value[2u * unit] = first;
        newest_value[2u * unit + 1u] = second;
    } else {
        newest_key[2u * unit] = first;
        newest_key[2u * unit + 1u] = second;
    }
    if (!writes) {
        return;
    }
    if (of_value) {
        kv[value_unit(page, kv_head, position, unit)] = words;
        return;
    }
    kv[key_unit(page, kv_head, position, unit)] = words;
    if (unit % 2u == 0u) {
        let word = factor_word(page, kv_head, position, unit / 2u);
        kv[word / 4u][word % 4u] = factor | (other << 16u);
    }
}
