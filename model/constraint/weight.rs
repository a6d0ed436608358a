//! Cost of intersections in a grammar's regular expressions, estimated before the compiler meets them.
//!
//! The compiler pairs the derivatives of all parts of an intersection (`allOf` with several `pattern`s, `&` in Lark) in one step that its fuel does not
//! limit. With `k` parts that have two ways to read the same byte, the step makes `2^k` pairs, so 20 such patterns would take all memory. The estimate counts,
//! for each byte, the distinct byte sets of each part that contain it, and multiplies the counts of the parts.

use std::collections::{HashMap, HashSet};

use llguidance::derivre::ExprRef;
use llguidance::derivre::raw::ExprSet;

/// Maximum pairs of derivatives in one step: a step then takes a tenth of a second.
const MOST_PAIRS: u64 = 100_000;

/// Maximum expressions visited for the estimate itself.
const MOST_VISITS: usize = 5_000_000;

/// Ways to read each byte, for one expression.
type Ways = [u64; 256];

/// Kind of an expression, as far as the estimate tells kinds apart. The crate's own enum cannot be named outside of it.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Intersection,
    Complement,
    Bytes,
    Text,
    Number,
    Other,
}

/// Whether every intersection can be compiled in reasonable time and memory.
pub(super) fn intersections_are_light(exprs: &ExprSet) -> bool {
    let mut known = HashMap::new();
    let mut visits = 0;
    // Parts are numbered before the expressions made of them, so each inner intersection is known before the outer one.
    (1..exprs.len() as u32).map(ExprRef::new).filter(|&e| kind(exprs, e) == Kind::Intersection).all(|e| {
        let ways = exprs.get_args(e).iter().fold([1; 256], |product: Ways, &part| {
            let ways = ways(exprs, part, &known, &mut visits);
            std::array::from_fn(|byte| product[byte].saturating_mul(ways[byte].max(1)))
        });
        let light = visits <= MOST_VISITS && ways.iter().all(|&ways| ways <= MOST_PAIRS);
        known.insert(e, ways);
        light
    })
}

/// Distinct byte sets of an expression that contain each byte.
fn ways(exprs: &ExprSet, top: ExprRef, known: &HashMap<ExprRef, Ways>, visits: &mut usize) -> Ways {
    let mut ways: Ways = [0; 256];
    let (mut seen, mut rest) = (HashSet::from([top]), vec![top]);
    // Texts hide their bytes, and count as one byte set together.
    let mut texts = false;
    while let Some(e) = rest.pop() {
        *visits += 1;
        if *visits > MOST_VISITS {
            return [u64::MAX; 256];
        }
        match kind(exprs, e) {
            Kind::Bytes => {
                let set = exprs.get(e);
                (0..=u8::MAX).filter(|&byte| set.matches_byte(byte)).for_each(|byte| ways[usize::from(byte)] += 1);
                continue;
            }
            Kind::Intersection => {
                let inner = known.get(&e).unwrap_or(&[u64::MAX; 256]);
                (0..256).for_each(|byte| ways[byte] = ways[byte].saturating_add(inner[byte]));
                continue;
            }
            // The derivatives of a complement and of a number are disjoint.
            Kind::Complement | Kind::Number => {
                ways.iter_mut().for_each(|ways| *ways = ways.saturating_add(1));
                continue;
            }
            Kind::Text => texts = true,
            Kind::Other => {}
        }
        rest.extend(exprs.get_args(e).iter().filter(|&&part| seen.insert(part)));
    }
    ways.map(|ways| ways.saturating_add(u64::from(texts)))
}

fn kind(exprs: &ExprSet, e: ExprRef) -> Kind {
    match format!("{:?}", exprs.get_tag(e)).as_str() {
        "And" => Kind::Intersection,
        "Not" => Kind::Complement,
        "Byte" | "ByteSet" => Kind::Bytes,
        "ByteConcat" => Kind::Text,
        "RemainderIs" => Kind::Number,
        _ => Kind::Other,
    }
}
