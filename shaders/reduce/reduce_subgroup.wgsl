struct Lane {
    group: vec3<u32>,
    index: u32,
    subgroup: u32,
    subgroup_lane: u32,
    subgroups: u32,
}

// Not built-in members of Lane: naga 30 generates invalid HLSL for subgroup built-ins in a struct.
@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) index: u32,
    @builtin(subgroup_id) subgroup: u32,
    @builtin(subgroup_invocation_id) subgroup_lane: u32,
    @builtin(num_subgroups) subgroups: u32,
) {
    run(Lane(group, index, subgroup, subgroup_lane, subgroups));
}

// One entry per subgroup; no device has subgroups of fewer than 4.
var<workgroup> partials: array<vec4<f32>, WG / 4u>;

// Sum over the workgroup, returned to every lane.
fn reduce_sum4(at: Lane, value: vec4<f32>) -> vec4<f32> {
    var total = subgroupAdd(value);
    if (at.subgroups > 1u) {
        if (at.subgroup_lane == 0u) {
            partials[at.subgroup] = total;
        }
        workgroupBarrier();
        total = partials[0];
        for (var i = 1u; i < at.subgroups; i += 1u) {
            total += partials[i];
        }
        workgroupBarrier();
    }
    return total;
}

// Largest value in the workgroup, returned to every lane.
fn reduce_max(at: Lane, value: f32) -> f32 {
    var largest = subgroupMax(value);
    if (at.subgroups > 1u) {
        if (at.subgroup_lane == 0u) {
            partials[at.subgroup].x = largest;
        }
        workgroupBarrier();
        largest = partials[0].x;
        for (var i = 1u; i < at.subgroups; i += 1u) {
            largest = max(largest, partials[i].x);
        }
        workgroupBarrier();
    }
    return largest;
}

// Largest values in the workgroup, component by component, returned to every lane.
fn reduce_max4(at: Lane, value: vec4<f32>) -> vec4<f32> {
    var largest = subgroupMax(value);
    if (at.subgroups > 1u) {
        if (at.subgroup_lane == 0u) {
            partials[at.subgroup] = largest;
        }
        workgroupBarrier();
        largest = partials[0];
        for (var i = 1u; i < at.subgroups; i += 1u) {
            largest = max(largest, partials[i]);
        }
        workgroupBarrier();
    }
    return largest;
}
