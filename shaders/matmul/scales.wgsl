// Scale and offset of one block of each of four rows of W, for weights in blocks.
struct Scales {
    a: vec2<f32>,
    b: vec2<f32>,
    c: vec2<f32>,
    d: vec2<f32>,
}
