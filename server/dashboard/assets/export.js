// Files of the shown window.
import { call } from "./api.js";
import { pictures } from "./charts.js";
import { tone } from "./theme.js";

export function makeExports(fail) {
  const on = (id, save) => document.getElementById(id).addEventListener("click", () => save().catch((error) => fail(error.message)));
  on("export-json", () => fromServer("json"));
  on("export-md", () => fromServer("md"));
  on("export-png", picture);
}

// fromServer asks with the key, which a link could not.
async function fromServer(extension) {
  const response = await call("/dashboard/api/export." + extension);
  if (!response.ok) throw new Error(`export: ${response.status}: ${(await response.text()).trim()}`);
  save(await response.blob(), extension);
}

function save(blob, extension) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  const now = new Date(Date.now() - new Date().getTimezoneOffset() * 60000).toISOString();
  link.download = `mlxrank-dashboard-${now.slice(0, 19).replaceAll(/[-:]/g, "").replace("T", "-")}.${extension}`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

const width = 560, height = 230, gap = 12, head = 128, columns = 2;
const scale = devicePixelRatio; // which uPlot draws with
const inner = { x: 8, y: 34, width: width - 16, height: height - 42 }; // a chart in its panel

async function picture() {
  const all = await pictures(inner.width, inner.height);
  const canvas = document.createElement("canvas");
  canvas.width = scale * (columns * (width + gap) + gap);
  canvas.height = scale * (head + Math.ceil(all.length / columns) * (height + gap));
  const c = canvas.getContext("2d");
  c.scale(scale, scale);
  c.fillStyle = tone("ground");
  c.fillRect(0, 0, canvas.width, canvas.height);
  header(c);
  all.forEach((chart, i) => panel(c, chart, gap + (i % columns) * (width + gap), head + Math.floor(i / columns) * (height + gap)));
  const blob = await new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
  if (blob === null) throw new Error("export: the browser could not make the picture");
  save(blob, "png");
}

const text = (id) => document.getElementById(id).textContent;

function write(c, words, x, y, size, colour, weight = 400, align = "left") {
  c.font = `${weight} ${size}px system-ui, -apple-system, "Segoe UI", Roboto, Arial, sans-serif`;
  c.fillStyle = tone(colour);
  c.textAlign = align;
  c.fillText(words, x, y);
}

function header(c) {
  write(c, "mlxrank", gap + 4, 34, 20, "text", 700);
  write(c, `${text("fact-model")} on ${text("fact-device")}, ${text("fact-dtype")}`, gap + 100, 34, 14, "quiet");
  write(c, new Date().toLocaleString("en-GB"), columns * (width + gap), 34, 14, "quiet", 400, "right");
  const cards = [...document.querySelectorAll("#cards .card")];
  const each = (columns * (width + gap) - gap) / cards.length;
  cards.forEach((card, i) => {
    const x = gap + 4 + i * each;
    write(c, card.querySelector("h2").textContent, x, 66, 12, "quiet");
    write(c, [...card.querySelector(".value").childNodes].map((n) => n.textContent).join(" "), x, 90, 19, "text", 600);
    write(c, [...card.querySelectorAll(".minor > div")].map((d) => [...d.childNodes].map((n) => n.textContent).join(" ")).join("   "), x, 110, 12, "quiet");
  });
}

function panel(c, chart, x, y) {
  c.fillStyle = tone("panel");
  c.strokeStyle = tone("line");
  c.beginPath();
  c.roundRect(x, y, width, height, 10);
  c.fill();
  c.stroke();
  write(c, chart.title, x + 14, y + 24, 14, "text", 600);
  write(c, chart.value, x + width - 14, y + 24, 14, chart.tone, 600, "right");
  c.drawImage(chart.plot.ctx.canvas, x + inner.x, y + inner.y, inner.width, inner.height);
  chart.plot.destroy();
  if (chart.none) write(c, chart.none, x + width / 2, y + height / 2, 12, "quiet", 400, "center");
}
