//! What was measured, against what, and what was wanted.

use std::fmt;
use std::fs;
use std::path::PathBuf;

use serde::Serialize;

use crate::Outcome;

/// What a measurement should come to: its ratio, or where there is none the value itself.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Goal {
    AtMost(f64),
    AtLeast(f64),
}

impl Goal {
    fn is_met(self, value: f64) -> bool {
        match self {
            Self::AtMost(most) => value <= most,
            Self::AtLeast(least) => value >= least,
        }
    }
}

impl fmt::Display for Goal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtMost(most) => write!(f, "≤ {most}"),
            Self::AtLeast(least) => write!(f, "≥ {least}"),
        }
    }
}

/// One measurement.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Entry {
    id: String,
    unit: &'static str,
    median: f64,
    /// The median of what it is measured against.
    baseline: Option<f64>,
    /// `median / baseline`.
    ratio: Option<f64>,
    /// The id of what it is measured against.
    against: Option<String>,
    goal: Option<Goal>,
    pass: Option<bool>,
}

impl Entry {
    /// Something that others are measured against.
    pub(crate) fn raw(id: impl Into<String>, unit: &'static str, median: f64) -> Self {
        Self {
            id: id.into(),
            unit,
            median,
            baseline: None,
            ratio: None,
            against: None,
            goal: None,
            pass: None,
        }
    }

    /// Something with a goal of its own.
    pub(crate) fn absolute(
        id: impl Into<String>,
        unit: &'static str,
        median: f64,
        goal: Goal,
    ) -> Self {
        Self {
            goal: Some(goal),
            pass: Some(goal.is_met(median)),
            ..Self::raw(id, unit, median)
        }
    }

    /// Something that is measured against another entry.
    pub(crate) fn compared(id: impl Into<String>, median: f64, to: &Self) -> Self {
        Self {
            baseline: Some(to.median),
            ratio: Some(median / to.median),
            against: Some(to.id.clone()),
            ..Self::raw(id, to.unit, median)
        }
    }

    /// The same, with a goal for the ratio.
    pub(crate) fn relative(id: impl Into<String>, median: f64, to: &Self, goal: Goal) -> Self {
        let compared = Self::compared(id, median, to);
        Self {
            goal: Some(goal),
            pass: compared.ratio.map(|ratio| goal.is_met(ratio)),
            ..compared
        }
    }

    pub(crate) fn is(&self, id: &str) -> bool {
        self.id == id
    }
}

/// All measurements of a run.
#[derive(Debug, Default)]
pub(crate) struct Report(Vec<Entry>);

impl Report {
    pub(crate) fn extend(&mut self, entries: impl IntoIterator<Item = Entry>) {
        self.0.extend(entries);
    }

    /// Writes `bench/report.json` into the target folder that this program was built into.
    pub(crate) fn write(&self) -> Outcome {
        let folder = target()?.join("bench");
        fs::create_dir_all(&folder)?;
        let file = folder.join("report.json");
        fs::write(&file, serde_json::to_vec_pretty(&self.0)?)?;
        println!("\n{}", file.display());
        Ok(())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<34} {:>12} {:<10} {:>8}  {:<26} {:<8} goal met",
            "id", "median", "", "ratio", "against", "goal"
        )?;
        for entry in &self.0 {
            let ratio = entry.ratio.map(|ratio| format!("{ratio:.3}"));
            let goal = entry.goal.map(|goal| goal.to_string());
            let met = entry.pass.map(|pass| if pass { "yes" } else { "NO" });
            writeln!(
                f,
                "{:<34} {:>12.2} {:<10} {:>8}  {:<26} {:<8} {}",
                entry.id,
                entry.median,
                entry.unit,
                ratio.unwrap_or_default(),
                entry.against.as_deref().unwrap_or_default(),
                goal.unwrap_or_default(),
                met.unwrap_or_default(),
            )?;
        }
        Ok(())
    }
}

/// The target folder: this program is `<target>/release/bulla-benches`.
pub(crate) fn target() -> Outcome<PathBuf> {
    let program = std::env::current_exe()?;
    let folder = program.ancestors().nth(2);
    Ok(folder
        .ok_or("this program is in no target folder")?
        .to_owned())
}
