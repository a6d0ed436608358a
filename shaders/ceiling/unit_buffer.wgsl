fn place(i: u32) -> u32 {
    return i;
}

fn unit(at: u32, offset: u32) -> vec4<u32> {
    return x[at + offset];
}
