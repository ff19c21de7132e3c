//! Plots, as SVG: written by hand, readable on light and on dark ground.

use std::fmt::Write as _;

use super::timeline::{Fault, Part};
use super::{Run, Second};

const WIDTH: f64 = 960.0;
const HEIGHT: f64 = 320.0;
/// Between the picture's edge and the plot: above, right, below, left.
const MARGIN: (f64, f64, f64, f64) = (46.0, 28.0, 40.0, 76.0);
/// No line has more points: an hour has more seconds than a screen has room for.
pub(super) const MOST_POINTS: usize = 1200;

const STYLE: &str = "
  .ground { fill: #ffffff }
  text { font: 12px system-ui, sans-serif; fill: #1f2328 }
  .title { font-size: 14px; font-weight: 600 }
  .grid { stroke: #d1d9e0; stroke-width: 1; fill: none }
  .line { fill: none; stroke-width: 1.4; stroke-linejoin: round }
  .c0 { stroke: #0550ae } .c1 { stroke: #bc4c00 } .c2 { stroke: #116329 } .c3 { stroke: #8250df }
  .k0 { fill: #0550ae } .k1 { fill: #bc4c00 } .k2 { fill: #116329 } .k3 { fill: #8250df }
  .f0 { fill: #cf222e } .f1 { fill: #9a6700 } .f2 { fill: #8250df } .f3 { fill: #0969da } .f4 { fill: #1f2328 }
  .band { fill-opacity: 0.22 }
  @media (prefers-color-scheme: dark) {
    .ground { fill: #0d1117 }
    text { fill: #f0f6fc }
    .grid { stroke: #3d444d }
    .c0 { stroke: #79c0ff } .c1 { stroke: #ffa657 } .c2 { stroke: #7ee787 } .c3 { stroke: #d2a8ff }
    .k0 { fill: #79c0ff } .k1 { fill: #ffa657 } .k2 { fill: #7ee787 } .k3 { fill: #d2a8ff }
    .f0 { fill: #ff7b72 } .f1 { fill: #e3b341 } .f2 { fill: #d2a8ff } .f3 { fill: #58a6ff } .f4 { fill: #f0f6fc }
    .band { fill-opacity: 0.35 }
  }
";

/// All plots of a run, each with the name of its file.
pub(super) fn all(run: &Run) -> Vec<(&'static str, String)> {
    let throughput = Plot {
        title: "Requests in a second",
        is_log: false,
        unit: "",
        lines: vec![
            Line::of(run, "answered", |second| Some(f64::from(second.good))),
            Line::of(run, "refused or lost", |second| {
                Some(f64::from(second.failed))
            }),
        ],
    };
    let latency = Plot {
        title: "Latency, by clients, of what was answered",
        is_log: true,
        unit: " ms",
        lines: vec![
            Line::worst_of(run, "p99", |second| milliseconds(second.p99)),
            Line::worst_of(run, "p50", |second| milliseconds(second.p50)),
        ],
    };
    let megabytes = |bytes: u64| super::measure::as_float(bytes >> 10) / 976.562_5;
    let mut lines: Vec<_> = (0..run.settings.nodes.min(3))
        .map(|node| {
            let name = format!("node {node}");
            Line::of(run, &name, |second| {
                Some(megabytes((*second.nodes.get(node)?)?))
            })
        })
        .collect();
    lines.push(Line::of(run, "Redis", |second| second.redis.map(megabytes)));
    let memory = Plot {
        title: "Resident memory",
        is_log: false,
        unit: " MB",
        lines,
    };
    vec![
        ("throughput.svg", throughput.drawn(run)),
        ("latency.svg", latency.drawn(run)),
        ("memory.svg", memory.drawn(run)),
    ]
}

fn milliseconds(microseconds: u32) -> Option<f64> {
    (microseconds > 0).then(|| f64::from(microseconds) / 1000.0)
}

struct Plot {
    title: &'static str,
    is_log: bool,
    unit: &'static str,
    lines: Vec<Line>,
}

struct Line {
    name: String,
    /// When, in seconds, and how much; `None` where there is nothing.
    points: Vec<(f64, Option<f64>)>,
}

impl Line {
    /// The mean of the seconds of each point.
    fn of(run: &Run, name: &str, value: impl Fn(&Second) -> Option<f64>) -> Self {
        Self::folded(run, name, value, |values| {
            let count = super::measure::as_float(values.len() as u64);
            values.iter().sum::<f64>() / count
        })
    }

    /// The worst of them.
    fn worst_of(run: &Run, name: &str, value: impl Fn(&Second) -> Option<f64>) -> Self {
        Self::folded(run, name, value, |values| {
            values.iter().copied().fold(0.0, f64::max)
        })
    }

    fn folded(
        run: &Run,
        name: &str,
        value: impl Fn(&Second) -> Option<f64>,
        fold: fn(&[f64]) -> f64,
    ) -> Self {
        let step = run.seconds.len().div_ceil(MOST_POINTS).max(1);
        let points = run.seconds.chunks(step).map(|seconds| {
            let values: Vec<f64> = seconds.iter().filter_map(&value).collect();
            let value = (!values.is_empty()).then(|| fold(&values));
            (seconds[0].at, value)
        });
        Self {
            name: name.to_owned(),
            points: points.collect(),
        }
    }
}

/// Where a plot's values come to lie.
struct Scale {
    is_log: bool,
    low: f64,
    high: f64,
    /// In seconds.
    end: f64,
}

impl Scale {
    fn x(&self, at: f64) -> f64 {
        let width = WIDTH - MARGIN.1 - MARGIN.3;
        MARGIN.3 + width * (at / self.end).clamp(0.0, 1.0)
    }

    fn y(&self, value: f64) -> f64 {
        let height = HEIGHT - MARGIN.0 - MARGIN.2;
        let part = if self.is_log {
            (value / self.low).ln() / (self.high / self.low).ln()
        } else {
            (value - self.low) / (self.high - self.low)
        };
        HEIGHT - MARGIN.2 - height * part.clamp(0.0, 1.0)
    }

    /// The values that are written at the side.
    fn marks(&self) -> Vec<f64> {
        let mut marks = Vec::new();
        if self.is_log {
            let mut mark = self.low;
            while mark <= self.high * 1.001 {
                marks.push(mark);
                mark *= 10.0;
            }
        } else {
            let step = (self.high - self.low) / 4.0;
            let mut mark = self.low;
            while mark <= self.high + step / 2.0 {
                marks.push(mark);
                mark += step;
            }
        }
        marks
    }
}

impl Plot {
    fn scale(&self, run: &Run) -> Scale {
        let values = self.lines.iter().flat_map(|line| &line.points);
        let values: Vec<f64> = values.filter_map(|(_, value)| *value).collect();
        let most = values.iter().copied().fold(1.0, f64::max);
        let (low, high) = if self.is_log {
            let least = values.iter().copied().fold(most, f64::min).max(0.01);
            let high = 10_f64.powf(most.log10().ceil());
            (10_f64.powf(least.log10().floor()).min(high / 10.0), high)
        } else {
            (0.0, round(most))
        };
        Scale {
            is_log: self.is_log,
            low,
            high,
            end: run.took.max(1.0),
        }
    }

    fn drawn(&self, run: &Run) -> String {
        let scale = self.scale(run);
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" width=\"{WIDTH}\" height=\"{HEIGHT}\" role=\"img\" aria-label=\"{}\">\n<style>{STYLE}</style>\n<rect class=\"ground\" width=\"{WIDTH}\" height=\"{HEIGHT}\" rx=\"6\"/>\n",
            self.title
        );
        draw_faults(&mut svg, run, &scale);
        self.draw_grid(&mut svg, &scale);
        self.draw_lines(&mut svg, &scale);
        draw_legend(&mut svg, self);
        svg.push_str("</svg>\n");
        svg
    }

    fn draw_grid(&self, svg: &mut String, scale: &Scale) {
        let (left, right, bottom) = (MARGIN.3, WIDTH - MARGIN.1, HEIGHT - MARGIN.2);
        for mark in scale.marks() {
            let y = scale.y(mark);
            let unit = self.unit;
            put(
                svg,
                format_args!(
                    "<path class=\"grid\" d=\"M{left} {y:.1}H{right}\"/><text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}{unit}</text>\n",
                    left - 8.0,
                    y + 4.0,
                    number(mark)
                ),
            );
        }
        let step = round(scale.end / 10.0).max(1.0);
        let (unit, each) = if scale.end > 300.0 {
            (" min", 60.0)
        } else {
            (" s", 1.0)
        };
        let step = if each > 1.0 {
            (step / 60.0).ceil() * 60.0
        } else {
            step
        };
        let mut at = 0.0;
        while at <= scale.end {
            let x = scale.x(at);
            put(
                svg,
                format_args!(
                    "<path class=\"grid\" d=\"M{x:.1} {bottom}v5\"/><text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}{unit}</text>\n",
                    bottom + 20.0,
                    number(at / each)
                ),
            );
            at += step;
        }
    }

    fn draw_lines(&self, svg: &mut String, scale: &Scale) {
        for (color, line) in self.lines.iter().enumerate() {
            let mut path = String::new();
            let mut is_drawn = false;
            for (at, value) in &line.points {
                let Some(value) = value else {
                    is_drawn = false;
                    continue;
                };
                let step = if is_drawn { 'L' } else { 'M' };
                put(
                    &mut path,
                    format_args!("{step}{:.1} {:.1}", scale.x(*at), scale.y(*value)),
                );
                is_drawn = true;
            }
            put(
                svg,
                format_args!("<path class=\"line c{color}\" d=\"{path}\"/>\n"),
            );
        }
    }
}

/// Each fault is a band over its time, or a line where it took none.
fn draw_faults(svg: &mut String, run: &Run, scale: &Scale) {
    for fault in &run.faults {
        let Fault {
            kind,
            detail,
            start,
            end,
            ..
        } = fault;
        let from = scale.x(*start);
        let width = (scale.x(end.unwrap_or(run.took)) - from).max(1.0);
        let height = HEIGHT - MARGIN.0 - MARGIN.2;
        let part = part_number(kind.part());
        let detail = if detail.is_empty() {
            String::new()
        } else {
            format!(": {detail}")
        };
        put(
            svg,
            format_args!(
                "<rect class=\"band f{part}\" x=\"{from:.1}\" y=\"{}\" width=\"{width:.1}\" height=\"{height}\"><title>{kind}{detail}</title></rect>\n",
                MARGIN.0
            ),
        );
    }
}

fn draw_legend(svg: &mut String, plot: &Plot) {
    put(
        svg,
        format_args!(
            "<text class=\"title\" x=\"{}\" y=\"22\">{}</text>\n",
            MARGIN.3, plot.title
        ),
    );
    let mut x = MARGIN.3;
    for (color, line) in plot.lines.iter().enumerate() {
        put(
            svg,
            format_args!(
                "<rect class=\"k{color}\" x=\"{x:.0}\" y=\"32\" width=\"12\" height=\"4\"/><text x=\"{:.0}\" y=\"38\">{}</text>\n",
                x + 17.0,
                line.name
            ),
        );
        x += 37.0 + 7.0 * length(&line.name);
    }
    let mut x = WIDTH - MARGIN.1;
    for part in Part::ALL.into_iter().rev() {
        x -= 37.0 + 7.0 * length(part.name());
        put(
            svg,
            format_args!(
                "<rect class=\"band f{}\" x=\"{x:.0}\" y=\"28\" width=\"12\" height=\"12\"/><text x=\"{:.0}\" y=\"38\">{}</text>\n",
                part_number(part),
                x + 17.0,
                part.name()
            ),
        );
    }
}

fn part_number(part: Part) -> usize {
    let place = Part::ALL.into_iter().position(|known| known == part);
    place.unwrap_or_default()
}

fn length(text: &str) -> f64 {
    super::measure::as_float(text.len() as u64)
}

/// The next number that reads well.
fn round(value: f64) -> f64 {
    let power = 10_f64.powf(value.max(1e-9).log10().floor());
    let steps = [1.0, 2.0, 4.0, 5.0, 10.0];
    let step = steps.into_iter().find(|step| step * power >= value);
    step.unwrap_or(10.0) * power
}

fn number(value: f64) -> String {
    match value {
        value if value >= 10.0 || value.fract() < 0.001 => format!("{value:.0}"),
        value => format!("{value:.2}").trim_end_matches('0').to_owned(),
    }
}

/// Writing to text does not fail.
fn put(svg: &mut String, text: std::fmt::Arguments<'_>) {
    let _ = svg.write_fmt(text);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scales_end_at_numbers_that_read_well() {
        for (value, rounded) in [
            (1.0, 1.0),
            (3.1, 4.0),
            (980.0, 1000.0),
            (1001.0, 2000.0),
            (0.3, 0.4),
        ] {
            assert!((round(value) - rounded).abs() < 1e-9, "{value}");
        }
        assert_eq!(["0", "0.5", "250"], [0.0, 0.5, 250.0].map(number));
    }

    #[test]
    fn larger_values_lie_higher() {
        for is_log in [false, true] {
            let scale = Scale {
                is_log,
                low: 0.1,
                high: 1000.0,
                end: 60.0,
            };
            assert!(scale.y(10.0) < scale.y(1.0));
            assert!((scale.y(1000.0) - MARGIN.0).abs() < 1e-9);
            assert!(scale.x(60.0) > scale.x(30.0));
        }
    }
}
