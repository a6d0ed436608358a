const M: u32 = 8u;
