#!/bin/sh
# Generates what is made from api/v1alpha1: DeepCopy methods beside the types,
# and the CustomResourceDefinitions in charts/meshd/crds. Run twice, it changes
# nothing the second time. A kind that is gone takes its definition with it.
set -eu
cd "$(dirname "$0")/.."

controller_gen() {
	go run sigs.k8s.io/controller-tools/cmd/controller-gen@v0.23.0 "$@"
}

made=$(mktemp -d)
trap 'rm -rf "$made"' EXIT
controller_gen object paths=./api/...
controller_gen crd paths=./api/... output:crd:dir="$made"
for old in charts/meshd/crds/*.yaml; do
	[ -e "$made/${old##*/}" ] || rm -f "$old"
done
mv "$made"/*.yaml charts/meshd/crds/
