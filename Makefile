# Everything a developer or CI runs. `make` alone prints the list.
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
SHELL := bash
.SHELLFLAGS := -euo pipefail -c

# The engine's socket; rootless: make up DOCKER_SOCKET=$XDG_RUNTIME_DIR/docker.sock
DOCKER_SOCKET ?= $(if $(filter unix://%,$(DOCKER_HOST)),$(DOCKER_HOST:unix://%=%),/var/run/docker.sock)
export DOCKER_SOCKET
export DOCKER_HOST := unix://$(DOCKER_SOCKET)

.PHONY: help
help: ## Print this list
	@awk -F ':[^#]*## ' '/^[a-z-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: demo demo-down
demo: up ## Break the on-prem service in many ways under traffic, show what happens and who is told
	@cargo run --release --locked --quiet --example demo

demo-down: ## Remove the stack with its volumes and networks
	@COMPOSE_PROFILES=grafana compose/compose.sh down --volumes --remove-orphans

.PHONY: setup images up down logs ps
setup: ## Install what is missing: packages, a Docker engine, the base image
	@compose/setup.sh

images: setup ## Build the binaries and the images of the stack
	@compose/images.sh

up: images ## Start the stack and wait until every part answers
	@compose/up.sh

down: ## Stop and remove the containers, keep the volumes
	@COMPOSE_PROFILES=grafana compose/compose.sh down --remove-orphans

logs: ## Follow the logs of all containers
	@compose/compose.sh logs --follow --tail=50

ps: ## Show the containers
	@compose/compose.sh ps

.PHONY: mail grafana monitoring-check
mail: ## Show the mails that arrived, newest last (N=3 shows the third)
	@compose/mail.sh $(N)

grafana: up ## Start Grafana too, from GRAFANA_IMAGE (default grafana/grafana)
	@COMPOSE_PROFILES=grafana compose/compose.sh up --detach grafana

monitoring-check: setup ## Check the files of Prometheus, Alertmanager and Grafana
	@prometheus/check.sh

.PHONY: test fmt lint unit fuzz bench-failover bench-core bench-switch bench-journal
test: ## Run every check, as CI does
	@bash .ci/test

fmt: ## Format the code
	@cargo fmt

lint: ## Check format and lints
	@cargo fmt --check
	@cargo clippy --locked --all-targets -- -D warnings

unit: ## Run the tests that need no engine: library, program and demo API
	@cargo test --locked --lib --bins --example demo-api

fuzz: ## Fuzz the readers of HAProxy's replies, 60 s each (SECONDS= TARGETS= select)
	@bash fuzz/run $(or $(SECONDS),60) $(TARGETS)

.PHONY: haproxy soak-haproxy
haproxy: ## Run the tests of the HAProxy actuator with the HAProxy of SUITE (trixie, testing, …)
	@HAPROXY=$$(bash tests/haproxy/fetch.sh $(or $(SUITE),testing)) && export HAPROXY && \
		cargo test --locked --test it -- haproxy::

soak-haproxy: ## 1,000 switches and 200 (RELOADS=) reloads under 2,000 requests/s with each HAProxy: none may fail
	@RELOADS=$(or $(RELOADS),200) bash tests/haproxy/load.sh

.PHONY: simulate
simulate: ## Play HOURS (default 100) of the simulated world; SEED= plays one seed and tells it
	@HOURS=$(if $(SEED),,$(or $(HOURS),100)) SEED=$(SEED) cargo test --release --locked --quiet --test simulation -- --nocapture

bench-failover: up ## Measure the gap of each fault beside other ways (PEERS= FAULTS= RUNS= select)
	@cargo bench --locked --bench failover

bench-core: ## Measure what an event costs the core, with 10 to 10,000 services (SIZES= ROUNDS= SEED= select)
	@cargo bench --locked --bench core

bench-switch: ## Measure a switch from event to answer beside a bare set map (ROUNDS= SERVICES= COMMITS= HAPROXY= select)
	@cargo bench --locked --bench switch

bench-journal: ## Measure what a quiet day of 10 to 10,000 servers adds to the store (SIZES= LOST= SEED= select)
	@cargo bench --locked --bench journal
