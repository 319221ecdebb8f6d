"""Tries real clients against mlxrank serve: they must get the rankings and scores of mlxrank rerank.

make check-clients makes the environments and runs this in both: without --products the
clients of clients.txt and schemathesis, with --products the products of
docs/user/recipes that Python and Node run.

Starts the program with the builtin model on a free port and with a key, asks it
through every client, and has schemathesis try the API's description against it.
"""

import argparse
import contextlib
import importlib.metadata
import json
import os
import pathlib
import re
import subprocess
import sys

sys.dont_write_bytecode = True

DOCUMENTS = pathlib.Path(__file__).resolve().parents[2] / "demo" / "documents.jsonl"
SCHEMATHESIS = pathlib.Path(__file__).with_name("schemathesis.toml")
QUERY = "monitor changes to configuration files"
KEY = "a-key-for-clients"
TOLERANCE = 1e-6  # batches of other shapes differ in the last digits


def expected(program):
    """[(index, score)] of the command line."""
    out = subprocess.run(
        [program, "rerank", "--model", "builtin", "--json", "--query", QUERY, "--documents", DOCUMENTS],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    return [(item["index"], item["score"]) for item in json.loads(out)["results"]]


@contextlib.contextmanager
def serving(program):
    """The server's address; the server must end well when it is told to."""
    server = subprocess.Popen(
        [program, "serve", "--model", "builtin", "--any-model", "--admin", "--listen", "127.0.0.1:0", "--log-format", "json"],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "MLXRANK_API_KEY": KEY, "HF_HUB_OFFLINE": "1"},  # schemathesis names models to load
    )
    try:
        for line in server.stderr:
            if found := re.search(r'"address":"([^"]+)"', line):
                yield found[1]
                break
        else:
            raise SystemExit("clients: the server does not say where it listens")
    finally:
        server.terminate()
        server.stderr.read()
        if server.wait(30) != 0:
            raise SystemExit(f"clients: the server ended with status {server.returncode}, want 0")


def check(name, got, want):
    """Checks that a client's [(index, score)] are the first of the wanted ones."""
    if not got:
        return f"{name}: no results"
    want = want[: len(got)]
    if [index for index, _ in got] != [index for index, _ in want]:
        return f"{name}: order {[index for index, _ in got]}, want {[index for index, _ in want]}"
    worst = max(abs(a - b) for (_, a), (_, b) in zip(got, want))
    return f"{name}: scores are off by {worst:.2g}" if not worst <= TOLERANCE else None


def schemathesis(address):
    command = [
        sys.executable,
        "-m",
        "schemathesis.cli",
        "--config-file",
        SCHEMATHESIS,
        "run",
        address + "/openapi.json",
        "--seed",
        "1",
        "--max-examples",
        "50",
        "--header",
        "Authorization: Bearer " + KEY,
        "--generation-database",
        "none",
    ]
    ran = subprocess.run(command, capture_output=True, text=True)
    if ran.returncode:
        print(ran.stdout[-8000:], ran.stderr[-2000:])
        return "schemathesis: found something"
    print(
        f"  {'schemathesis ' + importlib.metadata.version('schemathesis'):60} {re.search('[0-9]+ generated, [0-9]+ passed', ran.stdout)[0]}"
    )
    return None


def print_outcome(name, fault):
    print(f"  {name:60} {'wrong' if fault else 'right'}", flush=True)
    return fault


def try_all(listed, address, documents, want):
    """The faults of (package or None, client, results it must give)."""
    for package, client, count in listed:
        name = f"{client.__name__} ({package} {importlib.metadata.version(package)})" if package else client.__name__
        got = client(address, KEY, QUERY, documents)
        fault = check(name, got, want) or (f"{name}: {len(got)} results, want {count}" if len(got) != count else None)
        yield print_outcome(name, fault)


def try_clients(address, documents, want):
    import clients

    yield from try_all(clients.CLIENTS, address, documents, want)
    for name, fault in clients.refusals(address, QUERY, documents):
        yield print_outcome(name, fault and f"{name}: {fault}")
    yield schemathesis(address)


def try_products(address, documents, want, node):
    import products

    yield from try_all(products.CLIENTS, address, documents, want)
    version = importlib.metadata.version("litellm")
    with products.litellm_proxy(address, KEY) as proxy:
        for provider in products.LITELLM:
            name = f"LiteLLM's proxy {version} by {provider}"
            yield print_outcome(name, check(name, products.ask_litellm_proxy(proxy, provider, QUERY, documents), want))
    asked = {"address": address, "key": KEY, "model": products.MODEL, "query": QUERY, "documents": documents}
    ran = subprocess.run(["node", "products.js"], cwd=node, input=json.dumps(asked), stdout=subprocess.PIPE, text=True)
    if ran.returncode:
        raise SystemExit(f"clients: node ended with status {ran.returncode}")
    for name, got in json.loads(ran.stdout).items():
        yield print_outcome(name, check(name, got, want))


def main():
    parser = argparse.ArgumentParser(prog="clients", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", type=pathlib.Path, help="the mlxrank to try")
    parser.add_argument("--products", metavar="FOLDER", type=pathlib.Path, help="try the products; FOLDER has products.js and its packages")
    options = parser.parse_args()
    program = options.program.resolve()
    want = expected(program)
    with DOCUMENTS.open(encoding="utf-8") as f:
        documents = [json.loads(line)["text"] for line in f]
    with serving(program) as address:
        tried = try_products(address, documents, want, options.products) if options.products else try_clients(address, documents, want)
        faults = [fault for fault in tried if fault]
    if faults:
        raise SystemExit("\n".join(["clients:", *faults]))


if __name__ == "__main__":
    main()
