// The form that reranks passages through the server's API.
import { call } from "./api.js";
import { count, duration, number } from "./format.js";

const byId = (id) => document.getElementById(id);

export function makeTryIt(model) {
  byId("try").addEventListener("submit", async (event) => {
    event.preventDefault();
    const documents = byId("try-passages").value.split("\n").map((line) => line.trim()).filter((line) => line !== "");
    const query = byId("try-query").value.trim();
    if (query === "" || documents.length === 0) {
      say(query === "" ? "Write a query." : "Write at least one passage.", true);
      byId(query === "" ? "try-query" : "try-passages").focus();
      return;
    }
    byId("try-go").disabled = true;
    say("Ranking …");
    try {
      await rerank({ model: byId("try-model").value || model(), query, documents, top_n: documents.length, return_documents: false });
    } catch (error) {
      say(error.message, true);
    }
    byId("try-go").disabled = false;
  });
}

async function rerank(request) {
  const start = performance.now();
  const response = await call("/v1/rerank", { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(request) });
  const text = await response.text();
  if (!response.ok) throw new Error(`${response.status}: ${reason(text)}`);
  const answer = JSON.parse(text);
  const took = performance.now() - start;
  const tokens = answer.usage?.total_tokens;
  say(`${count(request.documents.length)} passages in ${took < 1000 ? `${number(took)} ms` : duration(took / 1000)}` + (tokens ? `, ${count(tokens)} tokens` : ""));
  byId("try-results").replaceChildren(...answer.results.map((result) => item(result.relevance_score, request.documents[result.index])));
}

// reason returns the message of an error response, or its text.
function reason(text) {
  try {
    const { detail, message, error } = JSON.parse(text);
    const found = detail ?? message ?? error?.message ?? error;
    return typeof found === "string" ? found : text;
  } catch {
    return text.trim().slice(0, 300);
  }
}

function say(text, bad = false) {
  byId("try-note").textContent = text;
  byId("try-note").classList.toggle("bad", bad);
}

function item(score, passage) {
  const li = document.createElement("li");
  const fill = document.createElement("i");
  fill.className = "fill";
  fill.style.width = Math.min(Math.max(score, 0), 1) * 100 + "%";
  const b = document.createElement("b");
  b.textContent = score.toFixed(4);
  const span = document.createElement("span");
  span.textContent = passage;
  li.append(fill, b, span);
  return li;
}
