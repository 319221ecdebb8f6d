// The page of the dashboard: it shows the server's events.
import { follow } from "./api.js";
import { drawCharts, makeCharts } from "./charts.js";
import { makeExports } from "./export.js";
import { makePanel, showFacts, showModels, showState, showSummary } from "./panel.js";
import { makeTryIt } from "./tryit.js";

let facts = { history_rows: 0, model: "" };
let rows = [];

function show(summary) {
  if (summary !== null) {
    showSummary(summary, rows.at(-1));
    showState(summary.state, summary.error);
  } else {
    showState("idle");
  }
  drawCharts(rows);
}

makePanel();
makeCharts();
makeTryIt(() => facts.model);
makeExports((message) => showState("disconnected", message));

// Each connection begins with the whole history, so the page also survives a
// restart of the server.
follow("/dashboard/api/events", {
  history(data) {
    facts = data.facts;
    rows = data.rows;
    showFacts(facts);
    showModels(data.models);
    show(data.summary);
  },
  facts(data) {
    facts = data;
    showFacts(facts);
  },
  second(data) {
    rows = [...rows, data.row].slice(-facts.history_rows);
    showModels(data.models);
    show(data.summary);
  },
  lost(reason) {
    showState("disconnected", reason);
  },
});
