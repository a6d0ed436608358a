override WG: u32;

// One invocation per chunk of eight of one head of q, k or v: adds the bias, rotates q and k by the position's angle, writes q with its heads padded to whole
// chunks, and writes k and v into their pages.
@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let row = rows[group.y];
    let heads = params.heads + 2u * params.kv_heads;
    let index = min(group.x * WG + lane, heads * params.chunks - 1u);
    let site = site_of(index);
    let head = site.x;
    let c = site.y;
    let is_value = head >= params.heads + params.kv_heads;
    let v = turned_chunk(group.y, row.position, head, c, !is_value);
    share(lane, v);
    if (row.live == 0u || group.x * WG + lane > index) {
        return;
    }
    if (index == 0u && params.mark_depth != 0u) {
        depth[row.sequence * params.context + row.position] = row.step + 1u;
    }
    if (head < params.heads) {
        if (params.write_q != 0u) {
            let place = 2u * ((group.y * params.heads + head) * params.chunks + c);
            q[place] = v.lo;
            q[place + 1u] = v.hi;
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
        store(lane, page, which, kv_head, row.position, c, v);
    }
}
