"""Each client asks for a ranking its own way and gives [(index, score)], best first."""

import gzip
import json

import cohere
import huggingface_hub
import langchain_cohere
import langchain_community.document_compressors.jina_rerank as langchain_jina
import requests
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
        headers={"Authorization": "Bearer " + key},
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


def huggingface_hub_session(address, key, query, documents):
    """huggingface_hub's InferenceClient has no rerank task; its HTTP session is what its users have."""
    answer = huggingface_hub.get_session().post(
        address + "/predict", json={"inputs": [[query, text] for text in documents]}, headers={"Authorization": "Bearer " + key}, timeout=60
    )
    answer.raise_for_status()
    scores = [item[0]["score"] for item in answer.json()]
    return sorted(enumerate(scores), key=lambda item: (-item[1], item[0]))


# (package, client, results it must give)
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
        langchain_jina.JinaRerank(jina_api_key="wrong").rerank(documents, query)
        fault = "the wrong key is right"
    except RuntimeError as err:
        fault = None if "key" in str(err) else f"it says {err}"
    yield "LangChain raises Jina's detail", fault
