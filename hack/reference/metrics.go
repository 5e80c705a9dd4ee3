package main

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

const metricFiles = "pkg/telemetry"

// metric is one that meshd serves.
type metric struct{ name, kind, labels, help string }

// writeMetrics reads them from the calls that make them: a metric with labels
// that nothing has happened to cannot be asked from a registry.
func writeMetrics() error {
	paths, err := filepath.Glob(filepath.Join(metricFiles, "*.go"))
	if err != nil {
		return err
	}
	var all []metric
	for _, path := range paths {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		if err != nil {
			return err
		}
		ast.Inspect(file, func(n ast.Node) bool {
			if call, ok := n.(*ast.CallExpr); ok {
				if m, ok := metricOf(call); ok {
					all = append(all, m)
				}
			}
			return true
		})
	}
	if len(all) == 0 {
		return fmt.Errorf("%s makes no metric", metricFiles)
	}
	slices.SortFunc(all, func(a, b metric) int { return strings.Compare(a.name, b.name) })
	var b bytes.Buffer
	b.WriteString("# Metrics\n\nmeshd serves them on `GET /metrics`, port 15014, with Go's own and the process's. " +
		"Those of a proxy are Envoy's, on port 15021 of its pod.\n\n| metric | type | labels | meaning |\n|---|---|---|---|\n")
	for _, m := range all {
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", m.name, m.kind, m.labels, escape(m.help))
	}
	return os.WriteFile(filepath.Join(out, "metrics.md"), b.Bytes(), 0o644) // documents
}

// metricOf reads prometheus.NewKIND[Vec](prometheus.KINDOpts{Name, Help}, labels).
func metricOf(call *ast.CallExpr) (metric, bool) {
	made, ok := call.Fun.(*ast.SelectorExpr)
	if !ok || len(call.Args) == 0 || !strings.HasPrefix(made.Sel.Name, "New") {
		return metric{}, false
	}
	options, ok := call.Args[0].(*ast.CompositeLit)
	if !ok {
		return metric{}, false
	}
	m := metric{kind: strings.ToLower(strings.TrimSuffix(strings.TrimPrefix(made.Sel.Name, "New"), "Vec"))}
	for _, element := range options.Elts {
		pair, ok := element.(*ast.KeyValueExpr)
		if !ok {
			continue
		}
		key, ok := pair.Key.(*ast.Ident)
		if !ok {
			continue
		}
		switch key.Name {
		case "Name":
			m.name = literal(pair.Value)
		case "Help":
			m.help = literal(pair.Value)
		}
	}
	if len(call.Args) > 1 {
		if labels, ok := call.Args[1].(*ast.CompositeLit); ok {
			var names []string
			for _, l := range labels.Elts {
				names = append(names, "`"+literal(l)+"`")
			}
			m.labels = strings.Join(names, ", ")
		}
	}
	return m, m.name != ""
}

// literal is a string's value, also of one that is put together with +.
func literal(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.BasicLit:
		text, err := strconv.Unquote(e.Value)
		if err == nil {
			return text
		}
	case *ast.BinaryExpr:
		return literal(e.X) + literal(e.Y)
	}
	return ""
}
