package main

import (
	"context"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
)

// benchmarks are Go's own, beside the functions that they measure; unit is
// the metric of the benchmark's output that is shown.
func benchmarks() []struct{ pkg, name, unit, what string } {
	return []struct{ pkg, name, unit, what string }{
		{"pkg/ca", "BenchmarkSign", "cpu-us/op", "CSR: verify, sign, check, in process: CPU"},
		{"pkg/ca/service", "BenchmarkSign/open", "cpu-us/op", "CSR: over gRPC and TLS, token included, open connection: CPU of the server"},
		{"pkg/ca/service", "BenchmarkSign/new", "cpu-us/op", "CSR: the same, new connection"},
		{"pkg/ca/service", "BenchmarkSign/new-mutual", "cpu-us/op", "CSR: the same, and the client shows a certificate"},
		{"pkg/compile", "BenchmarkCompile/100-services", "ns/op", "compile 100 services, 300 pods, 200 policies"},
		{"pkg/compile", "BenchmarkCompile/1000-services", "ns/op", "compile 1000 services, 3000 pods, 2000 policies"},
		{"pkg/xds/envoy", "BenchmarkTranslate", "us/service", "translate, per service in a proxy's view"},
		{"pkg/xds/cache", "BenchmarkPublishOfOneChange", "ns/op", "publish 2000 resources of which one has changed"},
		{"pkg/xds/publish", "BenchmarkChange/policy-used/1000-services", "cpu-us/op", "a policy to the cache: CPU, 1000 services, 20 workloads use its Service"},
		{"pkg/xds/publish", "BenchmarkChange/policy-used/10000-services", "cpu-us/op", "the same, 10 000 services"},
		{"pkg/xds/publish", "BenchmarkRouteChange/route-used/100-services", "cpu-us/op", "one HTTPRoute of 1000 to the cache: CPU, 100 services, 20 workloads use its Service"},
		{"pkg/xds/publish", "BenchmarkRouteChange/route-used/1000-services", "cpu-us/op", "the same, 1000 services"},
		{"pkg/xds/publish", "BenchmarkRouteChange/route-used/10000-services", "cpu-us/op", "the same, 10 000 services"},
		{"pkg/xds/publish", "BenchmarkChange/endpoints-used/1000-services", "cpu-us/op", "endpoints to the cache: CPU, 1000 services, 20 workloads use the Service"},
		{"pkg/xds/wire", "BenchmarkMessage/TLS", "ns/connection", "a small message to one of 200 connections, and its answer: both ends"},
		{"pkg/crds", "BenchmarkRescanOf1000Files", "ns/op", "look through 1000 files for changes"},
	}
}

// functions runs the benchmarks one after another: they have the machine to themselves.
func functions(ctx context.Context, _ string) ([]figure, error) {
	var out []figure
	for _, b := range benchmarks() {
		lines, err := goBenchmarks(ctx, b.pkg, b.name)
		if err != nil {
			return nil, err
		}
		line, found := lines[b.name]
		if !found {
			return nil, fmt.Errorf("%s has no %s", b.pkg, b.name)
		}
		value, err := metric(line, b.unit)
		if err != nil {
			return nil, err
		}
		f := figure{Group: "functions, one core", What: b.what, Value: value, Unit: "us"}
		if b.unit == "ns/op" {
			f.Value /= 1000
		}
		if strings.HasPrefix(b.what, "CSR") {
			f.Note = fmt.Sprintf("%.0f/s", 1e6/f.Value)
		}
		out = append(out, f)
	}
	return out, nil
}

// goBenchmarks gives the lines of a package's benchmark by name, without the count of CPUs.
func goBenchmarks(ctx context.Context, pkg, name string) (map[string]string, error) {
	pattern := "^" + strings.ReplaceAll(name, "/", "$/^") + "$"
	cmd := exec.CommandContext(ctx, "go", "test", "-run", "^$", "-bench", pattern, "-benchtime", "1s", "./"+pkg) // a list of ours
	raw, err := cmd.CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %s", pkg, err, raw)
	}
	out := map[string]string{}
	for line := range strings.Lines(string(raw)) {
		name, _, _ := strings.Cut(line, " ")
		name, _, _ = strings.Cut(name, "\t")
		if !strings.HasPrefix(name, "Benchmark") {
			continue
		}
		if i := strings.LastIndexByte(name, '-'); i > 0 {
			if _, err := strconv.Atoi(name[i+1:]); err == nil {
				name = name[:i]
			}
		}
		out[name] = strings.TrimSpace(line)
	}
	return out, nil
}

func metric(line, unit string) (float64, error) {
	fields := strings.Fields(line)
	for i := 1; i < len(fields); i++ {
		if fields[i] == unit {
			return strconv.ParseFloat(fields[i-1], 64)
		}
	}
	return 0, fmt.Errorf("no %s in %q", unit, line)
}
