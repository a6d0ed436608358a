struct Sampler {
    temperature: f32,
    top_p: f32,
    min_p: f32,
    repeat_penalty: f32,
    top_k: u32,
    penalty_window: u32,
    reserved: vec2<u32>,
}
