//! Result rows: one per task, depth and exit rule.

use ruminate::sweep::{Problem, Tally};

use super::{Rule, Tried};

/// Task name of rows over all tasks.
pub(super) const ALL: &str = "all";

/// Results of one task at one depth and exit rule.
pub(super) struct Row {
    pub(super) task: String,
    pub(super) steps: u32,
    pub(super) rule: Rule,
    pub(super) tally: Tally,
}

/// Builds the rows of every task, then those of all tasks together; within a task, ordered by exit rule, then by depth.
pub(super) fn rows(problems: &[Problem], tried: &[Tried], split: bool) -> Vec<Row> {
    let mut groups: Vec<String> = Vec::new();
    let mut names = Vec::new();
    for problem in problems {
        let half = match problem.hard {
            Some(hard) if split => {
                if hard {
                    ", hard"
                } else {
                    ", easy"
                }
            }
            _ => "",
        };
        let name = format!("{}{half}", problem.task);
        if !groups.contains(&name) {
            groups.push(name.clone());
        }
        names.push(name);
    }
    if groups.len() > 1 {
        groups.push(ALL.to_owned());
    }
    let row = |task: &String, tried: &Tried| {
        let mut tally = Tally::default();
        let of = tried.answered.iter().zip(&names).filter(|(_, name)| *name == task || task == ALL);
        of.for_each(|(answered, _)| tally.add(answered));
        Row { task: task.clone(), steps: tried.steps, rule: tried.rule, tally }
    };
    let rows = groups.iter().flat_map(|task| tried.iter().map(move |tried| row(task, tried)));
    rows.filter(|row| row.tally.answers > 0).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ruminate::sweep::{Answered, Problem};

    use super::{Rule, Tried, rows};

    #[test]
    fn rows_cover_each_task_and_all_tasks_together() {
        let problem =
            |task: &str, hard| Problem { task: task.to_owned(), prompt: "p".into(), answer: "a".into(), hard };
        let problems = [problem("x", Some(true)), problem("y", None), problem("x", Some(false))];
        let answered =
            |right| Answered { right, tokens: 1, steps: 4, nll: 0.5, computed: 3, time: Duration::from_secs(1) };
        let tried =
            [Tried { steps: 4, rule: Rule(None), answered: vec![answered(true), answered(false), answered(true)] }];
        let found: Vec<_> = rows(&problems, &tried, false).into_iter().map(|row| (row.task, row.tally.right)).collect();
        assert_eq!(found, [("x".to_owned(), 2), ("y".to_owned(), 0), ("all".to_owned(), 2)]);
        let split: Vec<_> = rows(&problems, &tried, true).into_iter().map(|row| row.task).collect();
        assert_eq!(split, ["x, hard", "y", "x, easy", "all"]);
    }
}
