fn weight(chunk: u32) -> Eight {
    let p = w[chunk];
    return Eight(
        vec4(unpack2x16float(p.x), unpack2x16float(p.y)),
        vec4(unpack2x16float(p.z), unpack2x16float(p.w)),
    );
}
