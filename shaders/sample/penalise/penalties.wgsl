struct Penalties {
    repeat_penalty: f32,
    repeat_window: u32,
    dry_multiplier: f32,
    dry_base: f32,
    dry_allowed: u32,
    dry_longest: u32,
    dry_range: u32,
    biased: u32,
}
