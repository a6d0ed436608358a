fn unit_at(unit: u32) -> vec4<u32> {
    return keys[unit];
}

fn factor_at(word: u32) -> u32 {
    return values[word];
}

fn word_at(word: u32) -> u32 {
    return values[word];
}
