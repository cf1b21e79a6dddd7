# What can be done here; `make help` lists it. The work is in scripts/, tests/ and tools/.

PG_CONFIG ?= /usr/lib/postgresql/15/bin/pg_config
MODEL ?= all-MiniLM-L6-v2
DATA ?= samples/scifact
FOLDER ?=
ONLY ?=
MAJORS ?=
SET ?=
export PG_CONFIG MODEL FOLDER ONLY MAJORS SET

.DEFAULT_GOAL := help
.PHONY: help deps model install demo psql test test-all soak test-assert fuzz asan miri aarch64 bench recall fmt lint clean

# Each target makes what it needs: these look first, and do nothing where nothing is missing.
PREPARED = ./scripts/deps.sh && QUIET=1 ./scripts/model.sh && ./scripts/install.sh

help: ## this list
	@sed -nE 's/^([a-z0-9-]+):.*## (.*)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20
	@echo
	@echo "  PG_CONFIG=$(PG_CONFIG) names the Postgres that is meant."

deps: ## system packages, cargo-pgrx, Python tools, the ONNX Runtime library (Rust itself is expected)
	@./scripts/deps.sh

model: ## MODEL=all-MiniLM-L6-v2 (or ...-int8) into .build/models, or FOLDER=... to check and convert one of your own
	@./scripts/deps.sh && ./scripts/model.sh

install: ## build for release; put extension, ONNX Runtime and models into the Postgres of PG_CONFIG
	@$(PREPARED)

demo: ## a private server, real text (DATA=folder for your own), an index, questions answered
	@$(PREPARED) && .build/venv/bin/python scripts/demo.py --data "$(DATA)" --model "$(MODEL)"

psql: ## psql on the demo's database
	@./scripts/psql.sh

test: ## all tests; ONLY="word ..." runs those with a word in their name
	@./tests/run --prepare $(ONLY)

test-all: ## all tests on Postgres 15, 16, 17 and 18, or on those in MAJORS="15 18:short"; fetches the servers
	@./tests/run_all $(MAJORS)

soak: ## the long forms of the tests that load a server, about an hour; ONLY=server/crash for one of them
	@$(PREPARED) && ./scripts/soak.sh $(ONLY)

test-assert: ## the tests on a Postgres 15 built here with assertions; ONLY=word as above
	@./scripts/deps.sh && ./scripts/model.sh --for-tests && ./scripts/assert.sh $(ONLY)

fuzz: ## fuzz what reads pages, literals, binary values, sketches and model files; SECONDS_EACH=8 per target
	@./scripts/fuzz.sh

asan: ## tests of the crates under AddressSanitizer
	@./scripts/memory_check.sh asan

miri: ## parts of the same under Miri, where that is installed
	@./scripts/memory_check.sh miri

aarch64: ## the same compiled for 64-bit ARM, run by qemu
	@./scripts/memory_check.sh aarch64

recall: ## recall, recomputes, pages and bytes on DATA=folder, built, tenth and grown
	@$(PREPARED) && .build/venv/bin/python scripts/recall.py --data "$(DATA)" --model "$(MODEL)" --own-cluster \
		--mode built --mode tenth --mode grown

bench: ## recall, costs and plots on the data sets at hand (DATA_DIR=folder of folders; SET=sweep for a part)
	@$(PREPARED) && ./benches/run

fmt: ## format the Rust code
	@bash -c '. scripts/common.sh && cargo fmt --all && cargo fmt --manifest-path fuzz/Cargo.toml'

lint: ## format, clippy, docs, Python, shell, line width, imports, licenses: scripts/lint.sh lists the steps
	@./scripts/deps.sh && ./scripts/lint.sh

clean: ## remove what was built here and the demo (the installed extension stays)
	@./scripts/clean.sh
