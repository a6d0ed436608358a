const FUSED: bool = false;

fn emit_squares(m: u32, group: u32, squares: vec2<f32>) {
}

fn factor_out(at: Lane, m: u32) -> f32 {
    return 1.0;
}
