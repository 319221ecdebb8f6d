// Products that Node runs: Continue's adapters, and the SDKs of Cohere and Voyage.
// Reads {address, key, model, query, documents} from standard input and prints
// {client: [[index, score], ...]}, best first.

import { readFileSync } from "node:fs";

import { constructLlmApi } from "@continuedev/openai-adapters";
import { CohereClient, CohereClientV2 } from "cohere-ai";
import { VoyageAIClient } from "voyageai";

const { address, key, model, query, documents } = JSON.parse(readFileSync(0, "utf8"));

const pairs = (results, score) => results.map((result) => [result.index, result[score]]);

const clients = {
  "Continue's adapter vllm": async () => {
    const api = constructLlmApi({ provider: "vllm", apiBase: `${address}/v1/`, apiKey: key });
    return pairs((await api.rerank({ model, query, documents })).results, "relevance_score");
  },
  "Continue's adapter cohere": async () => {
    const api = constructLlmApi({ provider: "cohere", apiBase: `${address}/v2/`, apiKey: key });
    return pairs((await api.rerank({ model, query, documents })).data, "relevance_score");
  },
  "cohere-ai, version 2": async () => {
    const client = new CohereClientV2({ token: key, environment: address });
    return pairs((await client.rerank({ model, query, documents, topN: 7 })).results, "relevanceScore");
  },
  "cohere-ai, version 1": async () => {
    const client = new CohereClient({ token: key, environment: address });
    return pairs((await client.rerank({ model, query, documents, topN: 7, returnDocuments: true })).results, "relevanceScore");
  },
  voyageai: async () => {
    const client = new VoyageAIClient({ apiKey: key, environment: `${address}/v1` });
    return pairs((await client.rerank({ model, query, documents, topK: 7 })).data, "relevanceScore");
  },
};

const answers = {};
for (const [name, rank] of Object.entries(clients)) {
  answers[name] = await rank();
}
process.stdout.write(JSON.stringify(answers));
