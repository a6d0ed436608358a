// What is remembered from check to check, per row or per read-out.
struct Memo {
    checks: u32,
    token: u32,
    count: u32,
    entropy: f32,
    value: f32,
    reserved_0: u32,
    reserved_1: u32,
    reserved_2: u32,
}

const KEPT_VALUES: u32 = 64u;
