const M: u32 = 1u;
