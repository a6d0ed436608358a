struct Front {
    oldest: u32,
    origin: u32,
}
