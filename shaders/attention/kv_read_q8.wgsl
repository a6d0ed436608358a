fn unit_at(unit: u32) -> vec4<u32> {
    return keys[unit];
}

fn factor_at(word: u32) -> u32 {
    return values[word];
}

// A word after the start of a unit.
fn word_at(unit: u32, word: u32) -> u32 {
    return values[4u * unit + word];
}
