// Everything on the page that is not a chart.
import { clock, count, duration, none, number, shares, short, withUnit } from "./format.js";

const byId = (id) => document.getElementById(id);
const show = (id, text) => { byId(id).textContent = text; };

// Values cover the last second, P50 and P95 the window.
const cards = [
  { key: "latency_ms", title: "Latency", unit: "ms", tone: "latency" },
  { key: "queue_wait_ms", title: "Queue wait", unit: "ms", tone: "queue" },
  { key: "tokenization_ms", title: "Tokenise", unit: "ms", tone: "tokenize" },
  { key: "inference_ms", title: "Inference", unit: "ms", tone: "inference" },
  { key: "throughput_pairs_s", title: "Throughput", unit: "pairs/s", tone: "throughput" },
];

const stages = [
  { key: "queue_wait_pct", timing: "queue_wait_ms", title: "Queue wait", tone: "queue" },
  { key: "tokenization_pct", timing: "tokenization_ms", title: "Tokenise", tone: "tokenize" },
  { key: "inference_pct", timing: "inference_ms", title: "Inference", tone: "inference" },
  { key: "other_pct", title: "Other", tone: "other" },
];

function make(name, properties, ...children) {
  const e = Object.assign(document.createElement(name), properties);
  e.append(...children);
  return e;
}

function toned(e, tone) {
  e.style.setProperty("--tone", `var(--${tone})`);
  return e;
}

const minor = (title, value) => make("div", {}, make("dt", {}, title), value);

export function makePanel() {
  const pairs = toned(make("article", { className: "card", id: "card-pairs" }), "accent");
  pairs.append(make("h2", {}, "Pairs"), make("p", { className: "value", id: "pairs" }, none),
    make("dl", { className: "minor" }, minor("requests", make("dd", { id: "requests" }, none)), minor("not served", make("dd", { id: "refused" }, none))));
  byId("cards").append(pairs);
  for (const card of cards) {
    card.value = make("p", { className: "value" }, none);
    card.p50 = make("dd", {}, none);
    card.p95 = make("dd", {}, none);
    const article = toned(make("article", { className: "card", id: "card-" + card.key }), card.tone);
    article.append(make("h2", {}, card.title), card.value, make("dl", { className: "minor" }, minor("P50", card.p50), minor("P95", card.p95)));
    byId("cards").append(article);
  }
  for (const stage of stages) {
    stage.bar = toned(make("span", {}), stage.tone);
    stage.share = make("b", {}, none);
    stage.note = make("small", {}, "");
    byId("stage-bar").append(stage.bar);
    byId("stage-legend").append(toned(make("li", {}, make("span", {}, stage.title, stage.share), stage.note), stage.tone));
  }
}

export function showFacts(facts) {
  show("fact-model", facts.model + (facts.adapter && facts.adapter !== facts.model ? ` + ${facts.adapter}` : ""));
  show("fact-device", facts.device + (facts.device_name ? ` (${facts.device_name})` : ""));
  show("fact-dtype", facts.dtype);
  show("fact-kernels", facts.kernels);
  show("fact-version", facts.version);
  show("fact-more", `MLX ${facts.mlx || none}, max length ${facts.max_length} tokens, max ${facts.max_batch} pairs per batch, activation ${facts.activation}`);
}

const states = { idle: "Idle", running: "Running", unhealthy: "Unhealthy", disconnected: "Disconnected", connecting: "Connecting" };

// showState writes only changes, because screen readers read each write aloud.
export function showState(state, reason = "") {
  const pill = byId("state");
  if (pill.dataset.state !== state) {
    pill.dataset.state = state;
    pill.textContent = states[state];
  }
  const notice = byId("notice");
  const text = reason === "" ? "" : state === "unhealthy" ? `The device fails: ${reason}` : `No connection to the server (${reason}). Trying again.`;
  if (notice.textContent !== text) notice.textContent = text;
  notice.hidden = text === "";
}

export function showSummary(summary, row) {
  show("pairs", short(summary.pairs));
  show("requests", short(summary.requests));
  show("refused", short(summary.refused + summary.failed + summary.cancelled));
  byId("refused").title = `${count(summary.refused)} refused, ${count(summary.failed)} failed, ${count(summary.cancelled)} cancelled by their clients`;
  show("fact-uptime", duration(summary.uptime_s));
  for (const card of cards) showCard(card, row[card.key], summary[card.key]);
  showStages(summary);
  show("padding-waste", withUnit(summary.padding_waste_pct, "%"));
  show("padding-grid", withUnit(summary.padding_grid_pct, "%"));
  show("padding-batching", withUnit(summary.padding_batching_pct, "%"));
  show("mean-tokens", withUnit(summary.mean_tokens, "tokens"));
  show("max-tokens", withUnit(summary.max_tokens, "tokens", count));
  show("waiting", withUnit(summary.waiting_pairs, "pairs", count));
  show("window", duration(summary.window_s));
  showCache(summary.cache);
  showDeadlines(summary.deadlines);
  for (const [name, priority] of Object.entries(summary.priorities)) {
    show(`${name}-requests`, short(priority.requests));
    show(`${name}-waiting`, withUnit(priority.waiting_pairs, "pairs", count));
  }
  showWorkers(summary.workers);
}

const mebibytes = (bytes) => bytes / 2 ** 20;

// showCache hides the panel of a server without a cache.
function showCache(cache) {
  byId("cache-panel").hidden = cache === null;
  if (cache === null) return;
  show("cache-rate", withUnit(cache.hit_pct, "%"));
  show("cache-hits", short(cache.hits));
  show("cache-misses", short(cache.misses));
  show("cache-memory", withUnit(mebibytes(cache.bytes), "MiB"));
  show("cache-limit", `Memory of ${withUnit(mebibytes(cache.limit_bytes), "MiB", count)}`);
  show("cache-entries", short(cache.entries));
  show("cache-disk", cache.disk_bytes > 0 ? withUnit(mebibytes(cache.disk_bytes), "MiB") : none);
}

function showDeadlines(deadlines) {
  for (const [name, n] of Object.entries(deadlines)) show(`deadlines-${name}`, short(n));
  byId("deadlines-missed").classList.toggle("bad", deadlines.missed > 0);
}

function showCard(card, now, figures) {
  const text = number(now);
  card.value.replaceChildren(text, ...(text === none ? [] : [make("small", {}, card.unit)]));
  card.p50.textContent = number(figures.p50);
  card.p95.textContent = number(figures.p95);
}

function showStages(summary) {
  const values = stages.map((stage) => summary.stages[stage.key]);
  if (values.some((v) => v === null)) {
    show("stages-note", "no request has ended in the window");
    byId("stage-bar").ariaLabel = "No request has ended in the window";
    for (const stage of stages) {
      stage.bar.style.width = "0";
      stage.share.textContent = none;
      stage.note.textContent = "";
    }
    return;
  }
  const rounded = shares(values);
  stages.forEach((stage, i) => {
    stage.bar.style.width = rounded[i] + "%";
    stage.share.textContent = rounded[i].toFixed(1) + " %";
    stage.note.textContent = stage.timing ? "P95 " + withUnit(summary[stage.timing].p95, "ms") : "";
  });
  show("stages-note", `share of the mean latency, ${withUnit(summary.latency_ms.mean, "ms")}; P95 ${withUnit(summary.latency_ms.p95, "ms")}`);
  byId("stage-bar").ariaLabel = "Share of latency: " + stages.map((stage, i) => `${stage.title} ${rounded[i].toFixed(1)} %`).join(", ");
}

// The titles of a table's columns. On a phone they stand beside each value.
const titles = (id) => [...byId(id).closest("table").querySelectorAll("th")].map((th) => th.textContent);

// cells makes a row of a table of texts.
function cells(columns, texts) {
  return make("tr", {}, ...texts.map((text, i) => {
    const td = make("td", {}, text);
    td.dataset.title = columns[i];
    return td;
  }));
}

// showModels fills the table of models and the choice of the form, which a server with one
// model does not show.
export function showModels(models) {
  const several = models !== null && models.length > 1;
  byId("models-panel").hidden = !several;
  byId("try-model-row").hidden = !several;
  if (!several) return;
  const columns = titles("models");
  byId("models").replaceChildren(...models.map((model) => {
    const row = cells(columns, [
      [model.id, ...model.aliases].join(", ") + (model.default ? " (default)" : ""), model.state, count(model.running_requests), short(model.requests), short(model.pairs),
      model.state === "loaded" || model.state === "unloading" ? withUnit(model.weight_bytes / 2 ** 20, "MB") : none,
      model.last_use_ms ? clock(model.last_use_ms / 1000) : none,
    ]);
    row.dataset.state = model.state;
    return row;
  }));
  const choice = byId("try-model"), ids = models.map((model) => model.id);
  if (ids.join("\n") === [...choice.options].map((option) => option.value).join("\n")) return;
  const chosen = choice.value;
  choice.replaceChildren(...ids.map((id) => make("option", { value: id }, id)));
  choice.value = ids.includes(chosen) ? chosen : ids[0];
}

function showWorkers(workers) {
  if (workers.length === 0) {
    byId("workers").replaceChildren(make("tr", {}, make("td", { colSpan: 8, className: "none" }, "No pair has been scored yet")));
    return;
  }
  const columns = titles("workers");
  byId("workers").replaceChildren(...workers.map((worker) => cells(columns, [
    String(worker.id), withUnit(worker.busy_pct, "%"), number(worker.pairs_s), withUnit(worker.padding_waste_pct, "%"),
    number(worker.microbatch_ms), count(worker.microbatches), count(worker.pairs), short(worker.tokens),
  ])));
}
