override WG: u32;

// One workgroup per row and head: rescales the parts to a common maximum and divides by the sum of all weights.
@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let head = group.x;
    if (rows[group.y].live == 0u) {
        return;
    }
    let pairs = params.head_dim / 2u;
    let size = 4u * params.chunks + 1u;
    let start = (group.y * params.heads + head) * params.parts * size;
    var largest = partial_sums[start].x;
    for (var part = 1u; part < params.parts; part += 1u) {
        largest = max(largest, partial_sums[start + part * size].x);
    }
    for (var pair = lane; pair < pairs; pair += WG) {
        var weights = 0.0;
        var sum = vec2<f32>();
        for (var part = 0u; part < params.parts; part += 1u) {
            let place = start + part * size;
            let found = partial_sums[place];
            // A part without keys has no sums.
            if (found.y > 0.0) {
                let scale = exp(found.x - largest);
                weights += found.y * scale;
                sum += partial_sums[place + 1u + pair] * scale;
            }
        }
        y[group.y * params.y_stride / 2u + head * pairs + pair] = sum / max(weights, 1e-30);
    }
    if (head == params.heads - 1u) {
        for (var i = params.heads * pairs + lane; i < params.y_stride / 2u; i += WG) {
            y[group.y * params.y_stride / 2u + i] = vec2<f32>();
        }
    }
}
