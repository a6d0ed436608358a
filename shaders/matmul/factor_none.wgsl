fn factor_in(at: Lane, m: u32) -> f32 {
    return 1.0;
}
