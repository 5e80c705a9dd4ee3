package main

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"strings"

	"github.com/meshd-io/meshd/pkg/report"
)

const (
	reportFiles  = "pkg/report"
	refusalFiles = "pkg/ca/refusal"
)

// writeReasons tells of the conditions and their reasons, from the comments of
// report's constants, and of the reasons for which the CA refuses.
func writeReasons() error {
	var b bytes.Buffer
	b.WriteString("# Conditions and reasons\n\n" +
		"Every object of meshd's kinds has these conditions; for an Ingress, whose API has none, `meshd check` and Events tell.\n\n" +
		"| condition | true when |\n|---|---|\n")
	err := constants(reportFiles, "Condition", func(name, text string) {
		fmt.Fprintf(&b, "| `%s` | %s |\n", name, escape(text))
	})
	if err != nil {
		return err
	}
	b.WriteString("\nA condition that is true has its own name as its reason, or one of those below that leave it true. " +
		"`Programmed` of an object that is not accepted has the reason of `Accepted`.\n\n" +
		"| reason | the condition is | meaning |\n|---|---|---|\n")
	err = constants(reportFiles, "Reason", func(name, text string) {
		status := "false"
		if report.Reason(name).Informs() {
			status = "left true"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", name, status, escape(text))
	})
	if err != nil {
		return err
	}
	b.WriteString("\n## Refusals\n\nThe reasons for which meshd signs nothing or does not answer a proxy: in its log, in the agent's, " +
		"and as label `reason` of `meshd_refused_total`.\n\n| reason | meaning |\n|---|---|\n")
	err = constants(refusalFiles, "Reason", func(name, text string) { fmt.Fprintf(&b, "| `%s` | %s |\n", name, escape(text)) })
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(out, "reasons.md"), b.Bytes(), 0o644) // documents
}

// constants tells of the constants of a type in a package, in its order, with
// what their comments say, which begin with their name or stand behind them.
func constants(folder, typ string, tell func(name, text string)) error {
	paths, err := filepath.Glob(filepath.Join(folder, "*.go"))
	if err != nil {
		return err
	}
	n := 0
	for _, path := range paths {
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ParseComments)
		if err != nil {
			return err
		}
		for _, decl := range file.Decls {
			group, ok := decl.(*ast.GenDecl)
			if !ok || group.Tok != token.CONST {
				continue
			}
			for _, spec := range group.Specs {
				value, ok := spec.(*ast.ValueSpec)
				if !ok {
					continue
				}
				if is, ok := value.Type.(*ast.Ident); !ok || is.Name != typ {
					continue
				}
				text := value.Doc.Text() + value.Comment.Text()
				name := value.Names[0].Name
				if text == "" {
					return fmt.Errorf("%s: %s has no comment", path, name)
				}
				tell(name, strings.TrimPrefix(strings.Join(strings.Fields(text), " "), name+": "))
				n++
			}
		}
	}
	if n == 0 {
		return fmt.Errorf("%s has no constant of type %s", folder, typ)
	}
	return nil
}

func escape(text string) string { return strings.NewReplacer("|", `\|`, "<", "&lt;").Replace(text) }
