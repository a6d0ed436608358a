//! Figures printed after a run.

use anstyle::Style;
use ruminate::{Counters, Model, Profile, Statistics, StopReason};
use serde_json::{Value, json};

use crate::words::counted;

/// Collected figures of a run.
pub(crate) struct Report<'a> {
    pub(crate) model: &'a Model,
    pub(crate) statistics: &'a Statistics,
    pub(crate) steps: u32,
    pub(crate) seed: u64,
    pub(crate) counters: Counters,
    /// Whether rows shared passes, so that the number of passes differs from the number of steps.
    pub(crate) shares_passes: bool,
}

impl Report<'_> {
    /// Bandwidth of weight reads during decoding, in GB/s.
    fn bandwidth(&self) -> f64 {
        let Statistics { tokens, core_passes, .. } = *self.statistics;
        let shared = core_passes.checked_div(u64::from(tokens.saturating_sub(1)));
        let passes = shared.and_then(|passes| u32::try_from(passes).ok()).unwrap_or(self.steps);
        self.statistics.decode_rate() * self.model.bytes_per_token(passes) as f64 / 1e9
    }

    /// The figures as JSON.
    pub(crate) fn json(&self) -> Value {
        let Statistics { prompt_tokens, tokens, steps, .. } = self.statistics;
        json!({
            "load_s": self.model.load_time().as_secs_f64(),
            "prompt_tokens": prompt_tokens,
            "generated_tokens": tokens,
            "steps_per_token": *steps as f64 / f64::from((*tokens).max(1)),
            "core_passes_per_token": self.statistics.passes_per_token(),
            "prompt_tokens_per_s": self.statistics.prompt_rate(),
            "decode_tokens_per_s": self.statistics.decode_rate(),
            "weight_gb_per_s": self.bandwidth(),
            "device": self.model.device().name(),
            "device_bytes": self.counters_now().live_bytes,
            "dtype": self.model.dtypes().to_string(),
            "seed": self.seed,
            "counters": {
                "submissions": self.counters.submissions,
                "waits": self.counters.waits,
                "read_backs": self.counters.read_backs,
                "launches": self.counters.launches,
                "pipelines": self.counters.pipelines,
                "buffers": self.counters.buffers,
                "bind_groups": self.counters.bind_groups,
            },
        })
    }

    /// Prints the figures on stderr, optionally with the executor's counters.
    pub(crate) fn print(&self, counters: bool) {
        let dim = Style::new().dimmed();
        let Statistics { prompt_tokens, tokens, steps, .. } = self.statistics;
        let average = (*steps as f64 / f64::from((*tokens).max(1)) * 10.0).round() / 10.0;
        let passes = (self.statistics.passes_per_token() * 10.0).round() / 10.0;
        let shared = if *tokens > 1 && self.shares_passes {
            format!(" in {} over the core", counted(passes, "pass"))
        } else {
            String::new()
        };
        remark!(
            "{dim}loaded in {} s · prompt {}, {} tokens/s · generated {}, {} tokens/s, {} per token{shared}, {} GB/s of weights · device memory {:.1} MB · seed {} · {} ({}){dim:#}",
            digits(self.model.load_time().as_secs_f64()),
            counted(prompt_tokens, "token"),
            measured(self.statistics.prompt_rate(), digits),
            counted(tokens, "token"),
            measured(self.statistics.decode_rate(), digits),
            counted(average, "step"),
            measured(self.bandwidth(), |rate| format!("{rate:.2}")),
            self.counters_now().live_bytes as f64 / 1e6,
            self.seed,
            self.model.device().name(),
            self.model.dtypes(),
        );
        if counters {
            let Counters { submissions, waits, read_backs, launches, pipelines, buffers, bind_groups, .. } =
                self.counters;
            remark!(
                "{dim}submissions {submissions} · waits {waits} · read-backs {read_backs} · launches {launches} · created: {pipelines} \
                 pipelines, {buffers} buffers, {bind_groups} bind groups{dim:#}"
            );
        }
    }

    fn counters_now(&self) -> Counters {
        self.model.device().counters()
    }
}

/// Formats a number with three significant digits and at least one decimal, because rates range from hundreds to thousandths.
fn digits(value: f64) -> String {
    let decimals = [10.0, 1.0, 0.1, 0.01].iter().position(|&least| value >= least).unwrap_or(4) + 1;
    format!("{value:.decimals$}")
}

/// Formats a rate, or `-` if it could not be measured because all tokens arrived at once, or none did.
fn measured(rate: f64, write: fn(f64) -> String) -> String {
    if rate > 0.0 { write(rate) } else { "-".to_owned() }
}

/// Name of a stop reason in JSON.
pub(crate) fn stop_name(reason: StopReason) -> &'static str {
    match reason {
        StopReason::EndToken(_) => "end_token",
        StopReason::StopString => "stop_string",
        StopReason::Complete => "complete",
        StopReason::MaxTokens => "max_tokens",
        StopReason::ContextFull => "context_full",
        StopReason::Cancelled => "cancelled",
        StopReason::Failed => "failed",
        _ => "unknown",
    }
}

/// Prints the time of every kernel, slowest first.
pub(crate) fn profile(profile: &Profile) {
    remark!("{:<46} {:>8} {:>10} {:>6} {:>8}", "kernel", "launches", "time µs", "%", "GB/s");
    let total = profile.total.as_secs_f64().max(1e-12);
    for entry in &profile.entries {
        let time = entry.time.as_secs_f64();
        remark!(
            "{:<46} {:>8} {:>10.1} {:>6.1} {:>8.2}",
            entry.label,
            entry.launches,
            time * 1e6,
            100.0 * time / total,
            entry.bytes as f64 / time.max(1e-12) / 1e9,
        );
    }
    remark!("{:<46} {:>8} {:>10.1}", "one token", "", total * 1e6);
}
