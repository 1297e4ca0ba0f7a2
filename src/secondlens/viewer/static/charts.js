// Charts as SVG: histograms whose bars are links, and medians with quartiles by layer.

import { h, s } from "./dom.js";
import { count } from "./format.js";

const WIDE = 320;

/** Edges of so many equal bins over the values (of their logarithms with `log`); zeros are left out of a log scale. */
export function binEdges(arrays, bins, log = false) {
  let [low, high] = [Infinity, -Infinity];
  for (const values of arrays) {
    for (const value of values) {
      if (!Number.isFinite(value) || (log && value <= 0)) continue;
      if (value < low) low = value;
      if (value > high) high = value;
    }
  }
  if (low > high) return [];
  if (low === high) return [low, high];
  const [from, to] = log ? [Math.log(low), Math.log(high)] : [low, high];
  const edges = Array.from({ length: bins + 1 }, (_, place) => from + ((to - from) * place) / bins);
  return log ? edges.map(Math.exp).with(0, low).with(-1, high) : edges.with(-1, high);
}

/** How many values lie in each bin; the last bin holds its upper edge. */
export function counts(values, edges) {
  const found = new Array(Math.max(0, edges.length - 1)).fill(0);
  const top = edges.at(-1);
  for (const value of values) {
    if (!(value >= edges[0] && value <= top)) continue;
    let [low, high] = [0, found.length - 1];
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (edges[middle] <= value) low = middle;
      else high = middle - 1;
    }
    found[low] += 1;
  }
  return found;
}

/**
 * Bars that are links. One of them takes part in the order of the Tab key; arrow keys go to its neighbours.
 * bars: [{count, from, to, href, label}]; write: how the axis writes a value.
 */
export function linkedBars(bars, { label, write, height = 72 }) {
  const most = Math.max(1, ...bars.map((bar) => bar.count));
  const step = WIDE / Math.max(1, bars.length);
  const links = bars.map((bar, place) => {
    const tall = (bar.count / most) * height;
    return s("a", { href: bar.href, tabindex: place === 0 ? 0 : -1, "aria-label": bar.label, class: "bar-link" },
      s("title", {}, bar.label),
      s("rect", { class: "hit", x: place * step, y: 0, width: step, height }),
      s("rect", { class: "fill", x: place * step + 0.5, y: height - tall, width: Math.max(1, step - 1), height: tall }));
  });
  const chart = s("svg", { class: "bars", viewBox: `0 0 ${WIDE} ${height}`, role: "group", "aria-label": label,
    preserveAspectRatio: "none", onkeydown: (event) => rove(event, links) }, links);
  return h("div", { class: "chart" }, chart, bars.length > 0 && axis(bars[0].from, bars.at(-1).to, write));
}

function rove(event, links) {
  const here = links.indexOf(document.activeElement);
  const next = { ArrowLeft: here - 1, ArrowRight: here + 1, Home: 0, End: links.length - 1 }[event.key];
  if (here < 0 || next === undefined || !links[next]) return;
  event.preventDefault();
  links[here].setAttribute("tabindex", -1);
  links[next].setAttribute("tabindex", 0);
  links[next].focus();
}

function axis(from, to, write) {
  return h("div", { class: "axis", "aria-hidden": "true" }, h("span", {}, write(from)), h("span", {}, write(to)));
}

/** Quantile of values that are sorted in rising order. */
export function quantile(sorted, share) {
  if (sorted.length === 0) return NaN;
  const place = share * (sorted.length - 1);
  const below = Math.floor(place);
  const above = Math.min(sorted.length - 1, below + 1);
  return sorted[below] + (sorted[above] - sorted[below]) * (place - below);
}

/** The finite values in rising order. */
export function sorted(values) {
  return Float32Array.from(values.filter(Number.isFinite)).sort();
}

/** Median with quartiles by layer. rows: [{name, low, middle, high}]. */
export function quartiles(rows, { label, write, height = 120 }) {
  const top = Math.max(...rows.map((row) => row.high), 0) || 1;
  const x = (place) => ((place + 0.5) / rows.length) * WIDE;
  const y = (value) => height - 6 - (value / top) * (height - 12);
  const line = rows.map((row, place) => `${x(place)},${y(row.middle)}`).join(" ");
  const marks = rows.map((row, place) => s("g", {},
    s("title", {}, `${row.name}: median ${write(row.middle)}, half of the neurons from ${write(row.low)} to ${write(row.high)}`),
    s("line", { class: "whisker", x1: x(place), x2: x(place), y1: y(row.low), y2: y(row.high) }),
    s("circle", { class: "dot", cx: x(place), cy: y(row.middle), r: 4 })));
  const said = rows.map((row) => `${row.name}: ${write(row.middle)}`).join(", ");
  return h("div", { class: "chart" },
    s("svg", { class: "quartiles", viewBox: `0 0 ${WIDE} ${height}`, role: "img", "aria-label": `${label}. ${said}` },
      s("line", { class: "ground", x1: 0, x2: WIDE, y1: y(0), y2: y(0) }),
      s("polyline", { class: "through", points: line }), marks),
    h("div", { class: "ticks", "aria-hidden": "true" }, rows.map((row) => h("span", {}, row.tick ?? row.name))));
}

/** A histogram on given bins with a line at a threshold; not interactive. */
export function histogram(values, edges, threshold, { label, write, height = 120 }) {
  const first = values.findIndex((value) => value > 0);
  if (first < 0) return h("p", { class: "quiet" }, "No image has an effect.");
  const last = values.findLastIndex((value) => value > 0) + 1;
  const shown = values.slice(first, last);
  const most = Math.max(...shown);
  const step = WIDE / shown.length;
  const total = values.reduce((sum, value) => sum + value, 0);
  // Bins are equal in the logarithm, and so is the place of the threshold among them.
  const share = (Math.log(threshold) - Math.log(edges[first])) / (Math.log(edges[last]) - Math.log(edges[first]));
  const x = Math.min(1, Math.max(0, share)) * WIDE;
  const bars = Array.from(shown, (value, place) => s("rect", { class: "fill", x: place * step + 0.5,
    y: height - (value / most) * height, width: Math.max(0.5, step - 1), height: (value / most) * height },
    s("title", {}, `${count(value)} images from ${write(edges[first + place])} to ${write(edges[first + place + 1])}`)));
  return h("div", { class: "chart" },
    s("svg", { class: "bars", viewBox: `0 0 ${WIDE} ${height}`, preserveAspectRatio: "none", role: "img",
      "aria-label": `${label}: ${count(total)} images, threshold ${write(threshold)}` },
      bars, threshold > 0 && s("line", { class: "threshold", x1: x, x2: x, y1: 0, y2: height })),
    axis(edges[first], edges[last], write));
}
