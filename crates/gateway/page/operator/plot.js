// Curves, drawn as SVG. One unit of the drawing is one pixel of the page.

const SVG = "http://www.w3.org/2000/svg";
const HEIGHT = 176;
const LEFT = 52;
const BOTTOM = 20;
const TOP = 8;
const LINES = 4;

/// Draws curves over each other. Each is `{ dye, values, filled }` with one value, or null, for a step; the last one is now.
export function plot(into, curves, step, write) {
  const width = Math.max(into.clientWidth, 200);
  const count = Math.max(...curves.map(({ values }) => values.length), 2);
  const top = ceiling(Math.max(...curves.flatMap(({ values }) => values.map((value) => value ?? 0))));
  const x = (at) => LEFT + (at / (count - 1)) * (width - LEFT - 2);
  const y = (value) => HEIGHT - BOTTOM - (value / top) * (HEIGHT - BOTTOM - TOP);
  const svg = element("svg", { viewBox: `0 0 ${width} ${HEIGHT}`, role: "img", preserveAspectRatio: "none" });

  for (let line = 0; line <= LINES; line += 1) {
    const value = (top / LINES) * line;
    svg.append(
      element("line", { class: "grid", x1: LEFT, x2: width, y1: y(value), y2: y(value) }),
      element("text", { x: LEFT - 8, y: y(value) + 4, "text-anchor": "end" }, write(value)),
    );
  }
  for (let minute = 0; minute * 60 < count * step; minute += 1) {
    const at = x(count - 1 - (minute * 60) / step);
    const anchor = minute === 0 ? "end" : "middle";
    const said = minute === 0 ? "now" : `${minute} min`;
    svg.append(element("text", { x: at, y: HEIGHT - 4, "text-anchor": anchor }, said));
  }
  for (const { dye, values, filled } of curves) {
    for (const { from, run } of runs(values)) {
      const points = run.map((value, at) => `${x(from + at).toFixed(1)},${y(value).toFixed(1)}`);
      if (filled) {
        const ends = [`${x(from)},${y(0)}`, ...points, `${x(from + run.length - 1)},${y(0)}`];
        svg.append(element("polygon", { class: `area ${dye}`, points: ends.join(" ") }));
      }
      if (run.length === 1) {
        svg.append(element("circle", { class: `dot ${dye}`, cx: x(from), cy: y(run[0]), r: 2 }));
      } else {
        svg.append(element("polyline", { class: `curve ${dye}`, points: points.join(" ") }));
      }
    }
  }
  into.replaceChildren(svg);
}

/// The parts of a curve that have no gap.
function runs(values) {
  const found = [];
  let run = null;
  values.forEach((value, at) => {
    if (value === null) run = null;
    else if (run) run.run.push(value);
    else found.push((run = { from: at, run: [value] }));
  });
  return found;
}

/// A round number that is no less, whose quarters are round, too.
function ceiling(value) {
  if (value <= 0) return 4;
  const unit = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 4, 6, 8, 10].map((times) => times * unit).find((round) => round >= value);
}

function element(name, attributes, text) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  return made;
}
