# A newcomer needs three: make demo, make check, make test. CONTRIBUTING.md has
# a table of what each suite proves.
# Options in SHELL and not in .SHELLFLAGS, which macOS's GNU make 3.81 ignores.
SHELL := /bin/bash -euo pipefail
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

PYTHON ?= python3
SETUP := $(PYTHON) scripts/setup.py
UNFUSED := MLXRANK_UNFUSED_GRAPH=1
# Without debug information a test program links in half the time.
LINK := -ldflags=-w

.PHONY: help
help: ## show this list
	@awk -F ':.*## ' '/^##@/ { print "\n" substr($$0, 5) } /^[a-z0-9-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

##@ Build
.PHONY: build demo capi xcframeworks install uninstall clean
build: ## fetch and build what is missing, then build/bin/mlxrank
	@$(SETUP)
	@go build -trimpath -o build/bin/mlxrank ./cmd/mlxrank
	@$(SETUP) notices

demo: build ## rank some package descriptions with the builtin model
	build/bin/mlxrank rerank --model builtin --top-n 5 --documents scripts/demo/documents.jsonl \
		--query "monitor changes to configuration files"

capi: build ## build the C API for other languages: build/capi
	@$(SETUP) capi

xcframeworks: capi ## build the frameworks of the Swift package: build/xcframeworks (macOS)
	@$(SETUP) xcframeworks

# The layout that release archives and the Homebrew formula have too. Where only
# root may write: make capi, then sudo python3 scripts/setup.py install.
PREFIX ?= /usr/local
DESTDIR ?=
install: capi ## install under PREFIX (/usr/local), in DESTDIR if that is set
	@PREFIX="$(PREFIX)" DESTDIR="$(DESTDIR)" $(SETUP) install

uninstall: ## remove what make install puts there
	@PREFIX="$(PREFIX)" DESTDIR="$(DESTDIR)" $(SETUP) uninstall

clean: ## remove everything that was fetched or built
	rm -rf build

##@ Test: every few minutes, before a push, before a release
.PHONY: check test test-all
check: build format ## a minute: format, vet, unit tests, small goldens, linters on what changed
	go vet ./...
	@$(MAKE) --no-print-directory test-scripts
	@$(SETUP) faults
	@$(SETUP) s3
	@# The C API's tests need make capi; make test runs them.
	go test $(LINK) -short $$(go list ./... | grep -v /capi/test)
	$(UNFUSED) go test $(LINK) -short -run '$(GOLDENS)' ./engine ./mlx
	@$(SETUP) lint-changed

test: capi format ## what CI runs: everything that a change can break
	@$(SETUP) clang
	@# Here, since set-up waits while another set-up runs, such as the linters.
	@$(SETUP) faults
	@$(SETUP) balancers
	@$(SETUP) s3
	@$(MAKE) --no-print-directory -j2 test-packages test-others
	@# These build the C API again, which test-packages reads.
	@$(MAKE) --no-print-directory check-install

# Runs beside test-packages, in the processor time that the Go tests leave; nice keeps
# it from slowing tests that measure time. Its output appears when it ends.
.PHONY: test-others
test-others:
	@mkdir -p build; status=0; \
		nice -n 15 $(MAKE) --no-print-directory IN_ORDER=1 lint check-darwin test-native test-metal fuzz >build/test-others.log 2>&1 || status=$$?; \
		cat build/test-others.log; exit $$status
ifdef IN_ORDER
.NOTPARALLEL:
endif

test-all: test test-long soak load check-release check-dashboard check-clients check-arm64 test-swift ## the rest too; some need what make test does not

##@ One suite
.PHONY: golden lint format test-go test-packages test-scripts test-native test-metal test-variant test-faults test-long fuzz soak load
# Of the goldens, those that run on both graphs.
GOLDENS := GraphIs|PyTorch|AutoTokenizer|Controls|Company|Labels
# Tests of many callers that any dtype passes.
REHEARSAL := Soak|ManyCallersWithCancellations|CancellationAtRandom|SameInAnyCompany
# The suites that make golden knows, and their tests.
golden-tiny := TestTinyModelsMatchPyTorch
golden-builtin := TestBuiltin(MatchesPyTorch|ControlsFail)
golden-family := TestFamilyMatchesPyTorch
golden-encoders := TestEncoders
golden-shapes := TestShapes
golden-head := TestRandomHeadMatchesPyTorch
golden-activations := TestActivationsArePyTorchs
golden-tokens := Test(Cased)?Token(s?|Kinds)(Equal|CutOnTheLeft|Controls)
golden-longwords := TestLongWords
golden-labels := TestLabels
NAME ?=
golden: build ## one golden suite against PyTorch on both graphs: make golden NAME=tiny (builtin, family, head ...)
	@test -n '$(golden-$(NAME))' || { echo "NAME=$(NAME) is no golden; there are:$(patsubst golden-%, %,$(filter golden-%,$(.VARIABLES)))" >&2; exit 2; }
	go test -count 1 -v -run '^($(golden-$(NAME)))' ./engine
	$(UNFUSED) go test -count 1 -v -run '^($(golden-$(NAME)))' ./engine

lint: build ## every linter, at pinned versions: Go, Python, JavaScript, C, prose, workflows
	@$(SETUP) lint

format:
	@unformatted=$$(gofmt -l $$(git ls-files '*.go')); \
		if [ -n "$$unformatted" ]; then echo "gofmt would change: $$unformatted" >&2; exit 1; fi

test-scripts:
	$(PYTHON) -B -m unittest discover -s scripts/peers
	$(PYTHON) -B -m unittest discover -s scripts/check/verifymac
	$(PYTHON) -B -m unittest discover -s scripts

test-go: build ## the Go packages under the race detector, and the goldens on the unfused graph
	@$(SETUP) faults
	@$(SETUP) balancers
	@$(SETUP) s3
	@$(MAKE) --no-print-directory test-packages

test-packages:
	go mod verify
	go mod tidy -diff
	go vet ./...
	@$(MAKE) --no-print-directory test-scripts
	go test $(LINK) -race -timeout 30m ./...
	@# A module of its own keeps its search library out of the program's.
	go -C examples/rag mod tidy -diff
	eval "$$(build/bin/mlxrank env)" && go -C examples/rag vet ./... && go -C examples/rag test ./...
	@# Metal runs the unfused graph: it is held against PyTorch too.
	@# The variants' test chooses its graph itself: it ran above.
	$(UNFUSED) go test $(LINK) -count 1 -run '$(GOLDENS)' -skip '^TestVariantsMatchPyTorch$$' ./engine ./mlx
	@# Its bounds on memory do not hold under the race detector.
	go test $(LINK) -count 1 -run LargeVocabulary ./engine
	@# float16 on the CPU rehearses Metal: the same graph, threads and streams.
	MLXRANK_TEST_DTYPE=float16 go test $(LINK) -race -count 1 -run '$(REHEARSAL)' ./engine -soak 300

test-native: build ## the native library's C tests, with sanitizers
	@$(SETUP) smoke
	@$(SETUP) measure
	$(PYTHON) -B scripts/check/verifymac/measured.py
	$(PYTHON) -B scripts/check/upper_halves.py build/lib/libmlxrank.so

test-faults: build ## injected faults on the GPU: each must reach its own batch
	@$(SETUP) faults
	MLXRANK_TEST_DEVICE=gpu go test -count 1 -v -run 'Fault|WrongRow|Hang|TwoModels' ./mlx

# The builtin model, since not every variant can compute the other goldens' models.
VARIANT ?= reference
test-variant: build ## the builtin model's goldens on the GPU, with one variant of the graph: VARIANT=reference
	MLXRANK_TEST_DEVICE=gpu MLXRANK_GPU_VARIANT=$(VARIANT) go test -count 1 -timeout 40m -v -run '^TestBuiltin' ./engine

# Linux alone: on a Mac the kernels run on the GPU.
test-metal: build ## every variant of the unfused graph against PyTorch, with the Metal kernels emulated
	@$(SETUP) emulator
	MLXRANK_LIBRARY=$(CURDIR)/build/native/emulator/libmlxrank.so MLXRANK_TEST_EMULATOR=1 \
		go test $(LINK) -count 1 -timeout 30m -run '^Test(VariantsMatchPyTorch|HalfPrecisionKeepsTheOrder|MatmulsOfEachGraph|DTypeIsTheGraphs)$$' ./engine ./mlx

# Repetition: more open and close cycles, exits at more moments, ThreadSanitizer.
test-long: capi ## the tests that make test shortens: C API, native, load balancers, half precision
	@$(SETUP) clang
	MLXRANK_TEST_LONG=1 go test -count 1 -timeout 30m -v ./capi/test
	MLXRANK_TEST_LONG=1 $(SETUP) smoke
	MLXRANK_TEST_LONG=1 go test -count 1 -timeout 30m ./cli/conform/diagnosis
	@# Some faults need root: loop devices, namespaces.
	MLXRANK_TEST_LONG=1 go test -count 1 -timeout 60m -v -run '^Test(Killed|Paused|Poison|Second|Wrong|Full|Silent|Network|Power|Clock)' ./fleet
	MLXRANK_TEST_LONG=1 $(SETUP) balancers
	MLXRANK_TEST_LONG=1 go test -count 1 -timeout 30m -v ./scripts/service
	@$(SETUP) s3
	MLXRANK_TEST_LONG=1 go test -count 1 -timeout 30m -v -run '^Test(Throughput|BucketSilent)$$' ./fleet
	go test -count 1 -timeout 30m -v -run '^TestScale$$' ./fleet -scale-workers 1000 -scale-parts 10000 -scale-part 2s
	@# Half an hour of processor time in MLX's matmuls.
	MLXRANK_TEST_LONG=1 go test -count 1 -timeout 3h -v -run '^Test(HalfPrecisionKeepsTheOrder|Encoders|Shapes)$$' ./engine

# Each package's test program is built once, with the fuzzer's instrumentation,
# and then fuzzes one target at a time. A count of executions and not a time, since
# go 1.26 may fail a target whose time runs out while a worker is busy
# (go.dev/issue/75804).
FUZZTIME ?= 1000x
fuzz: build ## fuzz every target for FUZZTIME (1000x: executions; 1h: an hour each)
	@for package in $$(grep -rl --include='*_test.go' --exclude-dir=build '^func Fuzz' . | xargs -n 1 dirname | sort -u); do \
		name=$${package#./}; program=$(CURDIR)/build/fuzz/$${name//\//-}.test; \
		go test -c -fuzz . -o $$program $$package && targets=$$($$program -test.list '^Fuzz') && test -n "$$targets" || exit; \
		for target in $$targets; do \
			echo "fuzzing $$package $$target for $(FUZZTIME)"; \
			out=$$(cd $$package && $$program -test.run '^$$' -test.fuzz "^$$target\$$" -test.fuzztime $(FUZZTIME) \
				-test.fuzzminimizetime 100x -test.fuzzcachedir $(CURDIR)/build/fuzz/corpus/$$name 2>&1) || { echo "$$out"; exit 1; }; \
			if ! echo "$$out" | grep execs | tail -n 1 || grep -q "without coverage guidance" <<<"$$out"; then echo "$$out"; exit 1; fi; \
		done; \
	done

SOAK ?= 60s
soak: build ## random batches for SOAK (60s) under the race detector, which must leave nothing behind
	go test -race ./engine -run '^TestSoak$$' -soak-time $(SOAK) -count 1 -timeout 0 -v

LOAD ?= 10m
load: build ## a thousand clients of every format for LOAD (10m), and for a minute under the race detector
	go test ./server -run '^TestLoad(Builtin)?$$' -load-time 20s -load-clients 1000 -count 1 -v
	go test ./server -run '^TestLoadMix$$' -load-time $(LOAD) -load-clients 1000 -count 1 -timeout 0 -v
	go test -race ./server -run '^TestLoadMix$$' -load-time 1m -load-clients 1000 -count 1 -timeout 0 -v

.PHONY: check-install check-release check-dashboard check-darwin check-clients check-arm64 test-swift verify-mac
check-install: capi ## install into a temporary folder and rank from it, with no environment
	@$(SETUP) check-install

# Ten minutes the first time, to build GoReleaser from source.
check-release: capi ## a trial of the release archive: build/dist, unpacked and tried
	@$(SETUP) check-release

# Set-up, which asks for no root, cannot install a browser; the tests name what
# is missing.
check-dashboard: build ## the dashboard in headless Chromium, which must be installed
	go vet -tags browser ./server/dashboard
	go test -tags browser -race -count 1 ./server/dashboard

check-darwin: build ## compile and link for macOS on arm64, without a Mac
	@$(SETUP) darwin

# The lists of products are complete, and Open WebUI is installed without its
# dependencies: so pip needs to resolve nothing.
check-clients: build ## try real clients and products, and schemathesis, against the server (1 GB to fetch, 2.4 GB of disk; npm must be installed)
	$(PYTHON) -m venv build/clients
	build/clients/bin/pip install --quiet --requirement scripts/requirements/clients.txt
	build/clients/bin/python scripts/check/clients build/bin/mlxrank
	$(PYTHON) -m venv build/products
	build/products/bin/pip install --quiet --no-deps --requirement scripts/requirements/products.txt --requirement scripts/requirements/openwebui.txt
	mkdir -p build/products-node
	cp scripts/check/clients/node/* build/products-node
	npm ci --prefix build/products-node --no-audit --no-fund --ignore-scripts --silent
	build/products/bin/python scripts/check/clients build/bin/mlxrank --products build/products-node

check-arm64: build ## build for Linux on arm64 and test kernels and tiny models, emulated on x86_64
	@$(SETUP) arm64

# On Linux set-up fetches Debian 13's Swift, 470 MB: too much for make test.
test-swift: capi ## compile and test the Swift package
	@$(SETUP) swift

# VERIFY: options of scripts/check/verifymac, such as --device cpu.
VERIFY ?=
verify-mac: capi ## check and measure everything on this Mac's GPU: build/verify-mac.md and .json
	@$(SETUP) faults
	@$(SETUP) clang
	@$(SETUP) measure
	go build -trimpath -o build/peers/mlxrank ./scripts/peers/mlxrank
	$(PYTHON) -B scripts/check/verifymac $(VERIFY)

##@ Measure, and make files again
.PHONY: bench peers peers-encoders peers-python goldens release
bench: build ## measure the seed report's configuration: results/14_optimized_production_results.md
	build/bin/mlxrank bench experiments/14_optimized_production.yaml

# PEERS: options of scripts/peers, such as --rounds 9.
PEERS ?=
peers-python: build ## other ways to run the model, in Python, for make peers and make verify-mac (several GB to fetch)
	$(PYTHON) -m venv build/peers/venv
	build/peers/venv/bin/pip install --quiet --requirement scripts/requirements/peers.txt
	build/peers/venv/bin/python scripts/peers/prepare.py build/models/all-MiniLM-L6-v2 build/peers

peers: peers-python ## compare with other ways to run the models: docs/history/peers.md and peers-encoders.md
	go build -trimpath -o build/peers/mlxrank ./scripts/peers/mlxrank
	CGO_LDFLAGS='"-L$(CURDIR)/build/tokenizers"' go -C scripts/peers/hugot build -trimpath -tags ORT -o $(CURDIR)/build/peers/hugot .
	build/peers/venv/bin/python scripts/peers $(PEERS)
	$(measure-encoders)

peers-encoders: peers-python ## the second half of make peers, models of the shapes of Ettin and mMiniLM: docs/history/peers-encoders.md
	go build -trimpath -o build/peers/mlxrank ./scripts/peers/mlxrank
	$(measure-encoders)

# Their weights are random, so that nothing is fetched.
define measure-encoders
build/peers/venv/bin/python scripts/peers/encoders.py build/peers
build/peers/venv/bin/python scripts/peers --encoders $(PEERS)
endef

goldens: build ## make the golden files again, with PyTorch (several GB to fetch)
	$(PYTHON) -m venv build/goldens
	build/goldens/bin/pip install --quiet --requirement scripts/requirements/goldens.txt
	build/goldens/bin/python scripts/goldens all

release: capi ## the release archive of the tag that is checked out: docs/dev/releasing.md
	@$(SETUP) release
