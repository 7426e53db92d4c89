//! The table: medians, ratios, and what was promised.

use crate::{Row, machine, peers};

fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().filter(|v| !v.is_nan()).collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

pub(crate) fn print(rows: &[Row]) {
    machine::print(peers::NAMES);
    println!("| workload | unit | {} | must | stretch |", peers::NAMES.join(" | "));
    println!("|---|---|{}---|---|", "---:|".repeat(peers::NAMES.len()));
    for row in rows {
        let ours = &row.figures[0].1;
        let cells: Vec<String> = peers::NAMES
            .iter()
            .map(|name| match row.figures.iter().find(|(n, _)| n == name) {
                None => "–".to_owned(),
                Some((_, values)) if std::ptr::eq(values, ours) => format!("**{:.1}**", median(values.iter().copied())),
                Some((_, values)) => {
                    let failed = values.iter().filter(|v| v.is_nan()).count();
                    let ratio = median(values.iter().zip(ours).map(|(theirs, ours)| theirs / ours));
                    let note = if failed > 0 { format!(", {failed} timed out") } else { String::new() };
                    format!("{:.1} ({ratio:.1}x{note})", median(values.iter().copied()))
                }
            })
            .collect();
        let ours = median(ours.iter().copied());
        let verdict = |limit: Option<f64>| match limit {
            None => String::new(),
            Some(limit) if ours <= limit => format!("≤ {limit}: met"),
            Some(limit) => format!("≤ {limit}: MISSED"),
        };
        let w = row.workload;
        println!("| {} | {} | {} | {} | {} |", w.name, w.unit, cells.join(" | "), verdict(w.must), verdict(w.stretch));
    }
}
