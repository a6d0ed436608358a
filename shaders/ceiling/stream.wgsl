override WG: u32;

// Neighboring lanes read neighboring units, and each lane has sixteen loads in flight. All loaded values are combined, so that the compiler can
// skip none of them.
@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    var sum = vec4<u32>();
    for (var round = 0u; round < params.rounds; round += 1u) {
        let at = place((group.x * params.rounds + round) * 16u * WG + lane);
        let a = unit(at, 0u) ^ unit(at, WG) ^ unit(at, 2u * WG) ^ unit(at, 3u * WG);
        let b = unit(at, 4u * WG) ^ unit(at, 5u * WG) ^ unit(at, 6u * WG) ^ unit(at, 7u * WG);
        let c = unit(at, 8u * WG) ^ unit(at, 9u * WG) ^ unit(at, 10u * WG) ^ unit(at, 11u * WG);
        let d = unit(at, 12u * WG) ^ unit(at, 13u * WG) ^ unit(at, 14u * WG) ^ unit(at, 15u * WG);
        sum ^= a ^ b ^ c ^ d;
    }
    y[group.x * WG + lane] = sum;
}
