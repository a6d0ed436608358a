struct Sampler {
    temperature: f32,
    top_p: f32,
    min_p: f32,
    top_k: u32,
}
