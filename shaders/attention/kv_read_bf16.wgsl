fn key(chunk: u32) -> Eight {
    let p = keys[chunk];
    let even = bitcast<vec4<f32>>(p << vec4(16u));
    let odd = bitcast<vec4<f32>>(p & vec4(0xffff0000u));
    return Eight(vec4(even.x, odd.x, even.y, odd.y), vec4(even.z, odd.z, even.w, odd.w));
}

fn value_pair(pair: u32) -> vec2<f32> {
    let p = values[pair];
    return vec2(bitcast<f32>(p << 16u), bitcast<f32>(p & 0xffff0000u));
}
