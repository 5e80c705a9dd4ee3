package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	yamlv3 "go.yaml.in/yaml/v3"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"sigs.k8s.io/yaml"
)

const (
	valuesFile    = "charts/meshd/values.yaml"
	schemaFile    = "charts/meshd/values.schema.json"
	meshConfigCRD = "charts/meshd/crds/meshd.io_meshconfigs.yaml"
)

// writeChart writes what the chart has from elsewhere: in the values' schema
// what MeshConfig may say, and the table of the values for those who read.
func writeChart() error {
	text, err := os.ReadFile(meshConfigCRD) // a file of this repository
	if err != nil {
		return err
	}
	var crd apiextensionsv1.CustomResourceDefinition
	if err := yaml.Unmarshal(text, &crd); err != nil {
		return err
	}
	text, err = os.ReadFile(schemaFile)
	if err != nil {
		return err
	}
	var schema map[string]any
	if err := json.Unmarshal(text, &schema); err != nil {
		return err
	}
	schema["$defs"] = map[string]any{"meshConfig": jsonSchema(crd.Spec.Versions[0].Schema.OpenAPIV3Schema.Properties["spec"])}
	var out bytes.Buffer
	e := json.NewEncoder(&out)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(schema); err != nil {
		return err
	}
	if err := os.WriteFile(schemaFile, out.Bytes(), 0o644); err != nil { // part of the chart
		return err
	}
	return writeValues()
}

// jsonSchema says what a structural schema says, and refuses what it would
// prune. CEL rules are left to the API server.
func jsonSchema(s apiextensionsv1.JSONSchemaProps) map[string]any {
	out := map[string]any{}
	set := func(key string, value any, there bool) {
		if there {
			out[key] = value
		}
	}
	set("type", s.Type, s.Type != "")
	set("type", []string{"integer", "string"}, s.XIntOrString)
	set("pattern", s.Pattern, s.Pattern != "")
	set("enum", s.Enum, len(s.Enum) > 0)
	set("required", s.Required, len(s.Required) > 0)
	set("minimum", s.Minimum, s.Minimum != nil)
	set("maximum", s.Maximum, s.Maximum != nil)
	set("minLength", s.MinLength, s.MinLength != nil)
	set("maxLength", s.MaxLength, s.MaxLength != nil)
	set("minItems", s.MinItems, s.MinItems != nil)
	set("maxItems", s.MaxItems, s.MaxItems != nil)
	if s.Items != nil && s.Items.Schema != nil {
		out["items"] = jsonSchema(*s.Items.Schema)
	}
	if s.Type != "object" || s.XPreserveUnknownFields != nil && *s.XPreserveUnknownFields {
		return out
	}
	if s.AdditionalProperties != nil && s.AdditionalProperties.Schema != nil {
		out["additionalProperties"] = jsonSchema(*s.AdditionalProperties.Schema)
		return out
	}
	properties := map[string]any{}
	for name, p := range s.Properties {
		properties[name] = jsonSchema(p)
	}
	out["properties"], out["additionalProperties"] = properties, false
	return out
}

// writeValues makes a table of values.yaml: each value with its comment, which
// for the parts of one is theirs as well.
func writeValues() error {
	text, err := os.ReadFile(valuesFile)
	if err != nil {
		return err
	}
	var doc yamlv3.Node
	if err := yamlv3.Unmarshal(text, &doc); err != nil {
		return err
	}
	if len(doc.Content) != 1 || doc.Content[0].Kind != yamlv3.MappingNode {
		return errors.New(valuesFile + ": no map")
	}
	var b bytes.Buffer
	b.WriteString("# The chart's values\n\n`helm install meshd charts/meshd -n meshd-system --create-namespace --set KEY=VALUE`; a key that is not here is refused.\n\n" +
		"| value | default | meaning |\n|---|---|---|\n")
	if err := writeEntries(&b, "", doc.Content[0]); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(out, "chart.md"), b.Bytes(), 0o644) // documents
}

// writeEntries writes a row for each leaf of a map; empty maps and those of
// Kubernetes' own kinds are leaves.
func writeEntries(b *bytes.Buffer, path string, m *yamlv3.Node) error {
	for i := 0; i < len(m.Content); i += 2 {
		key, value := m.Content[i], m.Content[i+1]
		name := path + key.Value
		leaf := value.Kind != yamlv3.MappingNode || value.Style == yamlv3.FlowStyle || slices.Contains([]string{"resources", "nodeSelector"}, name)
		meaning := comment(key.HeadComment) + comment(key.LineComment) + comment(value.LineComment)
		if !leaf && meaning == "" && path == "" {
			return fmt.Errorf("%s: %s has no comment", valuesFile, name)
		}
		fallback := ""
		if leaf {
			var v any
			if err := value.Decode(&v); err != nil {
				return err
			}
			text, err := json.Marshal(v)
			if err != nil {
				return err
			}
			fallback = "`" + string(text) + "`"
		}
		fmt.Fprintf(b, "| `%s` | %s | %s |\n", name, fallback, meaning)
		if !leaf {
			if err := writeEntries(b, name+".", value); err != nil {
				return err
			}
		}
	}
	return nil
}

// comment without its marks, as one line; a paragraph of its own above it speaks of something else.
func comment(text string) string {
	paragraphs := strings.Split(text, "\n\n")
	text = strings.ReplaceAll("\n"+paragraphs[len(paragraphs)-1], "\n#", "\n")
	return strings.NewReplacer("|", `\|`, "<", "&lt;").Replace(strings.Join(strings.Fields(text), " "))
}
