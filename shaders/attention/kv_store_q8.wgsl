var<workgroup> largest: array<f32, WG>;

// Head of q, k or v and chunk of that head for an invocation. Eight neighbors take a block of a key and the same block of its value, because the factors of
// both share a word. Queries come last.
fn site_of(index: u32) -> vec2<u32> {
    let blocks = params.chunks / 4u;
    let kv = 2u * params.kv_heads * params.chunks;
    if (index >= kv) {
        return vec2((index - kv) / params.chunks, (index - kv) % params.chunks);
    }
    let block = index / 8u;
    let which = index / 4u % 2u;
    return vec2(params.heads + which * params.kv_heads + block / blocks, 4u * (block % blocks) + index % 4u);
}

// Shares the largest magnitude of each lane's chunk with the other lanes of the block.
fn share(lane: u32, v: Eight) {
    largest[lane] = largest_of_eight(v);
    workgroupBarrier();
}

fn factor_at(lane: u32) -> u32 {
    return factor_of_block(max(max(largest[lane], largest[lane + 1u]), max(largest[lane + 2u], largest[lane + 3u])));
}

fn store(lane: u32, page: u32, which: u32, kv_head: u32, position: u32, c: u32, v: Eight) {
    let factor = factor_at(lane & ~3u);
    let inverse = inverse_of(factor);
    let words = vec2(word_of(v.lo, inverse), word_of(v.hi, inverse));
    if (which == 0u) {
        kv[2u * key_unit(page, kv_head, position, c / 2u) + c % 2u] = words;
    } else {
        kv[2u * value_unit(page, kv_head, position, c / 2u) + c % 2u] = words;
    }
    if (lane % 8u == 0u) {
        let word = factor_word(page, kv_head, position, c / 4u);
        kv[word / 2u][word % 2u] = factor | (factor_at(lane + 4u) << 16u);
    }
}
