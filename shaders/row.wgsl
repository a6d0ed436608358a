struct Row {
    sequence: u32,
    position: u32,
    step: u32,
    token: u32,
    live: u32,
    output: u32,
    draw: u32,
    exited: u32,
}

const NONE: u32 = 0xffffffffu;

// What `exited` holds of a row that waits while others are read out.
const WAITS: u32 = 2u;
