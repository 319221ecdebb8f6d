# Two commands are all a newcomer needs: make demo, make test.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

PYTHON ?= python3
SETUP := $(PYTHON) scripts/setup.py

.PHONY: help build capi demo bench test fuzz soak lint install uninstall goldens peers check-dashboard check-darwin test-swift check-clients check-arm64 check-install check-release release verify-mac clean
help: ## show this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## fetch and build what is missing, then build/bin/mlxrank
	@$(SETUP)
	@go build -trimpath -o build/bin/mlxrank ./cmd/mlxrank
	@$(SETUP) notices

demo: build ## rerank some package descriptions with the builtin model
	build/bin/mlxrank rerank --model builtin --top-n 5 --documents scripts/demo/documents.jsonl \
		--query "monitor changes to configuration files"

capi: build ## the C API for other languages: build/capi
	@$(SETUP) capi

bench: build ## measure the seed report's configuration: results/14_optimized_production_results.md
	build/bin/mlxrank bench experiments/14_optimized_production.yaml

test: capi ## every check there is
	@$(SETUP) smoke
	@$(SETUP) clang
	@$(MAKE) --no-print-directory test-go fuzz lint check-darwin check-install

.PHONY: test-go
test-go:
	@unformatted=$$(gofmt -l $$(git ls-files '*.go')); \
		if [ -n "$$unformatted" ]; then echo "gofmt would change: $$unformatted" >&2; exit 1; fi
	go mod verify
	go mod tidy -diff
	go vet ./...
	$(PYTHON) -B -m unittest discover -s scripts/peers
	$(PYTHON) -B -m unittest discover -s scripts/check/verifymac
	$(PYTHON) -B -m unittest discover -s scripts
	go test -race -timeout 30m ./...
	@# A module of its own keeps its search library out of the program's.
	go -C examples/rag mod tidy -diff
	eval "$$(build/bin/mlxrank env)" && go -C examples/rag vet ./... && go -C examples/rag test -race ./...
	go test -race ./engine -run '^TestSoak$$' -soak-time 60s -count 1
	go test ./server -run '^TestLoad' -load-time 20s -load-clients 1000 -count 1
	@# The plain graph is what Metal runs: it is held against PyTorch too.
	MLXRANK_PLAIN_GRAPH=1 go test -count 1 -run 'GraphIs|PyTorch|Controls|Company|Labels' ./engine ./mlx

# The fuzz targets one after another: go fuzzes one at a time. A count of
# executions and not a time, since go 1.26 may fail a target whose time runs out
# while a worker is busy (go.dev/issue/75804).
FUZZTIME ?= 5000x
fuzz: build ## fuzz every target for FUZZTIME (5000x: executions; 1h: an hour each)
	@$(MAKE) --no-print-directory fuzz-go
.PHONY: fuzz-go
fuzz-go:
	@for package in $$(go list ./...); do \
		for target in $$(go test -list '^Fuzz' $$package | grep '^Fuzz' || true); do \
			echo "fuzzing $$package $$target for $(FUZZTIME)"; \
			out=$$(go test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 100x $$package 2>&1) \
				|| { echo "$$out"; exit 1; }; \
			echo "$$out" | grep execs | tail -n 1; \
		done; \
	done

lint: build ## golangci-lint, and actionlint on the workflows, at pinned versions
	@$(SETUP) lint

soak: build ## a hundred thousand batches of random shapes, which must leave nothing behind
	go test ./engine -run '^TestSoak$$' -soak 100000 -count 1 -timeout 0 -v

# The layout that release archives and the Homebrew formula have too. Where only
# root may write: make capi, then sudo python3 scripts/setup.py install.
PREFIX ?= /usr/local
DESTDIR ?=
install: capi ## install under PREFIX (/usr/local), in DESTDIR if that is set
	@PREFIX="$(PREFIX)" DESTDIR="$(DESTDIR)" $(SETUP) install

uninstall: ## remove what make install puts there
	@PREFIX="$(PREFIX)" DESTDIR="$(DESTDIR)" $(SETUP) uninstall

check-install: capi ## install into a temporary folder and rank from it, with no environment
	@$(SETUP) check-install

# Ten minutes the first time, to build GoReleaser from source.
check-release: capi ## a trial of the release archive: build/dist, unpacked and tried
	@$(SETUP) check-release

release: capi ## the release archive of the tag that is checked out: docs/dev/releasing.md
	@$(SETUP) release

# VERIFY: options of scripts/check/verifymac, such as --device cpu.
VERIFY ?=
verify-mac: capi ## check everything on this Mac's GPU: build/verify-mac.md
	@$(SETUP) clang
	$(PYTHON) -B scripts/check/verifymac $(VERIFY)

# The pages in a real browser. It is not in make test, since set-up, which asks
# for no root, cannot install one; the tests name what is missing.
check-dashboard: build ## the dashboard in headless Chromium, which must be installed
	go vet -tags browser ./server/dashboard
	go test -tags browser -race -count 1 ./server/dashboard

check-darwin: build ## compile and link for macOS on arm64, check the Swift package, without a Mac
	@$(SETUP) darwin
	@$(SETUP) swift

# PKG_CONFIG_PATH is where SwiftPM looks for libmlxr.
test-swift: capi ## the Swift package's tests, where Swift is
	PKG_CONFIG_PATH=$(CURDIR)/build/capi/lib/pkgconfig swift test --package-path capi/swift --scratch-path build/swift/package \
		-Xlinker -rpath -Xlinker $(CURDIR)/build/capi/lib

check-clients: build ## try real clients, and schemathesis, against the server (some 500 MB to fetch)
	$(PYTHON) -m venv build/clients
	build/clients/bin/pip install --quiet --requirement scripts/requirements/clients.txt
	build/clients/bin/python scripts/check/clients build/bin/mlxrank

check-arm64: build ## build for Linux on arm64 and test kernels and tiny models, emulated on x86_64
	@$(SETUP) arm64

goldens: build ## make the golden files again, with PyTorch (several GB to fetch)
	$(PYTHON) -m venv build/goldens
	build/goldens/bin/pip install --quiet --requirement scripts/requirements/goldens.txt
	build/goldens/bin/python scripts/goldens all

# PEERS: options of scripts/peers, such as --rounds 9.
PEERS ?=
peers: build ## compare with other ways to run the model: docs/history/peers.md (several GB to fetch)
	$(PYTHON) -m venv build/peers/venv
	build/peers/venv/bin/pip install --quiet --requirement scripts/requirements/peers.txt
	go build -trimpath -o build/peers/mlxrank ./scripts/peers/mlxrank
	CGO_LDFLAGS='"-L$(CURDIR)/build/tokenizers"' go -C scripts/peers/hugot build -trimpath -tags ORT -o $(CURDIR)/build/peers/hugot .
	build/peers/venv/bin/python scripts/peers/prepare.py build/models/all-MiniLM-L6-v2 build/peers
	build/peers/venv/bin/python scripts/peers $(PEERS)

clean: ## remove everything that was fetched or built
	rm -rf build
