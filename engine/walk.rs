//! Order of launches: a graph's steps as a flat program, and a position in it that can be left and resumed.

use crate::graph::{Count, Loop, Step};

/// Steps in order, with jumps.
#[derive(Debug)]
pub(crate) struct Program(Vec<Op>);

#[derive(Debug)]
enum Op {
    /// A launch, by its index in the record.
    Launch(usize),
    /// The head of a loop, and the operation after the loop.
    Repeat { count: Count, behind: usize },
    /// The end of a loop, and the first operation inside.
    Again { first: usize },
}

impl Program {
    /// `gate` returns the launch to run before each iteration of a loop, if there is one.
    pub(crate) fn new(steps: &[Step], mut gate: impl FnMut(&Loop) -> Option<usize>) -> Self {
        let mut ops = Vec::new();
        lay_out(steps, &mut gate, &mut ops);
        Self(ops)
    }

    /// Sums a quantity over the launches of an execution.
    pub(crate) fn total(&self, counts: &[u32], of: impl Fn(usize) -> u64) -> u64 {
        let (mut sum, mut rounds) = (0_u64, vec![1_u64]);
        for op in &self.0 {
            let now = rounds.last().copied().unwrap_or(1);
            match op {
                Op::Launch(index) => sum = sum.saturating_add(of(*index).saturating_mul(now)),
                Op::Repeat { count, .. } => rounds.push(now.saturating_mul(u64::from(count.times(counts)))),
                Op::Again { .. } => drop(rounds.pop()),
            }
        }
        sum
    }
}

fn lay_out(steps: &[Step], gate: &mut impl FnMut(&Loop) -> Option<usize>, ops: &mut Vec<Op>) {
    for step in steps {
        match step {
            Step::Launch(index) => ops.push(Op::Launch(*index)),
            Step::Repeat(inner) => {
                let (head, count) = (ops.len(), inner.count);
                ops.push(Op::Repeat { count, behind: 0 });
                ops.extend(gate(inner).map(Op::Launch));
                lay_out(&inner.body, gate, ops);
                ops.push(Op::Again { first: head + 1 });
                ops[head] = Op::Repeat { count, behind: ops.len() };
            }
        }
    }
}

/// A position in a program.
#[derive(Debug, Default)]
pub(crate) struct Walk {
    at: usize,
    /// Remaining iterations of the loops around this position, including the current ones.
    rounds: Vec<u32>,
    passed: u64,
}

impl Walk {
    /// The launch at this position; `None` at the end. Moves through loops, but not past the launch.
    pub(crate) fn peek(&mut self, program: &Program, counts: &[u32]) -> Option<usize> {
        loop {
            match program.0.get(self.at)? {
                Op::Launch(index) => return Some(*index),
                Op::Repeat { count, behind } => match count.times(counts) {
                    0 => self.at = *behind,
                    times => {
                        self.rounds.push(times);
                        self.at += 1;
                    }
                },
                Op::Again { first } => match self.rounds.last_mut() {
                    Some(left) if *left > 1 => {
                        *left -= 1;
                        self.at = *first;
                    }
                    _ => {
                        self.rounds.pop();
                        self.at += 1;
                    }
                },
            }
        }
    }

    /// Moves past the launch that [`Self::peek`] returned.
    pub(crate) fn pass(&mut self) {
        self.at += 1;
        self.passed += 1;
    }

    /// Launches passed so far.
    pub(crate) fn passed(&self) -> u64 {
        self.passed
    }
}
