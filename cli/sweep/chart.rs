//! Lines of the chart: accuracy over steps, for each task and exit rule.

use super::Swept;
use super::rows::{ALL, Row};
use crate::words::counted;

/// Line of the chart.
pub(super) struct Line<'a> {
    /// Task, and the exit rule if there are several.
    pub(super) name: String,
    /// Index of the task, or of the rule if there is only one task, which selects the color; `None` for all tasks together.
    pub(super) color: Option<usize>,
    /// Index of the exit rule, which selects the dashes and the shape of points.
    pub(super) rule: usize,
    /// Rows, sorted by depth.
    pub(super) rows: Vec<&'a Row>,
}

/// Groups all rows into lines.
pub(super) fn lines<'a>(swept: &'a Swept<'_>) -> Vec<Line<'a>> {
    let (mut tasks, mut rules) = (Vec::new(), Vec::new());
    for row in &swept.rows {
        if !tasks.contains(&row.task.as_str()) {
            tasks.push(row.task.as_str());
        }
        if !rules.contains(&row.rule) {
            rules.push(row.rule);
        }
    }
    let mut lines = Vec::new();
    for (at, task) in tasks.iter().enumerate() {
        for (place, rule) in rules.iter().enumerate() {
            let rows = swept.rows.iter().filter(|row| row.task == *task && row.rule == *rule);
            let mut rows: Vec<&Row> = rows.collect();
            rows.sort_by_key(|row| row.steps);
            let name = if rules.len() > 1 { format!("{task}, exit {rule}") } else { (*task).to_owned() };
            let color = if tasks.len() == 1 { Some(place) } else { (*task != ALL).then_some(at) };
            lines.push(Line { name, color, rule: place, rows });
        }
    }
    lines.retain(|line| !line.rows.is_empty());
    lines
}

/// Title of the chart.
pub(super) fn title(swept: &Swept<'_>) -> String {
    let (model, device) = (swept.model.dtypes(), swept.model.device().name());
    format!("{} · seed {} · weights in {model} · {device}", counted(swept.problems, "problem"), swept.seed)
}
