// The charts of the window: one line each, with the same time axis and one
// cursor for all.
import { clock, duration, number, withUnit } from "./format.js";
import { onTheme, tone } from "./theme.js";

// top is the smallest maximum of the y axis, which begins at 0.
const charts = [
  { key: "latency_ms", title: "Latency", unit: "ms", tone: "latency", top: 1 },
  { key: "throughput_pairs_s", title: "Throughput", unit: "pairs/s", tone: "throughput", top: 10 },
  { key: "queue_wait_ms", title: "Queue wait", unit: "ms", tone: "queue", top: 0.1 },
  { key: "tokenization_ms", title: "Tokenisation", unit: "ms", tone: "tokenize", top: 0.1 },
  { key: "inference_ms", title: "Inference", unit: "ms", tone: "inference", top: 1 },
  { key: "device_busy_pct", title: "Device busy", unit: "%", tone: "busy", top: 100 },
  { key: "cpu_usage_pct", title: "CPU", unit: "%", tone: "cpu", top: 100 },
  { key: "gpu_memory_mb", title: "MLX memory", unit: "MB", tone: "memory", top: 10 },
  { key: "gpu_utilization_pct", title: "GPU utilization", unit: "%", tone: "gpu", top: 100, absent: "Measured on macOS only, while the engine is active" },
  { key: "padding_waste_pct", title: "Padding", unit: "%", tone: "padding", top: 10 },
];

const shortest = 60; // seconds that the time axis shows at least
let rows = [];

const font = "11px system-ui, -apple-system, 'Segoe UI', Roboto, Arial, sans-serif";

// isolated returns the points without a neighbour to draw a line to.
function isolated(plot, series) {
  const ys = plot.data[series];
  const missing = (i) => ys[i] === null || ys[i] === undefined;
  return ys.flatMap((_, i) => (!missing(i) && missing(i - 1) && missing(i + 1) ? [i] : []));
}

function timeRange() {
  const to = rows.length === 0 ? Date.now() / 1000 : rows.at(-1).time_ms / 1000;
  const from = rows.length === 0 ? to : rows[0].time_ms / 1000;
  return [Math.min(from, to - shortest), to];
}

function options(chart, width, height) {
  const axis = { font, stroke: () => tone("quiet"), grid: { stroke: () => tone("grid"), width: 1 }, ticks: { show: false } };
  return {
    width, height, padding: [8, 10, 0, 0],
    legend: { show: false },
    cursor: { sync: { key: "time" }, y: false, drag: { x: false, y: false }, points: { size: 7, fill: () => tone(chart.tone), stroke: () => tone("panel") } },
    scales: { x: { time: true, range: timeRange }, y: { range: (_, low, high) => [0, Math.max(chart.top, (high ?? 0) * 1.1)] } },
    axes: [
      { ...axis, size: 24, space: 64, values: (plot, ticks) => ticks.map((t) => clock(t, plot.scales.x.max - plot.scales.x.min < 180)) },
      { ...axis, size: 42, space: 28, values: (_, ticks) => ticks.map((t) => (t >= 10000 ? `${t / 1000}k` : String(t))) },
    ],
    series: [{}, {
      stroke: () => tone(chart.tone), fill: () => tone(chart.tone) + "1f", width: 1.5, spanGaps: false,
      points: { show: true, size: 4, filter: isolated, fill: () => tone(chart.tone) },
    }],
    hooks: { setCursor: [(plot) => showValue(chart, plot.cursor.idx)] },
  };
}

function element(name, className, parent) {
  const e = document.createElement(name);
  e.className = className;
  parent.append(e);
  return e;
}

export function makeCharts() {
  for (const chart of charts) {
    const figure = element("figure", "chart", document.getElementById("charts"));
    figure.style.setProperty("--tone", `var(--${chart.tone})`);
    const caption = element("figcaption", "", figure);
    element("span", "", caption).textContent = chart.title;
    chart.output = element("output", "", caption);
    chart.output.ariaLive = "off";
    chart.box = element("div", "plot", figure);
    chart.box.id = "chart-" + chart.key;
    chart.box.tabIndex = 0;
    chart.box.setAttribute("role", "img");
    chart.none = element("div", "none", chart.box);
    chart.plot = new uPlot(options(chart, chart.box.clientWidth, chart.box.clientHeight), [[], []], chart.box);
    new ResizeObserver(() => chart.plot.setSize({ width: chart.box.clientWidth, height: chart.box.clientHeight })).observe(chart.box);
    chart.box.addEventListener("keydown", (event) => moveCursor(chart, event));
    chart.box.addEventListener("blur", () => hideCursor(chart));
  }
  onTheme(() => charts.forEach((chart) => chart.plot.redraw(false)));
  document.addEventListener("visibilitychange", () => draw());
  drawCharts([]);
}

export function drawCharts(all) {
  rows = all;
  draw();
}

function draw() {
  if (document.hidden) return;
  const times = rows.map((row) => row.time_ms / 1000);
  for (const chart of charts) {
    const values = rows.map((row) => row[chart.key]);
    chart.plot.setData([times, values]);
    showValue(chart, chart.plot.cursor.idx);
    describe(chart, values);
  }
}

// showValue shows the value under the cursor, or the last one.
function showValue(chart, index) {
  const pointed = index !== null && index !== undefined && chart.plot?.cursor.left >= 0 && index < rows.length;
  const row = pointed ? rows[index] : rows.at(-1);
  chart.output.replaceChildren(withUnit(row?.[chart.key], chart.unit));
  if (pointed) {
    const small = document.createElement("small");
    small.textContent = ` at ${clock(row.time_ms / 1000)}`;
    chart.output.append(small);
  }
}

// describe describes the chart for screen readers.
function describe(chart, values) {
  const known = values.filter((v) => v !== null && v !== undefined);
  chart.none.textContent = known.length > 0 ? "" : chart.absent || "Nothing measured yet";
  if (known.length === 0) {
    chart.box.ariaLabel = `${chart.title}: not measured. ${chart.absent || ""}`.trim();
    return;
  }
  const mean = known.reduce((a, b) => a + b, 0) / known.length;
  const [from, to] = timeRange();
  chart.box.ariaLabel = `${chart.title} in ${chart.unit}, last ${duration(to - from)}: now ${number(values.at(-1))}, ` +
    `least ${number(Math.min(...known))}, mean ${number(mean)}, most ${number(Math.max(...known))}. Arrow keys read single seconds aloud.`;
}

// moveCursor moves the cursor by keyboard.
function moveCursor(chart, event) {
  const steps = { ArrowLeft: -1, ArrowRight: 1, PageUp: -30, PageDown: 30, Home: -Infinity, End: Infinity };
  if (event.key === "Escape") hideCursor(chart);
  if (!(event.key in steps) || rows.length === 0) return;
  event.preventDefault();
  const plot = chart.plot;
  const now = plot.cursor.left >= 0 && plot.cursor.idx !== null ? plot.cursor.idx : rows.length - 1;
  const next = Math.min(Math.max(now + steps[event.key], 0), rows.length - 1);
  plot.setCursor({ left: plot.valToPos(rows[next].time_ms / 1000, "x"), top: 10 });
  document.getElementById("reading").textContent = `${clock(rows[next].time_ms / 1000)}: ${withUnit(rows[next][chart.key], chart.unit)}`;
}

function hideCursor(chart) {
  chart.plot.setCursor({ left: -10, top: -10 });
}

// pictures draws the charts again for the PNG export, each of the given size in
// pixels.
export async function pictures(width, height) {
  const data = (chart) => [rows.map((row) => row.time_ms / 1000), rows.map((row) => row[chart.key])];
  const drawn = charts.map((chart) => ({
    title: chart.title, value: withUnit(rows.at(-1)?.[chart.key], chart.unit), tone: chart.tone, none: chart.none.textContent,
    plot: new uPlot({ ...options(chart, width, height), cursor: { show: false }, hooks: {} }, data(chart)),
  }));
  await new Promise((resolve) => setTimeout(resolve)); // uPlot draws when nothing else runs
  return drawn;
}
