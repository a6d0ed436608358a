struct Lane {
    group: vec3<u32>,
    index: u32,
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) index: u32) {
    run(Lane(group, index));
}

var<workgroup> partials: array<vec4<f32>, WG>;

// Sum over the workgroup, returned to every lane. WG is a power of two.
fn reduce_sum4(at: Lane, value: vec4<f32>) -> vec4<f32> {
    partials[at.index] = value;
    workgroupBarrier();
    for (var half = WG / 2u; half > 0u; half /= 2u) {
        if (at.index < half) {
            partials[at.index] += partials[at.index + half];
        }
        workgroupBarrier();
    }
    let total = partials[0];
    workgroupBarrier();
    return total;
}

// Largest value in the workgroup, returned to every lane.
fn reduce_max(at: Lane, value: f32) -> f32 {
    partials[at.index].x = value;
    workgroupBarrier();
    for (var half = WG / 2u; half > 0u; half /= 2u) {
        if (at.index < half) {
            partials[at.index].x = max(partials[at.index].x, partials[at.index + half].x);
        }
        workgroupBarrier();
    }
    let largest = partials[0].x;
    workgroupBarrier();
    return largest;
}

// Largest values in the workgroup, component by component, returned to every lane.
fn reduce_max4(at: Lane, value: vec4<f32>) -> vec4<f32> {
    partials[at.index] = value;
    workgroupBarrier();
    for (var half = WG / 2u; half > 0u; half /= 2u) {
        if (at.index < half) {
            partials[at.index] = max(partials[at.index], partials[at.index + half]);
        }
        workgroupBarrier();
    }
    let largest = partials[0];
    workgroupBarrier();
    return largest;
}
