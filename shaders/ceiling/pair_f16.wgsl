alias Pair = vec2<f16>;

fn pair(v: vec2<f32>) -> Pair {
    return Pair(v);
}
