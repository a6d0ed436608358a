//! `ruminate sweep`: accuracy of a model on problems, by depth and exit rule.

mod chart;
mod page;
mod picture;
mod rows;
mod terminal;

use std::fmt;
use std::io::{IsTerminal, Write};
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;
use ruminate::sweep::{Answered, Problem, Question, Tally};
use ruminate::{Exit, MAX_STEPS, Model, Session, SessionOptions, Spec, demo};

use self::rows::{Row, rows};
use crate::device::DeviceOptions;
use crate::exit_code::{Done, Usage};
use crate::interrupt::{Generating, Interrupt};
use crate::model::{ModelOptions, open_session};
use crate::options::CacheOptions;
use crate::plot::{ChartOutput, distinct, writable};
use crate::words::counted;
use crate::{progress, prompt};

/// Flags of `ruminate sweep`.
#[derive(Args)]
pub(crate) struct SweepOptions {
    #[command(flatten)]
    model: ModelOptions,
    /// File of problems; - for stdin [default: the demo's own]
    ///
    /// One JSON object per line: {"task":"sums","prompt":"3+4","answer":" 7"}.
    #[arg(short, long, value_name = "FILE", help_heading = "Input")]
    prompts: Option<PathBuf>,
    /// Only problems of these tasks [default: all]
    #[arg(long, value_name = "TASK,…", value_delimiter = ',', help_heading = "Input")]
    tasks: Vec<String>,
    /// Problems per task at most [default: all]
    #[arg(short = 'n', long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..), help_heading = "Input")]
    problems: Option<u32>,
    /// Separate rows for easy and hard problems
    ///
    /// Problems are marked by "hard":true or "hard":false.
    #[arg(long, help_heading = "Input")]
    split: bool,

    /// Steps per token, a row for each number; with --exit, the most
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_values_t = [1, 2, 4, 8, 16, 32, 64], value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_STEPS)), help_heading = "Common", display_order = 2)]
    steps: Vec<u32>,
    /// Exit criteria, a row for each: none, or as in `ruminate run --exit`
    ///
    /// A threshold may follow: kl=5e-4. gate,posthoc is written gate+posthoc here.
    #[arg(long, value_name = "RULE,…", value_delimiter = ',', default_value = "none", value_parser = Rule::parse, help_heading = "Common", display_order = 3)]
    exit: Vec<Rule>,
    /// Seed of the initial states
    #[arg(short, long, value_name = "N", default_value_t = 0, help_heading = "Depth")]
    seed: u64,

    #[command(flatten)]
    cache: CacheOptions,
    #[command(flatten)]
    device: DeviceOptions,

    #[command(flatten)]
    chart: ChartOutput,
    /// Print CSV instead of a table
    #[arg(long, conflicts_with = "json", help_heading = "Output")]
    csv: bool,
    /// Print JSON instead of a table
    #[arg(long, help_heading = "Output")]
    json: bool,
    /// Do not report written files
    #[arg(short, long, help_heading = "Output")]
    quiet: bool,
}

/// Exit rule, or none.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Rule(Option<Exit>);

impl Rule {
    fn parse(text: &str) -> Result<Self, String> {
        Ok(Self(if text == "none" { None } else { Some(text.parse()?) }))
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(exit) => exit.fmt(f),
            None => f.write_str("none"),
        }
    }
}

/// Answers at one depth and exit rule; fewer than the questions if the run was interrupted.
struct Tried {
    steps: u32,
    rule: Rule,
    answered: Vec<Answered>,
}

/// Results of a sweep.
struct Swept<'a> {
    model: &'a Model,
    seed: u64,
    problems: usize,
    rows: Vec<Row>,
}

/// Runs `ruminate sweep`.
pub(crate) fn sweep(options: &SweepOptions) -> Result<Done> {
    let interrupt = Interrupt::watch()?;
    distinct(&options.chart.files().collect::<Vec<_>>())?;
    for file in options.chart.files() {
        writable(file)?;
    }
    let problems = problems(options)?;
    let source = options.model.argument.source()?;
    let asked = SessionOptions {
        steps: options.steps.iter().copied().max(),
        seed: options.seed,
        ..options.cache.session(&Spec::open(&source)?)?
    };
    let quiet = options.quiet || options.csv || options.json;
    let device = options.device.open(options.model.products(), quiet)?;
    let model = options.model.load(&source, &device, asked.clone(), quiet)?;
    if !quiet {
        crate::options::remark_depth(model.spec(), options.steps.iter().copied());
    }
    let mut session = open_session(&model, asked, quiet)?;
    let question = |problem: &Problem| {
        let beginning: String = problem.prompt.chars().take(40).collect();
        session.question(problem).with_context(|| format!("the problem {beginning:?} of task {:?}", problem.task))
    };
    let questions = problems.iter().map(question).collect::<Result<Vec<_>>>()?;
    let watch = interrupt.working();
    let tried = answer(&mut session, &questions, options, &watch)?;
    let rows = rows(&problems, &tried, options.split);
    let swept = Swept { model: &model, seed: options.seed, problems: problems.len(), rows };
    let mut out = std::io::stdout().lock();
    if options.csv {
        terminal::csv(&mut out, &swept)?;
    } else if options.json {
        writeln!(out, "{}", terminal::json(&swept))?;
    } else {
        terminal::print(&mut out, &swept)?;
    }
    if !quiet {
        prompt::note_unread_lines(options.prompts.as_deref(), "-p");
    }
    options.chart.write(|| page::page(&swept), |theme| picture::picture(&swept, theme), options.quiet)?;
    Ok(if watch.stopped() { Done::Interrupted } else { Done::Complete })
}

/// Requested problems.
fn problems(options: &SweepOptions) -> Result<Vec<Problem>> {
    let all = match &options.prompts {
        None if !options.model.argument.is_demo() => {
            let problem =
                "the built-in problems are for the demo only; give problems for this model with --prompts FILE.jsonl";
            return Err(Usage(problem.to_owned()).into());
        }
        None => Problem::read(demo::PROBLEMS, "the demo's problems")?,
        Some(path) => {
            let text = prompt::whole("the problems", path)?;
            // The exit code for invalid model files does not apply here.
            Problem::read(&text, &path.display().to_string()).map_err(|error| Usage(error.to_string()))?
        }
    };
    let mut known: Vec<&str> = all.iter().map(|problem| problem.task.as_str()).collect();
    known.sort_unstable();
    known.dedup();
    if let Some(task) = options.tasks.iter().find(|task| !known.contains(&task.as_str())) {
        return Err(Usage(format!("unknown task {task:?} (expected {})", known.join(", "))).into());
    }
    let most = options.problems.map_or(usize::MAX, |most| most as usize);
    let wanted = |task: &str| options.tasks.is_empty() || options.tasks.iter().any(|wanted| wanted == task);
    let of = |task: &&str| all.iter().filter(|problem| problem.task == *task).count();
    let mut chosen = Vec::new();
    for task in known.iter().filter(|task| wanted(task)) {
        // Spread evenly over the problems, because they may be sorted by length.
        let count = of(task);
        let kept = count.min(most);
        let these: Vec<&Problem> = all.iter().filter(|problem| problem.task == *task).collect();
        chosen.extend((0..kept).map(|at| these[at * count / kept].clone()));
    }
    if chosen.is_empty() {
        return Err(Usage("no problem to solve".to_owned()).into());
    }
    Ok(chosen)
}

/// Expected steps per token. With an exit rule, at most the mean at the last depth where that rule ended tokens early.
fn expected(tried: &[Tried], steps: u32, rule: Rule) -> u32 {
    let last = tried.iter().rev().find(|tried| rule.0.is_some() && tried.rule == rule);
    let most = last.and_then(|last| {
        let mut tally = Tally::default();
        last.answered.iter().for_each(|answered| tally.add(answered));
        let mean = tally.mean_steps();
        (mean < 0.9 * f64::from(last.steps)).then(|| (1..=last.steps).find(|&steps| f64::from(steps) >= mean))?
    });
    most.map_or(steps, |most| most.min(steps))
}

/// Answers all questions at every depth and exit rule, until interrupted.
fn answer(
    session: &mut Session,
    questions: &[Question],
    options: &SweepOptions,
    watch: &Generating<'_>,
) -> Result<Vec<Tried>> {
    let depths: Vec<(u32, Rule)> =
        options.exit.iter().flat_map(|&rule| options.steps.iter().map(move |&steps| (steps, rule))).collect();
    let shown = !options.quiet && std::io::stderr().is_terminal();
    let bar = progress::bar(shown, 0, "{msg} {bar:30} {percent:>3} %{left}")?;
    let model = session.model().clone();
    // One question of each size; answering them first compiles the passes.
    let mut sizes: Vec<&Question> = questions.iter().collect();
    sizes.sort_by_key(|question| std::cmp::Reverse(question.prompt.len()));
    sizes.dedup_by_key(|question| question.prompt.len().next_power_of_two());
    let sizes: Vec<Question> = sizes.into_iter().cloned().collect();
    let mut tried: Vec<Tried> = Vec::new();
    let mut before = 0;
    for (place, &(steps, rule)) in depths.iter().enumerate() {
        if watch.stopped() {
            break;
        }
        bar.set_message(format!("{}, exit {rule}", counted(steps, "step")));
        // Work per question, in bytes of weights; an exit rule's steps are estimated from its results so far.
        let work = |&(steps, rule): &(u32, Rule)| model.bytes_per_token(expected(&tried, steps, rule));
        let each = work(&(steps, rule));
        let of_depth = each * (sizes.len() + questions.len()) as u64;
        let later: u64 = depths[place + 1..].iter().map(work).sum::<u64>() * (sizes.len() + questions.len()) as u64;
        bar.set_length(before + of_depth + later);
        let show = |earlier: usize, done: usize| {
            bar.set_position(before + (earlier + done) as u64 * each);
            !watch.stopped()
        };
        // Warm-up, so that compiling passes for this depth does not count in the times of the answers.
        session.answer(&sizes, steps, rule.0.as_ref(), &mut |done| show(0, done))?;
        let answered = session.answer(questions, steps, rule.0.as_ref(), &mut |done| show(sizes.len(), done))?;
        before += of_depth;
        tried.push(Tried { steps, rule, answered });
    }
    bar.finish_and_clear();
    Ok(tried)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ruminate::sweep::Answered;

    use super::{Rule, Tried, expected};

    #[test]
    fn expected_steps_of_an_exit_rule_follow_its_earlier_depths() {
        let rule = Rule::parse("kl").expect("a rule");
        let tried = |steps, rule, taken: u64| {
            let answered =
                Answered { right: true, tokens: 2, steps: 2 * taken, nll: 0.0, computed: 3, time: Duration::ZERO };
            Tried { steps, rule, answered: vec![answered] }
        };
        let settled = [tried(16, rule, 7)];
        assert_eq!([expected(&settled, 64, rule), expected(&settled, 4, rule)], [7, 4]);
        assert_eq!(expected(&settled, 64, Rule(None)), 64);
        // At this depth, the rule ended no token early.
        assert_eq!(expected(&[tried(4, rule, 4)], 64, rule), 64);
    }
}
