package crds

import (
	"bytes"
	"regexp"
	"slices"
	"strings"

	yamlv3 "go.yaml.in/yaml/v3"
)

// boolWord is what YAML 1.1 takes for true or false, and YAML 1.2 for a word.
const boolWord = `(?:y|Y|yes|Yes|YES|n|N|no|No|NO|on|On|ON|off|Off|OFF)`

// quoteBooleanKeys puts the keys of a document that YAML 1.1 takes for booleans
// into quotes: `on` is a field (TrafficPolicy.spec.retry.on), and no object of
// Kubernetes has a key that is a boolean. Values stay as they are.
func quoteBooleanKeys(text []byte) []byte {
	if !regexp.MustCompile(`(?m)(?:^|[\s{,-])` + boolWord + `[ \t]*:(?:\s|$)`).Match(text) {
		return text
	}
	var n yamlv3.Node
	if err := yamlv3.Unmarshal(text, &n); err != nil {
		return text // decoding will say why
	}
	word := regexp.MustCompile(`^` + boolWord + `$`)
	var keys []*yamlv3.Node
	collectKeys(&n, func(key *yamlv3.Node) {
		if key.Style == 0 && key.Anchor == "" && word.MatchString(key.Value) {
			keys = append(keys, key)
		}
	})
	lines := bytes.SplitAfter(text, []byte("\n"))
	slices.SortFunc(keys, func(a, b *yamlv3.Node) int { return b.Column - a.Column }) // from the right, so that columns hold
	for _, key := range keys {
		if key.Line < 1 || key.Line > len(lines) {
			continue
		}
		line := []rune(string(lines[key.Line-1]))
		start, end := key.Column-1, key.Column-1+len(key.Value)
		if end > len(line) || !strings.EqualFold(string(line[start:end]), key.Value) {
			continue
		}
		lines[key.Line-1] = []byte(string(line[:start]) + `"` + key.Value + `"` + string(line[end:]))
	}
	return bytes.Join(lines, nil)
}

// collectKeys visits the keys of all mappings, not through aliases.
func collectKeys(n *yamlv3.Node, visit func(key *yamlv3.Node)) {
	for i, c := range n.Content {
		if n.Kind == yamlv3.MappingNode && i%2 == 0 && c.Kind == yamlv3.ScalarNode {
			visit(c)
		}
		collectKeys(c, visit)
	}
}
