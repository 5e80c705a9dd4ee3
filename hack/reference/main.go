// Command reference writes docs/reference from the CRDs, the chart's values and
// the reasons' own comments, and MeshConfig into the values' schema: run from the repository's root, twice without a difference.
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
	"strings"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"sigs.k8s.io/yaml"
)

const (
	crdFiles    = "charts/meshd/crds/*.yaml"
	reasonFiles = "pkg/report"
	out         = "docs/reference"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "reference:", err)
		os.Exit(1)
	}
}

func run() error {
	if err := os.MkdirAll(out, 0o755); err != nil { // documents
		return err
	}
	paths, err := filepath.Glob(crdFiles)
	if err != nil {
		return err
	}
	for _, path := range paths {
		if err := writeKind(path); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
	}
	if err := writeChart(); err != nil {
		return fmt.Errorf("chart: %w", err)
	}
	return writeReasons()
}

func writeKind(path string) error {
	text, err := os.ReadFile(path) // a file of this repository
	if err != nil {
		return err
	}
	var crd apiextensionsv1.CustomResourceDefinition
	if err := yaml.Unmarshal(text, &crd); err != nil {
		return err
	}
	schema := crd.Spec.Versions[0].Schema.OpenAPIV3Schema
	var b bytes.Buffer
	fmt.Fprintf(&b, "# %s\n\n`%s/%s`, %s\n\n%s\n", crd.Spec.Names.Kind, crd.Spec.Group, crd.Spec.Versions[0].Name,
		strings.ToLower(string(crd.Spec.Scope)), schema.Description)
	for _, part := range []string{"spec", "status"} {
		fmt.Fprintf(&b, "\n## %s\n\n| field | type | default | meaning |\n|---|---|---|---|\n", part)
		writeFields(&b, part, schema.Properties[part])
	}
	name := strings.ToLower(crd.Spec.Names.Kind) + ".md"
	return os.WriteFile(filepath.Join(out, name), b.Bytes(), 0o644) // documents
}

// writeFields writes a row for each field below a schema, depth first.
func writeFields(b *bytes.Buffer, path string, s apiextensionsv1.JSONSchemaProps) {
	if s.Type == "array" && s.Items != nil && s.Items.Schema != nil {
		writeFields(b, path+"[]", *s.Items.Schema)
		return
	}
	names := make([]string, 0, len(s.Properties))
	for name := range s.Properties {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		p := s.Properties[name]
		fallback := ""
		if p.Default != nil {
			fallback = "`" + string(p.Default.Raw) + "`"
		}
		fmt.Fprintf(b, "| `%s.%s` | %s | %s | %s |\n", path, name, typeOf(p, slices.Contains(s.Required, name)), fallback, meaning(p))
		// Conditions and resource requirements are Kubernetes' own, and documented there.
		if name != "conditions" && name != "resources" {
			writeFields(b, path+"."+name, p)
		}
	}
}

func typeOf(p apiextensionsv1.JSONSchemaProps, required bool) string {
	kind := p.Type
	if p.XIntOrString {
		kind = "integer or string"
	}
	if p.Type == "array" && p.Items != nil && p.Items.Schema != nil {
		kind = "list of " + p.Items.Schema.Type
	}
	if required {
		kind += ", required"
	}
	return kind
}

// meaning is the description, and what the schema refuses.
func meaning(p apiextensionsv1.JSONSchemaProps) string {
	text := strings.Join(strings.Fields(p.Description), " ")
	var values []string
	for _, v := range p.Enum {
		values = append(values, "`"+strings.Trim(string(v.Raw), `"`)+"`")
	}
	if len(values) > 0 {
		text = strings.TrimSpace(text + " One of " + strings.Join(values, ", ") + ".")
	}
	for _, rule := range p.XValidations {
		if rule.Message != "" {
			text = strings.TrimSpace(text + " *" + rule.Message + ".*")
		}
	}
	return strings.NewReplacer("|", `\|`, "<", "&lt;").Replace(text)
}

// writeReasons reads the comments of report's constants.
func writeReasons() error {
	packages, err := filepath.Glob(filepath.Join(reasonFiles, "*.go"))
	if err != nil {
		return err
	}
	var b bytes.Buffer
	b.WriteString("# Conditions and reasons\n\nEvery kind has `Accepted` (it is valid and in force), `ResolvedRefs` (what it names exists) and " +
		"`Programmed` (every live proxy concerned has acknowledged this generation).\n\n| reason | meaning |\n|---|---|\n")
	for _, path := range packages {
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ParseComments)
		if err != nil {
			return err
		}
		for _, decl := range file.Decls {
			constants, ok := decl.(*ast.GenDecl)
			if ok && constants.Tok == token.CONST {
				writeConstants(&b, constants)
			}
		}
	}
	return os.WriteFile(filepath.Join(out, "reasons.md"), b.Bytes(), 0o644) // documents
}

func writeConstants(b *bytes.Buffer, constants *ast.GenDecl) {
	for _, spec := range constants.Specs {
		value, ok := spec.(*ast.ValueSpec)
		if !ok || value.Doc == nil {
			continue
		}
		if typ, ok := value.Type.(*ast.Ident); !ok || typ.Name != "Reason" {
			continue
		}
		name := value.Names[0].Name
		text := strings.TrimPrefix(strings.Join(strings.Fields(value.Doc.Text()), " "), name+": ")
		fmt.Fprintf(b, "| `%s` | %s |\n", name, text)
	}
}
