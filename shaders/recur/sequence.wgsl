struct Sequence {
    seed: vec2<u32>,
    state_std: f32,
    steps: u32,
}
