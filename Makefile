# Thin names for what .ci/test and the go command do; nothing is decided here.
.DEFAULT_GOAL := help
.PHONY: help build test race lint fmt fuzz-short e2e bench bench-go bench-scale replay regret release check tools

help: ## these lines
	@sed -nE 's/^([a-z0-9-]+):.*## (.*)/\1\t\2/p' $(MAKEFILE_LIST) | expand -t 14

build: ## the commands, into bin/
	go build -o bin/ ./cmd/...

test: ## all that CI runs
	bash .ci/test

race: ## unit tests with the race detector
	bash .ci/test unit

lint: ## format, go.mod, vet and the linters
	bash .ci/test format tidy vet lint

fmt: ## format the code
	$$(go run ./e2e/tools/build gofumpt) -w .

fuzz-short: ## every fuzz target for FUZZTIME (3s)
	bash .ci/test fuzz

e2e: ## scenarios on real processes and peers
	bash .ci/test packages peers e2e

bench: ## a pair of gateways against haproxy, nginx and no proxy (minutes)
	bash e2e/bench/pair/packages
	go run ./e2e/bench/pair

bench-go: ## benchmarks of all packages
	go test -run '^$$' -bench . -benchmem ./...

bench-scale: ## one federation at 1, 10 and 100 % of its size (minutes, 6 GB)
	go run ./e2e/bench/scale -memory

replay: ## 10,000 real calls, each decision repeated from its record (minutes)
	go test ./e2e/explain -count 1 -run TestRealCalls -v -calls 10000

regret: ## the delay model against an oracle, on recorded traces and in scenes
	go test ./federation/route -count 1 -run TestRegret -v

release: ## binaries, packages, image and chart of the commit, into dist/
	go run -C deploy/release . -out ../../dist

check: lint race ## before a commit: quick, but for the scenarios

tools: ## build the pinned linters and peers (minutes, once)
	go run ./e2e/tools/build consul spire-server spire-agent kube-apiserver kubectl ec2-metadata-mock helm gofumpt golangci-lint gotestsum
