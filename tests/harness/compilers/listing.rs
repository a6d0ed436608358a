//! Analyzes loops in the AMD compiler's listings.

use serde::{Deserialize, Serialize};

/// Instruction counts of a loop.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Loop {
    /// Vector arithmetic instructions.
    pub vector: u64,
    /// Multiply-adds among the vector instructions.
    pub multiply_adds: u64,
    /// Loads of 16 bytes per lane.
    pub wide_loads: u64,
    /// Other loads from memory.
    pub narrow_loads: u64,
}

/// Innermost loop with the most vector arithmetic, or `None` without loops.
#[must_use]
pub fn inner_loop(listing: &str) -> Option<Loop> {
    let lines: Vec<&str> = listing.lines().map(str::trim).collect();
    let loops = loops(&lines);
    let inner = loops.iter().filter(|(start, end)| {
        // A loop may have several back edges.
        !loops.iter().any(|(from, to)| from > start && to < end)
    });
    inner.map(|&(start, end)| count(&lines[start..=end])).max_by_key(|found| found.vector)
}

/// Loop with the largest fraction of multiply-adds among those with at least 24 of them, nested loops included.
#[must_use]
pub fn densest_loop(listing: &str) -> Option<Loop> {
    let lines: Vec<&str> = listing.lines().map(str::trim).collect();
    let counted = loops(&lines).into_iter().map(|(start, end)| count(&lines[start..=end]));
    let share = |found: &Loop| found.multiply_adds * 1000 / found.vector.max(1);
    counted.filter(|found| found.multiply_adds >= 24).max_by_key(share)
}

/// Innermost loop with the smallest fraction of multiply-adds among those with at least 24 of them.
#[must_use]
pub fn thinnest_loop(listing: &str) -> Option<Loop> {
    let lines: Vec<&str> = listing.lines().map(str::trim).collect();
    let loops = loops(&lines);
    let inner = loops.iter().filter(|(start, end)| !loops.iter().any(|(from, to)| from > start && to < end));
    let counted = inner.map(|&(start, end)| count(&lines[start..=end]));
    counted.filter(|found| found.multiply_adds >= 24).max_by_key(|found| found.vector * 1000 / found.multiply_adds)
}

/// First and last lines of all loops. Blocks begin with a label such as `BB3:`, and a loop ends with a branch back to one.
fn loops(lines: &[&str]) -> Vec<(usize, usize)> {
    let label = |name: &str| lines.iter().position(|line| line.strip_suffix(':') == Some(name));
    let ends = lines.iter().enumerate().filter_map(|(end, line)| {
        let mut words = line.split_whitespace();
        words.next().filter(|word| word.starts_with("s_branch") || word.starts_with("s_cbranch"))?;
        let start = label(words.next()?)?;
        (start <= end).then_some((start, end))
    });
    ends.collect()
}

fn count(lines: &[&str]) -> Loop {
    let mut found = Loop::default();
    for line in lines {
        let name = line.split_whitespace().next().unwrap_or_default();
        let loads = ["buffer_load", "global_load", "flat_load", "image_load"].iter().any(|load| name.starts_with(load));
        if name.starts_with("v_") {
            // RDNA 3 can issue two instructions per line.
            for part in line.split("::").map(str::trim) {
                found.vector += 1;
                found.multiply_adds += u64::from(multiplies_and_adds(part));
            }
        } else if loads && (name.ends_with("x4") || name.ends_with("b128") || line.contains("dmask:0xf")) {
            found.wide_loads += 1;
        } else if loads {
            found.narrow_loads += 1;
        }
    }
    found
}

/// Whether a vector instruction is a multiply-add, of one pair of numbers or several.
fn multiplies_and_adds(instruction: &str) -> bool {
    let name = instruction.strip_prefix("v_").unwrap_or_default();
    let name = name.strip_prefix("dual_").or(name.strip_prefix("pk_")).unwrap_or(name);
    ["fma", "mac", "mad_f", "dot2", "dot4", "wmma"].iter().any(|operation| name.starts_with(operation))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inner_loop_has_the_most_vector_arithmetic() {
        let listing = "BB0:\n\ts_mov_b32 s0, 0\nBB1:\n\tv_add_u32 v1, v1, v2\nBB2:\n\tbuffer_load_dwordx4 v[0:3], v4, s[0:3], 0\n\t\
            buffer_load_dword v5, v4, s[0:3], 0\n\tv_fma_f32 v0, v1, v2, v0\n\tv_add_f32 v0, v1, v0\n\t\
            v_dual_fmac_f32 v0, v1, v2 :: v_dual_mul_f32 v4, v5, v6\n\ts_cbranch_scc1 BB2\n\ts_branch BB1\nBB3:\n\tv_nop\n\ts_endpgm";
        assert_eq!(inner_loop(listing), Some(Loop { vector: 4, multiply_adds: 2, wide_loads: 1, narrow_loads: 1 }));
        assert_eq!(thinnest_loop(listing), None);
        assert_eq!(inner_loop("BB0:\n\tv_nop\n\ts_endpgm"), None);
    }

    #[test]
    fn thinnest_loop_is_an_inner_one_that_multiplies() {
        let products = |count: usize| "\tv_fmac_f32 v0, v1, v2\n".repeat(count);
        let body = |label: u32, count, others: usize| {
            let others = "\tv_add_u32 v1, v1, v2\n".repeat(others);
            format!("BB{label}:\n{}{others}\ts_cbranch_scc1 BB{label}\n", products(count))
        };
        let listing = format!("BB9:\n{}{}{}\ts_branch BB9\n", body(1, 32, 4), body(2, 24, 12), body(3, 8, 40));
        assert_eq!(thinnest_loop(&listing).map(|found| (found.vector, found.multiply_adds)), Some((36, 24)));
    }
}
