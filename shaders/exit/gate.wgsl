override WG: u32;

// One workgroup: the launches of the loop keep all their workgroups while any row is active, and get none afterwards.
@compute @workgroup_size(WG)
fn main(@builtin(local_invocation_index) lane: u32) {
    var live = 0u;
    for (var i = 0u; i < table_rows() && live == 0u; i += 1u) {
        live = rows[i].live;
    }
    for (var i = lane; i < params.words; i += WG) {
        groups[i] = select(0u, all[i], live != 0u);
    }
}
