"""Each client asks for a ranking its own way and gives [(index, score)], best first."""

import gzip
import json
import os

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # it would fetch a list of prices

import cohere
import huggingface_hub
import infinity_client
import infinity_client.api.default.rerank as infinity_rerank
import infinity_client.models
import langchain_cohere
import langchain_community.document_compressors.jina_rerank as langchain_jina
import litellm
import requests
import voyageai
from llama_index.core.schema import NodeWithScore, QueryBundle, TextNode
from llama_index.postprocessor.cohere_rerank import CohereRerank
from llama_index.postprocessor.jinaai_rerank import JinaRerank
from llama_index.postprocessor.tei_rerank import TextEmbeddingInference

ALL = 32  # documents
MODEL = "any-name"  # the server runs with --any-model


def pairs(results, score="relevance_score"):
    return [(item["index"], item[score]) for item in results]


def cohere_v2(address, key, query, documents):
    client = cohere.ClientV2(key, base_url=address)
    return [(r.index, r.relevance_score) for r in client.rerank(model=MODEL, query=query, documents=documents, top_n=10).results]


def cohere_v1(address, key, query, documents):
    """Version 1 has the path of Jina's, and reads its answer."""
    client = cohere.Client(key, base_url=address)
    found = client.rerank(model=MODEL, query=query, documents=documents, return_documents=True).results
    if [r.document.text for r in found] != [documents[r.index] for r in found]:
        raise SystemExit("clients: cohere's version 1 got other documents")
    return [(r.index, r.relevance_score) for r in found]


def langchain_cohere_rerank(address, key, query, documents):
    return pairs(langchain_cohere.CohereRerank(cohere_api_key=key, base_url=address, model=MODEL, top_n=5).rerank(documents, query))


def langchain_jina_rerank(address, key, query, documents):
    langchain_jina.JINA_API_URL = address + "/v1/rerank"  # it has no setting for that
    return pairs(langchain_jina.JinaRerank(jina_api_key=key).rerank(documents, query, top_n=None))


def ask_llama_index(reranker, query, documents):
    nodes = [NodeWithScore(node=TextNode(id_=str(i), text=text), score=0.0) for i, text in enumerate(documents)]
    found = reranker.postprocess_nodes(nodes, query_bundle=QueryBundle(query))
    return [(int(node.node.node_id), node.score) for node in found]


def llama_index_cohere(address, key, query, documents):
    return ask_llama_index(CohereRerank(api_key=key, base_url=address, model=MODEL, top_n=7), query, documents)


def llama_index_jina(address, key, query, documents):
    return ask_llama_index(JinaRerank(api_key=key, base_url=address + "/v1", model=MODEL, top_n=7), query, documents)


def llama_index_tei(address, key, query, documents):
    return ask_llama_index(TextEmbeddingInference(base_url=address, auth_token="Bearer " + key, top_n=7), query, documents)


def requests_tei(address, key, query, documents):
    """With curl's defaults and the stage headers."""
    answer = requests.post(
        address + "/rerank",
        json={"query": query, "texts": documents, "return_text": True},
        headers={"Authorization": "Bearer " + key, "Cache-Control": "no-store"},  # cached pairs have no inference time
        timeout=60,
    )
    answer.raise_for_status()
    if not 0 < int(answer.headers["x-inference-time-us"]) <= int(answer.headers["x-total-time-us"]):
        raise SystemExit(f"clients: stage headers {answer.headers}")
    if any(item["text"] != documents[item["index"]] for item in answer.json()):
        raise SystemExit("clients: TEI's route gave other texts")
    return pairs(answer.json(), "score")


def requests_jina_on_rerank(address, key, query, documents):
    """Jina's format where vLLM and infinity have it, under a base URL with a slash, compressed."""
    body = gzip.compress(json.dumps({"model": MODEL, "query": query, "documents": documents, "top_n": 0}).encode())
    headers = {"Authorization": "Bearer " + key, "Content-Type": "application/json", "Content-Encoding": "gzip"}
    answer = requests.post(address + "//rerank", data=body, headers=headers, timeout=60)
    answer.raise_for_status()
    return pairs(answer.json()["results"])


def requests_vllm_score(address, key, query, documents):
    answer = requests.post(
        address + "/score",
        json={"model": MODEL, "text_1": query, "text_2": documents},
        headers={"Authorization": "Bearer " + key},
        timeout=60,
    )
    answer.raise_for_status()
    return sorted(pairs(answer.json()["data"], "score"), key=lambda item: (-item[1], item[0]))


def cohere_v1_rank_fields(address, key, query, documents):
    """One field of objects, which the answer returns with all others."""
    objects = [{"body": text, "text": "", "number": str(i)} for i, text in enumerate(documents)]
    client = cohere.Client(key, base_url=address)
    found = client.rerank(model=MODEL, query=query, documents=objects, rank_fields=["body"], return_documents=True).results
    if [r.document.dict()["number"] for r in found] != [str(r.index) for r in found]:
        raise SystemExit("clients: cohere's version 1 got other objects")
    return [(r.index, r.relevance_score) for r in found]


def best_first(scores):
    return sorted(enumerate(scores), key=lambda item: (-item[1], item[0]))


def huggingface_hub_session(address, key, query, documents):
    """huggingface_hub's InferenceClient has no rerank task; its HTTP session is what its users have."""
    answer = huggingface_hub.get_session().post(
        address + "/predict", json={"inputs": [[query, text] for text in documents]}, headers={"Authorization": "Bearer " + key}, timeout=60
    )
    answer.raise_for_status()
    return best_first([item[0]["score"] for item in answer.json()])


def huggingface_hub_sentence_similarity(address, key, query, documents):
    """The task of InferenceClient that scores texts for a text."""
    return best_first(huggingface_hub.InferenceClient(model=address, token=key).sentence_similarity(query, documents))


def huggingface_hub_text_classification(address, key, query, documents):
    """The task's answer has the labels of one text, here a pair."""
    client = huggingface_hub.InferenceClient(model=address, token=key)
    return best_first([client.text_classification({"text": query, "text_pair": text})[0].score for text in documents])


def voyageai_client(address, key, query, documents):
    """Its base URL ends with /v1; its fields distinguish it from Jina's clients."""
    found = voyageai.Client(key, base_url=address + "/v1").rerank(query, documents, model=MODEL, top_k=7)
    if found.total_tokens <= 0 or any(r.document != documents[r.index] for r in found.results):
        raise SystemExit("clients: voyageai got other documents")
    return [(r.index, r.relevance_score) for r in found.results]


def voyageai_below_voyage(address, key, query, documents):
    found = voyageai.Client(key, base_url=address + "/voyage/v1").rerank(query, documents, model=MODEL)
    return [(r.index, r.relevance_score) for r in found.results]


def infinity_client_rerank(address, key, query, documents):
    client = infinity_client.AuthenticatedClient(address + "/infinity", key, raise_on_unexpected_status=True, timeout=60)
    body = infinity_client.models.RerankInput(query=query, documents=documents, return_documents=True, model=MODEL)
    found = infinity_rerank.sync(client=client, body=body).results
    if any(r.document != documents[r.index] for r in found):
        raise SystemExit("clients: infinity's client got other documents")
    return [(r.index, r.relevance_score) for r in found]


def ask_litellm(provider, base, key, query, documents, **more):
    found = litellm.rerank(model=f"{provider}/{MODEL}", query=query, documents=documents, api_base=base, api_key=key, **more).results
    if more.get("return_documents") and any(r["document"]["text"] != documents[r["index"]] for r in found):
        raise SystemExit(f"clients: LiteLLM's {provider} got other documents")
    return pairs(found)


def litellm_cohere(address, key, query, documents):
    return ask_litellm("cohere", address, key, query, documents, top_n=7)


def litellm_jina(address, key, query, documents):
    return ask_litellm("jina_ai", address, key, query, documents, top_n=7, return_documents=True)


def litellm_voyage(address, key, query, documents):
    """Without top_n its request has no field of Voyage's own, so its base is below /voyage."""
    return ask_litellm("voyage", address + "/voyage", key, query, documents, return_documents=True)


def litellm_infinity(address, key, query, documents):
    return ask_litellm("infinity", address + "/infinity", key, query, documents, top_n=7)


def litellm_hosted_vllm(address, key, query, documents):
    return ask_litellm("hosted_vllm", address, key, query, documents, top_n=7, return_documents=True)


def litellm_huggingface(address, key, query, documents):
    return ask_litellm("huggingface", address, key, query, documents, return_documents=True)


def send(address, key, path, body):
    """The answer to a request as the source of another program sends it."""
    answer = requests.post(address + path, json=body, headers={"Authorization": "Bearer " + key}, timeout=60)
    answer.raise_for_status()
    return answer.json()


def replayed_weaviate(address, key, query, documents):
    """modules/reranker-transformers/clients/ranker.go: chunks of 32, and scores found by text."""
    scores = {}
    for start in range(0, len(documents), 32):
        found = send(address, key, "/weaviate/rerank", {"query": query, "documents": documents[start : start + 32], "property": ""})
        scores |= {item["document"]: item["score"] for item in found["scores"]}
    return best_first([scores[text] for text in documents])


def replayed_milvus_tei(address, key, query, documents):
    """internal/util/function/rerank/tei_rerank_provider.go: 32 texts a request."""
    scores = []
    for start in range(0, len(documents), 32):
        body = {"query": query, "texts": documents[start : start + 32], "truncate": True, "truncation_direction": "Right"}
        scores += [score for _, score in sorted(pairs(send(address, key, "/rerank", body), "score"))]
    return best_first(scores)


def replayed_milvus_huggingface(address, key, query, documents):
    """internal/util/function/models/huggingface/huggingface_client.go"""
    path = f"/hf-inference/models/org/{MODEL}/pipeline/sentence-similarity"
    return best_first(send(address, key, path, {"inputs": {"source_sentence": query, "sentences": documents}}))


# (package or None for a replayed request, client, results it must give)
CLIENTS = [
    ("cohere", cohere_v2, 10),
    ("cohere", cohere_v1, ALL),
    ("langchain-cohere", langchain_cohere_rerank, 5),
    ("langchain-community", langchain_jina_rerank, ALL),
    ("llama-index-postprocessor-cohere-rerank", llama_index_cohere, 7),
    ("llama-index-postprocessor-jinaai-rerank", llama_index_jina, 7),
    ("llama-index-postprocessor-tei-rerank", llama_index_tei, 7),
    ("cohere", cohere_v1_rank_fields, ALL),
    ("requests", requests_tei, ALL),
    ("requests", requests_jina_on_rerank, ALL),
    ("requests", requests_vllm_score, ALL),
    ("huggingface_hub", huggingface_hub_session, ALL),
    ("huggingface_hub", huggingface_hub_sentence_similarity, ALL),
    ("huggingface_hub", huggingface_hub_text_classification, ALL),
    ("voyageai", voyageai_client, 7),
    ("voyageai", voyageai_below_voyage, ALL),
    ("infinity_client", infinity_client_rerank, ALL),
    ("litellm", litellm_cohere, 7),
    ("litellm", litellm_jina, 7),
    ("litellm", litellm_voyage, ALL),
    ("litellm", litellm_infinity, 7),
    ("litellm", litellm_hosted_vllm, 7),
    ("litellm", litellm_huggingface, ALL),
    (None, replayed_weaviate, ALL),
    (None, replayed_milvus_tei, ALL),
    (None, replayed_milvus_huggingface, ALL),
]


def refusals(address, query, documents):
    """(name, what is wrong or None) of errors as clients raise them."""
    wrong = cohere.ClientV2("wrong", base_url=address)
    try:
        wrong.rerank(model=MODEL, query=query, documents=documents)
        fault = "the wrong key is right"
    except cohere.UnauthorizedError as err:
        fault = None if "key" in err.body["message"] else f"it says {err.body}"
    yield "cohere raises UnauthorizedError", fault
    right = cohere.ClientV2("a-key-for-clients", base_url=address)
    try:
        right.rerank(model=MODEL, query=query, documents=["x"] * 1001)
        fault = "1,001 documents are taken"
    except cohere.UnprocessableEntityError as err:
        fault = None if "1000" in err.body["message"] else f"it says {err.body}"
    yield "cohere raises UnprocessableEntityError", fault
    try:
        voyageai.Client("wrong", base_url=address + "/v1").rerank(query, documents, model=MODEL)
        fault = "the wrong key is right"
    except voyageai.error.AuthenticationError as err:
        fault = None if "key" in str(err) else f"it says {err}"
    yield "voyageai raises AuthenticationError", fault
    try:
        langchain_jina.JinaRerank(jina_api_key="wrong").rerank(documents, query)
        fault = "the wrong key is right"
    except RuntimeError as err:
        fault = None if "key" in str(err) else f"it says {err}"
    yield "LangChain raises Jina's detail", fault
