//! Golden outputs (written below).
