export GOTOOLCHAIN := go1.27.3
# As images are built: what lint, the programs, the images and the cluster's tests have in common is compiled once.
export CGO_ENABLED := 0
export GOFLAGS := -trimpath
SHELL := /bin/bash

.DEFAULT_GOAL := help
.PHONY: help build gen lint test demo test-cluster images bench golden check clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## Build meshd, meshd-agent and the example's application into bin/
	go build -ldflags '-s -w' -o bin/ ./cmd/meshd
	go build -tags grpcnotrace -ldflags '-s -w' -o bin/ ./cmd/meshd-agent # runs beside every pod: it is to be small
	go build -ldflags '-s -w' -o bin/eazybank ./examples/eazybank/app

gen: ## Generate deepcopy, CRDs, protobuf and reference documents
	hack/gen

lint: ## Lint; the import rules of docs/architecture.md are enforced here
	hack/tool golangci-lint run --timeout 15m ./...

# What the tests need beside Go is found or built first: a stock Envoy; for the API-server tier etcd, kube-apiserver, kubectl and helm.
test: build ## Test everything that needs no kubelet (as root: network namespaces)
	envoy=$$(hack/envoy) && kube=$$(hack/kube etcd kube-apiserver kubectl helm) && \
	MESHD_ENVOY=$$envoy MESHD_KUBE=$$kube MESHD_BIN=$(CURDIR)/bin CGO_ENABLED=1 GOFLAGS= go test -race -timeout 25m $$(go list ./... | grep -v /test/cluster)
	cd hack/oci && go test ./...

demo: build ## Bring up the example mesh on this machine, prove it, take it down
	envoy=$$(hack/envoy) && MESHD_ENVOY=$$envoy go run ./examples/eazybank/demo

test-cluster: ## Test in a real one-node Kubernetes (as root), or with CLUSTER=existing in that of KUBECONFIG
	envoy=$$(hack/envoy) && kube=$$(hack/kube) && \
	MESHD_ENVOY=$$envoy MESHD_KUBE=$$kube go test -count=1 -timeout 40m -v ./test/cluster

images: ## Build the images of a release, for amd64 and arm64, into dist/
	PLATFORMS=linux/amd64,linux/arm64 hack/image dist

bench: build ## Print the project's figures
	go build -o bin/ ./test/bench ./examples/eazybank/demo
	envoy=$$(hack/envoy) && kube=$$(hack/kube etcd kube-apiserver) && MESHD_ENVOY=$$envoy MESHD_KUBE=$$kube bin/bench

golden: ## Rewrite the golden files from what the code gives now
	go test $$(grep -rl --include=*_test.go internal/golden pkg | xargs -n1 dirname | sort -u | sed s,^,./,) -update

check: lint test demo test-cluster ## What CI runs

clean: ## Remove what was built
	rm -rf bin
