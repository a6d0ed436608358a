alias Pair = vec2<f32>;

fn pair(v: vec2<f32>) -> Pair {
    return Pair(v);
}
