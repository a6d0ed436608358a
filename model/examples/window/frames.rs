//! Frame times: intervals between frames, while idle and while generating.

use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

/// Number of frames in the plot.
pub(crate) const SHOWN: usize = 240;

/// Frame times of one kind, in milliseconds.
#[derive(Default)]
pub(crate) struct Times(Vec<f32>);

impl Times {
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Median, 99th percentile and maximum; zeros if there are no frames.
    pub(crate) fn summary(&self) -> [f32; 3] {
        let mut sorted = self.0.clone();
        sorted.sort_unstable_by(f32::total_cmp);
        let at = |percent: usize| sorted.get((sorted.len() * percent / 100).min(sorted.len().saturating_sub(1)));
        [50, 99, 100].map(|percent| at(percent).copied().unwrap_or(0.0))
    }
}

/// All frame times.
#[derive(Default)]
pub(crate) struct Frames {
    /// Frames without generation.
    pub(crate) idle: Times,
    /// Frames with generation.
    pub(crate) generating: Times,
    /// Recent frame times, and whether text was generated.
    pub(crate) recent: VecDeque<(f32, bool)>,
}

impl Frames {
    pub(crate) fn add(&mut self, time: Duration, generating: bool) {
        let ms = time.as_secs_f32() * 1e3;
        let times = if generating { &mut self.generating } else { &mut self.idle };
        times.0.push(ms);
        self.recent.push_back((ms, generating));
        if self.recent.len() > SHOWN {
            self.recent.pop_front();
        }
    }
}

impl fmt::Display for Frames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<12}{:>8}{:>12}{:>12}{:>12}", "", "frames", "median", "99 %", "worst")?;
        for (name, times) in [("idle", &self.idle), ("generating", &self.generating)] {
            let [median, most, worst] = times.summary();
            writeln!(f, "{name:<12}{:>8}{median:>9.1} ms{most:>9.1} ms{worst:>9.1} ms", times.len())?;
        }
        Ok(())
    }
}
