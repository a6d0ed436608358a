alias Values = array<vec4<f32>, 8>;

struct Packed {
    units: array<vec4<u32>, UNITS>,
    factor: u32,
}
