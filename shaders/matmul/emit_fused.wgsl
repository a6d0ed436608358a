// Fused sums include the sums of squares of each group of outputs, two groups per vector.
const FUSED: bool = true;

fn emit_squares(m: u32, group: u32, squares: vec2<f32>) {
    let place = (m * params.made + 2u * params.y_stride) / 4u + group / 2u;
    if ((group & 1u) == 0u) {
        y[place].x = squares.x;
        y[place].y = squares.y;
    } else {
        y[place].z = squares.x;
        y[place].w = squares.y;
    }
}
