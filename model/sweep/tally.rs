//! Sums over answers, with confidence intervals.

use std::time::Duration;

use super::Answered;

/// Quantile of the standard normal distribution for 95 % intervals.
const QUANTILE: f64 = 1.959_963_984_540_054;

/// Sums over answers.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Tally {
    /// Number of answers.
    pub answers: u32,
    /// Number of right answers.
    pub right: u32,
    tokens: u64,
    steps: u64,
    nll: f64,
    computed: u64,
    time: Duration,
}

impl Tally {
    /// Adds an answer.
    pub fn add(&mut self, answered: &Answered) {
        self.answers += 1;
        self.right += u32::from(answered.right);
        self.tokens += u64::from(answered.tokens);
        self.steps += answered.steps;
        self.nll += answered.nll;
        self.computed += u64::from(answered.computed);
        self.time += answered.time;
    }

    /// Fraction of right answers, 0 to 1; NaN without answers.
    #[must_use]
    pub fn accuracy(&self) -> f64 {
        f64::from(self.right) / f64::from(self.answers)
    }

    /// Interval that contains the true accuracy with 95 % confidence, by Wilson's score (Wilson 1927). Unlike the usual interval, it is meaningful even if all
    /// answers are right.
    #[must_use]
    pub fn interval(&self) -> (f64, f64) {
        let (n, p, z) = (f64::from(self.answers), self.accuracy(), QUANTILE);
        if self.answers == 0 {
            return (0.0, 1.0);
        }
        let middle = (p + z * z / (2.0 * n)) / (1.0 + z * z / n);
        let half = z / (1.0 + z * z / n) * (p * (1.0 - p) / n + z * z / (4.0 * n * n)).sqrt();
        ((middle - half).max(0.0), (middle + half).min(1.0))
    }

    /// Recurrence steps per token of the answers.
    #[must_use]
    pub fn mean_steps(&self) -> f64 {
        self.steps as f64 / self.tokens as f64
    }

    /// Perplexity of the answers' tokens: e to their mean negative log-likelihood, each given all tokens before it.
    #[must_use]
    pub fn perplexity(&self) -> f64 {
        (self.nll / self.tokens as f64).exp()
    }

    /// Tokens computed per second, including prompts.
    #[must_use]
    pub fn rate(&self) -> f64 {
        self.computed as f64 / self.time.as_secs_f64().max(f64::MIN_POSITIVE)
    }
}

#[cfg(test)]
mod tests {
    use super::Tally;

    /// Reference values from scipy.stats.binomtest(k, n).proportion_ci(method="wilson").
    #[test]
    fn intervals_are_wilsons() {
        for (right, answers, low, high) in [
            (0, 10, 0.0, 0.277_532_8),
            (10, 10, 0.722_467_2, 1.0),
            (81, 263, 0.255_288_5, 0.366_209_6),
            (1, 2, 0.094_531_2, 0.905_468_8),
        ] {
            let (found_low, found_high) = Tally { right, answers, ..Tally::default() }.interval();
            assert!((found_low - low).abs() < 1e-6 && (found_high - high).abs() < 1e-6, "{found_low} {found_high}");
        }
    }
}
