// Scale and offset of a block of each of four rows of W, where weights come in blocks.
struct Scales {
    a: vec2<f32>,
    b: vec2<f32>,
    c: vec2<f32>,
    d: vec2<f32>,
}
