struct Came {
    token: u32,
    steps: u32,
}
