//! The one table that comes out.

use std::time::Duration;

const HEAD: [&str; 5] = ["case", "tidegate", "bare relay", "ratio", "first bar"];

#[derive(Default)]
pub struct Table(Vec<[String; 5]>);

/// What a figure should be below.
pub struct Bar {
    pub text: String,
    pub met: bool,
}

impl Bar {
    pub fn below(value: f64, limit: f64, unit: &str) -> Self {
        Self { text: format!("< {limit} {unit}"), met: value < limit }
    }

    fn verdict(&self) -> String {
        format!("{} {}", self.text, if self.met { "(met)" } else { "(MISSED)" })
    }
}

impl Table {
    /// A figure that has nothing to be compared with.
    pub fn alone(&mut self, case: &str, value: String, bar: Option<Bar>) {
        self.beside(case, value, String::new(), String::new(), bar);
    }

    /// A figure beside the relay's.
    pub fn beside(&mut self, case: &str, ours: String, relay: String, ratio: String, bar: Option<Bar>) {
        let verdict = bar.map_or(String::new(), |bar| bar.verdict());
        eprintln!("  {case}: {ours}{}", if relay.is_empty() { String::new() } else { format!(" ({relay})") });
        self.0.push([case.to_owned(), ours, relay, ratio, verdict]);
    }

    pub fn print(&self) {
        let head = HEAD.map(str::to_owned);
        let width =
            |column: usize| self.0.iter().chain([&head]).map(|row| row[column].len()).max().unwrap_or(0);
        let widths: [usize; 5] = std::array::from_fn(width);
        let line = |row: &[String; 5]| {
            let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
            println!("| {} |", cells.collect::<Vec<_>>().join(" | "));
        };
        line(&head);
        line(&widths.map(|width| "-".repeat(width)));
        self.0.iter().for_each(line);
    }
}

pub fn ms(time: Duration) -> String {
    let ms = time.as_secs_f64() * 1e3;
    if ms < 10.0 { format!("{ms:.2} ms") } else { format!("{ms:.1} ms") }
}

pub fn mb(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}

pub fn median(times: &mut [Duration]) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}
