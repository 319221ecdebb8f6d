"""Products and libraries of docs/user/recipes: each gives [(index, score)], best first."""

import asyncio
import contextlib
import functools
import os
import pathlib
import socket
import subprocess
import sys
import tempfile
import time
import types

os.environ |= {"HAYSTACK_TELEMETRY_ENABLED": "false", "WEBUI_SECRET_KEY": "x", "DATA_DIR": tempfile.mkdtemp(prefix="open-webui-")}

import cohere
import lightrag.rerank
import lightrag.utils
import pymilvus.model.reranker
import requests
from haystack import Document, Pipeline
from haystack.utils import Secret
from haystack_integrations.components.rankers.cohere import CohereRanker
from haystack_integrations.components.rankers.huggingface_api import HuggingFaceTEIRanker
from haystack_integrations.components.rankers.jina import JinaRanker
from haystack_integrations.components.rankers.vllm import VLLMRanker
from langchain_core.documents import Document as LangChainDocument
from langchain_voyageai import VoyageAIRerank

ALL = 32  # documents
MODEL = "any-name"  # the server runs with --any-model


def best_first(scores):
    return sorted(enumerate(scores), key=lambda item: (-item[1], item[0]))


def open_webui(address, key, query, documents):
    """Its class ExternalReranker; the module for headers of signed-in users needs the whole product."""
    headers = types.ModuleType("open_webui.utils.headers")
    headers.include_user_info_headers = None  # called only if ENABLE_FORWARD_USER_INFO_HEADERS is set
    sys.modules["open_webui.utils.headers"] = headers
    from open_webui.retrieval.models.external import ExternalReranker

    reranker = ExternalReranker(url=address + "/v1/rerank", api_key=key, model=MODEL)
    return best_first(reranker.predict([(query, text) for text in documents]))


def ask_lightrag(rerank, query, documents, top_n):
    """As LightRAG reranks the passages that it retrieved."""
    passages = [{"content": text, "place": i} for i, text in enumerate(documents)]
    config = {"rerank_model_func": rerank}
    found = asyncio.run(lightrag.utils.apply_rerank_if_enabled(query, passages, config, top_n=top_n))
    return [(passage["place"], passage["rerank_score"]) for passage in found]


def lightrag_cohere(address, key, query, documents):
    rerank = functools.partial(lightrag.rerank.cohere_rerank, model=MODEL, base_url=address + "/v2/rerank", api_key=key)
    return ask_lightrag(rerank, query, documents, 7)


def lightrag_jina(address, key, query, documents):
    rerank = functools.partial(lightrag.rerank.jina_rerank, model=MODEL, base_url=address + "/v1/rerank", api_key=key)
    return ask_lightrag(rerank, query, documents, None)


def ask_haystack(ranker, query, documents):
    pipeline = Pipeline()
    pipeline.add_component("ranker", ranker)
    asked = [Document(content=text, meta={"place": i}) for i, text in enumerate(documents)]
    found = pipeline.run({"ranker": {"query": query, "documents": asked}})["ranker"]["documents"]
    return [(document.meta["place"], document.score) for document in found]


def haystack_cohere(address, key, query, documents):
    ranker = CohereRanker(model=MODEL, api_key=Secret.from_token(key), api_base_url=address, top_k=7)
    return ask_haystack(ranker, query, documents)


def haystack_jina(address, key, query, documents):
    ranker = JinaRanker(model=MODEL, api_key=Secret.from_token(key), base_url=address + "/v1/rerank")
    return ask_haystack(ranker, query, documents)


def haystack_tei(address, key, query, documents):
    return ask_haystack(HuggingFaceTEIRanker(url=address, token=Secret.from_token(key), top_k=7), query, documents)


def haystack_vllm(address, key, query, documents):
    ranker = VLLMRanker(model=MODEL, api_key=Secret.from_token(key), api_base_url=address + "/v1", top_k=7)
    return ask_haystack(ranker, query, documents)


def langchain_voyage(address, key, query, documents):
    reranker = VoyageAIRerank(api_key=key, base_url=address + "/v1", model=MODEL, top_k=7)
    asked = [LangChainDocument(page_content=text, metadata={"place": i}) for i, text in enumerate(documents)]
    return [(d.metadata["place"], d.metadata["relevance_score"]) for d in reranker.compress_documents(asked, query)]


def cohere_v2(address, key, query, documents):
    found = cohere.ClientV2(key, base_url=address).rerank(model=MODEL, query=query, documents=documents, top_n=7)
    return [(r.index, r.relevance_score) for r in found.results]


def pymilvus_tei(address, key, query, documents):
    """It has no setting for a key, and gives five results whatever top_k is."""
    reranker = pymilvus.model.reranker.TEIRerankFunction(address)
    reranker._session.headers["Authorization"] = "Bearer " + key
    return [(r.index, r.score) for r in reranker(query, documents)]


def pymilvus_jina(address, key, query, documents):
    pymilvus.model.reranker.jinaai.API_URL = address + "/v1/rerank"  # it has no setting for that
    return [(r.index, r.score) for r in pymilvus.model.reranker.JinaRerankFunction(MODEL, key)(query, documents, top_k=7)]


# (package, client, results it must give)
CLIENTS = [
    ("open-webui", open_webui, ALL),
    ("lightrag-hku", lightrag_cohere, 7),
    ("lightrag-hku", lightrag_jina, ALL),
    ("cohere-haystack", haystack_cohere, 7),
    ("jina-haystack", haystack_jina, ALL),
    ("huggingface-api-haystack", haystack_tei, 7),
    ("vllm-haystack", haystack_vllm, 7),
    ("langchain-voyageai", langchain_voyage, 7),
    ("cohere", cohere_v2, 7),
    ("pymilvus-model", pymilvus_tei, 5),
    ("pymilvus-model", pymilvus_jina, 7),
]

# Models of LiteLLM's proxy: provider and what follows the server's address in api_base.
LITELLM = {"hosted_vllm": "", "jina_ai": "", "cohere": "", "infinity": "/infinity", "huggingface": "", "voyage": "/voyage"}


@contextlib.contextmanager
def litellm_proxy(address, key):
    """The address of LiteLLM's proxy with a model for each provider."""
    with socket.socket() as free, tempfile.TemporaryDirectory(prefix="litellm-") as folder:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        config = pathlib.Path(folder, "config.yaml")
        lines = ["model_list:"]
        for provider, path in LITELLM.items():
            lines += [f"  - model_name: by-{provider}", "    litellm_params:", f"      model: {provider}/{MODEL}"]
            lines += [f"      api_base: {address}{path}", f"      api_key: {key}"]
        config.write_text("\n".join([*lines, "general_settings:", "  master_key: sk-proxy", ""]))
        command = [pathlib.Path(sys.executable).with_name("litellm"), "--config", config, "--host", "127.0.0.1", "--port", str(port)]
        log = pathlib.Path(folder, "log")
        with log.open("w") as out:
            proxy = subprocess.Popen(
                command, stdout=out, stderr=out, cwd=folder, env={**os.environ, "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
            )
        try:
            proxy_address = f"http://127.0.0.1:{port}"
            for _ in range(240):
                with contextlib.suppress(requests.ConnectionError):
                    if requests.get(proxy_address + "/health/liveliness", timeout=5).ok:
                        break
                if proxy.poll() is not None:
                    raise SystemExit("clients: LiteLLM's proxy ended:\n" + log.read_text()[-4000:])
                time.sleep(1)
            else:
                raise SystemExit("clients: LiteLLM's proxy did not answer within 4 minutes:\n" + log.read_text()[-4000:])
            yield proxy_address
        finally:
            proxy.terminate()
            proxy.wait(30)


def ask_litellm_proxy(proxy, provider, query, documents):
    answer = requests.post(
        proxy + "/v1/rerank",
        json={"model": "by-" + provider, "query": query, "documents": documents, "top_n": 7},
        headers={"Authorization": "Bearer sk-proxy"},
        timeout=120,
    )
    if not answer.ok:
        raise SystemExit(f"clients: LiteLLM's proxy answered {answer.status_code} for {provider}: {answer.text[:2000]}")
    return [(item["index"], item["relevance_score"]) for item in answer.json()["results"]]
