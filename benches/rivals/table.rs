//! Figures to one Markdown table.

use crate::contest::Outcome;
use crate::machine::median;
use crate::rows::{Bar, CONTESTANTS, Row};
use std::iter;

/// A row's figures, by contestant as in [`CONTESTANTS`].
struct Cell {
    figure: f64,
    /// To ours, round by round.
    ratio: Option<f64>,
}

/// A finished row: its cells as text, and how many of its musts were met of how many.
pub(crate) struct Line {
    cells: Vec<String>,
    pub(crate) met: usize,
    pub(crate) musts: usize,
}

/// Works out one row.
pub(crate) fn line(row: &Row, outcomes: &[Vec<Outcome>], is_system: bool) -> Line {
    let cells: Vec<Option<Cell>> = outcomes.iter().map(|theirs| cell(theirs, &outcomes[0])).collect();
    let mut text = vec![row.name.to_owned(), row.unit().to_owned()];
    text.extend(cells.iter().zip(outcomes).map(|(cell, outcomes)| cell_text(row, cell.as_ref(), outcomes)));
    let (musts, met) = verdicts(row, row.musts, &cells, is_system);
    let (goals, _) = verdicts(row, row.goals, &cells, is_system);
    text.extend([musts, goals]);
    Line { cells: text, met, musts: row.musts.len() }
}

fn cell(theirs: &[Outcome], ours: &[Outcome]) -> Option<Cell> {
    let figure = |outcome: &Outcome| match outcome {
        Outcome::Figure(figure) => Some(*figure),
        _ => None,
    };
    let figures: Vec<f64> = theirs.iter().filter_map(figure).collect();
    if figures.is_empty() {
        return None;
    }
    let rounds = theirs.iter().map(figure).zip(ours.iter().map(figure));
    let ratios: Vec<f64> =
        rounds.filter_map(|(theirs, ours)| Some(theirs? / ours.filter(|ours| *ours > 0.0)?)).collect();
    let ratio = if ratios.is_empty() { None } else { Some(median(ratios)) };
    Some(Cell { figure: median(figures), ratio })
}

fn cell_text(row: &Row, cell: Option<&Cell>, outcomes: &[Outcome]) -> String {
    let mut text = match cell {
        Some(Cell { figure, ratio }) => {
            let figure = format!("{figure:.*}", row.digits());
            // Ours to ours says nothing, and a ratio of counts near zero neither.
            match ratio.filter(|ratio| *ratio != 1.0 && row.digits() < 3) {
                Some(ratio) => format!("{figure} ({})", times(ratio)),
                None => figure,
            }
        }
        None => "–".to_owned(),
    };
    let late = outcomes.iter().filter(|outcome| matches!(outcome, Outcome::TimedOut)).count();
    let failed = outcomes.iter().filter(|outcome| matches!(outcome, Outcome::Failed)).count();
    for (n, what) in [(late, "timed out"), (failed, "failed")] {
        if n > 0 {
            text += &format!(" [{n} {what}]");
        }
    }
    text
}

fn times(ratio: f64) -> String {
    if ratio < 10.0 { format!("{ratio:.2}x") } else { format!("{ratio:.0}x") }
}

/// Each bar with its verdict, and how many were met.
fn verdicts(row: &Row, bars: &[Bar], cells: &[Option<Cell>], is_system: bool) -> (String, usize) {
    let verdicts: Vec<(String, bool)> = bars.iter().map(|bar| verdict(row, bar, cells, is_system)).collect();
    let met = verdicts.iter().filter(|(_, is_met)| *is_met).count();
    (verdicts.into_iter().map(|(text, _)| text).collect::<Vec<_>>().join("; "), met)
}

fn verdict(row: &Row, bar: &Bar, cells: &[Option<Cell>], is_system: bool) -> (String, bool) {
    let ours = cells[0].as_ref().map(|cell| cell.figure);
    let ratio_to = |name: &str| {
        let at = CONTESTANTS.iter().position(|contestant| *contestant == name)?;
        cells[at].as_ref()?.ratio
    };
    let at_least = |name: &str, least: f64| {
        let ratio = ratio_to(name);
        (format!("≥ {least}x {name}"), ratio.map(|ratio| (ratio >= least, times(ratio))))
    };
    let figure = |ours: f64| format!("{ours:.*}", row.digits());
    let (text, found) = match *bar {
        Bar::AtMost(most) => (format!("≤ {most}"), ours.map(|ours| (ours <= most, figure(ours)))),
        Bar::Nothing => ("0".to_owned(), ours.map(|ours| (ours < 0.0005, figure(ours)))),
        Bar::Times(name, least) => at_least(name, least),
        Bar::TimesBy(name, mimalloc, system) => at_least(name, if is_system { system } else { mimalloc }),
        Bar::Within(name, most) => {
            let ratio = ratio_to(name).map(|ratio| 1.0 / ratio);
            (format!("≤ {most}x {name}"), ratio.map(|ratio| (ratio <= most, times(ratio))))
        }
    };
    match found {
        None => (format!("{text} not run"), false),
        Some((true, _)) => (format!("{text} met"), true),
        Some((false, found)) => (format!("{text} MISSED ({found})"), false),
    }
}

/// The whole table.
pub(crate) fn render(lines: &[Line]) -> String {
    let head = ["workload", "unit"].into_iter().chain(CONTESTANTS).chain(["must", "goal"]).map(str::to_owned).collect();
    let rows: Vec<&Vec<String>> = iter::once(&head).chain(lines.iter().map(|line| &line.cells)).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let print = |row: &Vec<String>| {
        let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, &width)| format!("{cell:width$}")).collect();
        format!("| {} |\n", cells.join(" | "))
    };
    let rule: Vec<String> = widths.iter().map(|width| "-".repeat(*width)).collect();
    let mut text = print(&head) + &print(&rule);
    text.extend(lines.iter().map(|line| print(&line.cells)));
    text
}
