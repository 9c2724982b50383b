// Charts as SVG and boxes, each with its numbers as text. Nothing is ever parsed as markup.

const SVG = "http://www.w3.org/2000/svg";
const number = new Intl.NumberFormat("en");
const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit" });

export function element(name, properties = {}, ...children) {
  const made = document.createElement(name);
  Object.assign(made, properties);
  made.append(...children);
  return made;
}

function shape(name, attributes, ...children) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

function legend(models) {
  return element("ul", { className: "legend" },
    ...models.map((model, index) => element("li", {}, element("i", { className: `s${index % 6}` }), model)));
}

// Tokens by model in stretches of time, one column each.
export function timeChart({ from, step, models }) {
  const names = Object.keys(models);
  if (!names.length) return element("p", { className: "quiet", textContent: "No tokens are recorded." });
  const count = models[names[0]].length;
  const sums = Array.from({ length: count }, (_, at) => names.reduce((sum, name) => sum + models[name][at], 0));
  const highest = Math.max(...sums, 1);
  const [width, height, left, below] = [640, 150, 48, 18];
  const total = sums.reduce((sum, each) => sum + each, 0);
  const svg = shape("svg", {
    viewBox: `0 0 ${width} ${height + below}`, role: "img",
    "aria-label": `${number.format(total)} tokens by ${names.join(", ")} from ${clock.format(from)}`,
  });
  for (const part of [0, 0.5, 1]) {
    const y = 8 + (height - 8) * (1 - part);
    svg.append(shape("line", { x1: left, x2: width, y1: y, y2: y, stroke: "var(--line)" }));
    svg.append(shape("text", { x: left - 6, y: y + 4, "text-anchor": "end" }, number.format(Math.round(highest * part))));
  }
  const room = (width - left) / count;
  for (let at = 0; at < count; at++) {
    let y = height;
    names.forEach((name, index) => {
      const high = (height - 8) * models[name][at] / highest;
      if (!high) return;
      y -= high;
      const box = { x: left + at * room + room * 0.1, y, width: Math.min(room * 0.8, 40), height: high, rx: 1.5, class: `s${index % 6}` };
      svg.append(shape("rect", box, shape("title", {}, `${name}: ${number.format(models[name][at])}`)));
    });
  }
  svg.append(shape("text", { x: left, y: height + 14 }, clock.format(from)));
  svg.append(shape("text", { x: width, y: height + 14, "text-anchor": "end" }, clock.format(from + step * count)));
  return element("div", {}, svg, legend(names));
}

// Tokens of sessions, one bar each, its models side by side.
export function sessionBars(rows, open) {
  if (!rows.length) return element("p", { className: "quiet", textContent: "No usage is recorded." });
  const names = [...new Set(rows.flatMap((row) => Object.keys(row.byModel)))].sort();
  const most = Math.max(...rows.map((row) => row.total), 1);
  const bars = element("div", { className: "bars" });
  for (const row of rows) {
    const bar = element("div", { className: "bar" });
    names.forEach((name, index) => {
      const tokens = row.byModel[name]?.total ?? 0;
      if (!tokens) return;
      const part = element("div", { className: `s${index % 6}`, title: `${name}: ${number.format(tokens)}` });
      part.style.width = `${100 * tokens / most}%`;
      bar.append(part);
    });
    bars.append(
      element("button", { type: "button", className: "name", textContent: row.id, onclick: () => open(row.id) }),
      bar, element("span", { textContent: number.format(row.total) }));
  }
  return element("div", {}, legend(names), bars);
}
