override WG: u32;

struct Params {
    rows: u32,
    heads: u32,
    kv_heads: u32,
    head_dim: u32,
    chunks: u32,
    qkv_stride: u32,
    context: u32,
    biased: u32,
    write_q: u32,
    mark_depth: u32,
    recurrent: u32,
    lookup: u32,
    steps: u32,
    slots: u32,
    pages_per_slot: u32,
    page_base: u32,
    page_count: u32,
}

// One invocation per pair (2i, 2i+1) of one head of q, k or v: adds the bias, rotates q and k by the position's angle, writes q
// with heads padded to whole chunks and k and v into their pages.
@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let row = rows[group.y];
    let pairs = 4u * params.chunks;
    let index = group.x * WG + lane;
    if (row.live == 0u || index >= (params.heads + 2u * params.kv_heads) * pairs) {
        return;
    }
    if (index == 0u && params.mark_depth != 0u) {
        depth[row.sequence * params.context + row.position] = row.step + 1u;
    }
    let head = index / pairs;
    let pair = index % pairs;
    let real = 2u * pair < params.head_dim;
    let is_value = head >= params.heads + params.kv_heads;

    var v = vec2<f32>();
    if (real) {
        let place = (group.y * params.qkv_stride + head * params.head_dim) / 2u + pair;
        v = qkv[place];
        if (!is_value) {
            let half = params.head_dim / 2u;
            if (params.biased != 0u) {
                v += bias[head * half + pair];
            }
            let angle = freqs[row.position * half + pair];
            v = vec2(v.x * angle.x - v.y * angle.y, v.y * angle.x + v.x * angle.y);
        }
    }
    if (head < params.heads) {
        if (params.write_q != 0u) {
            q[(group.y * params.heads + head) * pairs + pair] = v;
        }
        return;
    }
    var slot = 0u;
    if (params.recurrent != 0u) {
        slot = 1u + tables[min(row.step, params.steps - 1u)];
    }
    let page = page_of(row.sequence, slot, row.position);
    if (page != NONE) {
        let which = select(0u, 1u, is_value);
        let kv_head = head - params.heads - which * params.kv_heads;
        store_pair(4u * kv_chunk(page, which, kv_head, row.position) + pair, v);
    }
}
