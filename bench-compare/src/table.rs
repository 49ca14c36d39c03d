//! What was measured, as a Markdown table.

use std::fmt;

/// A median, in the unit that suits it.
#[derive(Clone, Copy)]
pub enum Figure {
    /// Nanoseconds of one call; less is better.
    Time(f64),
    /// Calls of a second; more is better.
    Rate(f64),
    /// How many times the cost of the small case the large one has; less is better.
    Growth(f64),
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Time(ns) if ns < 1e4 => write!(f, "{ns:.0} ns"),
            Self::Time(ns) if ns < 1e6 => write!(f, "{:.1} µs", ns / 1e3),
            Self::Time(ns) => write!(f, "{:.2} ms", ns / 1e6),
            Self::Rate(per_second) => write!(f, "{per_second:.0}/s"),
            Self::Growth(factor) => write!(f, "{factor:.2} ×"),
        }
    }
}

/// How many times better `ours` is than `theirs`.
fn ratio(ours: Figure, theirs: Figure) -> Option<f64> {
    match (ours, theirs) {
        (Figure::Time(ours), Figure::Time(theirs))
        | (Figure::Growth(ours), Figure::Growth(theirs)) => Some(theirs / ours),
        (Figure::Rate(ours), Figure::Rate(theirs)) => Some(ours / theirs),
        _ => None,
    }
}

/// What is asked of a row.
#[derive(Clone, Copy)]
pub enum Target {
    /// The row is there to be looked at.
    None,
    /// Ours is at least so many times better than theirs.
    Ratio(f64),
    /// Ours takes less than so many nanoseconds.
    TimeBelow(f64),
    /// Ours grows at most so many times.
    GrowthWithin(f64),
}

impl Target {
    fn met(self, ours: Figure, theirs: Option<Figure>) -> Option<bool> {
        match (self, ours) {
            (Self::Ratio(least), _) => {
                theirs.and_then(|theirs| ratio(ours, theirs)).map(|it| it >= least)
            }
            (Self::TimeBelow(most), Figure::Time(ours)) => Some(ours < most),
            (Self::GrowthWithin(most), Figure::Growth(ours)) => Some(ours <= most),
            _ => None,
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::None => f.write_str("–"),
            Self::Ratio(least) => write!(f, "≥ {least} ×"),
            Self::TimeBelow(most) => write!(f, "< {}", Figure::Time(most)),
            Self::GrowthWithin(most) => write!(f, "≤ {most} ×"),
        }
    }
}

/// One line of the table.
pub struct Row {
    pub what: String,
    pub ours: Figure,
    pub theirs: Option<(&'static str, Figure)>,
    pub target: Target,
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let theirs = self.theirs.map(|(_, figure)| figure);
        let ratio = theirs.and_then(|theirs| ratio(self.ours, theirs));
        let met = match self.target.met(self.ours, theirs) {
            Some(true) => "yes",
            Some(false) => "**no**",
            None => "–",
        };
        write!(f, "| {} | {} | ", self.what, self.ours)?;
        match self.theirs {
            Some((peer, figure)) => write!(f, "{figure} ({peer})")?,
            None => f.write_str("–")?,
        }
        match ratio {
            Some(ratio) if ratio < 100.0 => write!(f, " | {ratio:.2} ×")?,
            Some(ratio) => write!(f, " | {ratio:.0} ×")?,
            None => f.write_str(" | –")?,
        }
        write!(f, " | {} | {met} |", self.target)
    }
}

/// Prints a table, and under it what a reader has to know.
pub fn print(title: &str, rows: &[Row], notes: &[String]) {
    println!("\n### {title}\n");
    println!("| what | ours | theirs | ours is better by | target | met |");
    println!("|---|---:|---:|---:|---:|---|");
    for row in rows {
        println!("{row}");
    }
    for note in notes {
        println!("\n{note}");
    }
}
