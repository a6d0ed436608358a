const M: u32 = 4u;
