// Command reference writes docs/reference from the CRDs, the chart's values, and
// the comments of reasons and metrics, and MeshConfig into the values' schema:
// run from the repository's root, twice without a difference. The commands'
// part is written by a test of cmd/meshd, which alone knows them.
package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"sigs.k8s.io/yaml"
)

const (
	crdFiles = "charts/meshd/crds/*.yaml"
	out      = "docs/reference"
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
	for _, write := range []func() error{writeReasons, writeMetrics} {
		if err := write(); err != nil {
			return err
		}
	}
	return nil
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
		if err := writeFields(&b, part, schema.Properties[part]); err != nil {
			return err
		}
	}
	name := strings.ToLower(crd.Spec.Names.Kind) + ".md"
	return os.WriteFile(filepath.Join(out, name), b.Bytes(), 0o644) // documents
}

// writeFields writes a row for each field below a schema, depth first. A field
// without a comment is an error.
func writeFields(b *bytes.Buffer, path string, s apiextensionsv1.JSONSchemaProps) error {
	if s.Type == "array" && s.Items != nil && s.Items.Schema != nil {
		return writeFields(b, path+"[]", *s.Items.Schema)
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
		if p.Description == "" || strings.HasPrefix(p.Description, duration) {
			return fmt.Errorf("%s.%s has no comment", path, name)
		}
		fmt.Fprintf(b, "| `%s.%s` | %s | %s | %s |\n", path, name, typeOf(p, slices.Contains(s.Required, name)), fallback, meaning(p))
		// Conditions and resource requirements are Kubernetes' own, and documented there.
		if name != "conditions" && name != "resources" {
			if err := writeFields(b, path+"."+name, p); err != nil {
				return err
			}
		}
	}
	return nil
}

func typeOf(p apiextensionsv1.JSONSchemaProps, required bool) string {
	kind := p.Type
	if isDuration(p) {
		kind = "duration"
	}
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

// duration begins the description that every field without one of its own gets
// from the Gateway API's type.
const duration = "Duration is a string value representing a duration in time."

// isDuration reports whether the field's type is that of GEP-2257.
func isDuration(p apiextensionsv1.JSONSchemaProps) bool {
	return strings.HasPrefix(p.Pattern, "^([0-9]{1,5}(h|m|s|ms)){1,4}$")
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
	if limits := bounds(p); limits != "" {
		text = strings.TrimSpace(text + " " + limits)
	}
	for _, rule := range p.XValidations {
		if rule.Message != "" {
			text = strings.TrimSpace(text + " *" + rule.Message + ".*")
		}
	}
	return escape(text)
}

// bounds are the limits of a number or a list.
func bounds(p apiextensionsv1.JSONSchemaProps) string {
	least, most, what := p.Minimum, p.Maximum, ""
	if p.Type == "array" {
		least, most, what = float(p.MinItems), float(p.MaxItems), " items"
		if p.Items != nil && p.Items.Schema != nil {
			if each := bounds(*p.Items.Schema); each != "" {
				what += ", each " + each
				return strings.TrimSuffix(span(least, most)+what, ".") + "."
			}
		}
	}
	if text := span(least, most); text != "" {
		return text + what + "."
	}
	return ""
}

func float(n *int64) *float64 {
	if n == nil {
		return nil
	}
	f := float64(*n)
	return &f
}

func span(least, most *float64) string {
	switch {
	case least != nil && most != nil:
		return fmt.Sprintf("%.0f to %.0f", *least, *most)
	case least != nil:
		return fmt.Sprintf("At least %.0f", *least)
	case most != nil:
		return fmt.Sprintf("At most %.0f", *most)
	}
	return ""
}
