package crds

import (
	"bytes"
	"encoding/json"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	yamlv3 "go.yaml.in/yaml/v3"
)

// lineOf is the line in the file of a field such as "spec.rules[0].to[1].ports[0]",
// or of the nearest part of its path that is there; the first line of the
// document when its tree has not been needed.
func (d document) lineOf(path string) int {
	n := d.tree
	if n == nil {
		return d.line
	}
	if d.prefix != "" {
		path = d.prefix + "." + path
	}
	line := n.Line
	for rest := path; rest != ""; {
		var next *yamlv3.Node
		var nextLine int
		next, nextLine, rest = step(n, rest)
		if next == nil {
			break
		}
		n, line = next, nextLine
	}
	return d.line + line - 1
}

// step goes from a node down to the longest key that the path begins with, or to an index.
func step(n *yamlv3.Node, path string) (child *yamlv3.Node, line int, rest string) {
	if n.Alias != nil {
		n = n.Alias
	}
	path = strings.TrimPrefix(path, ".")
	bracketed, after, inBrackets := "", "", false
	if strings.HasPrefix(path, "[") {
		bracketed, after, inBrackets = strings.Cut(path[1:], "]")
	}
	switch n.Kind {
	case yamlv3.SequenceNode:
		if i, err := strconv.Atoi(bracketed); inBrackets && err == nil && i >= 0 && i < len(n.Content) {
			return n.Content[i], n.Content[i].Line, after
		}
	case yamlv3.MappingNode:
		best := -1
		for i := 0; i+1 < len(n.Content); i += 2 {
			key := n.Content[i]
			if inBrackets && key.Value == bracketed {
				return n.Content[i+1], key.Line, after
			}
			if !inBrackets && isPathPrefix(path, key.Value) && (best < 0 || len(key.Value) > len(n.Content[best].Value)) {
				best = i
			}
		}
		if best >= 0 {
			key := n.Content[best]
			return n.Content[best+1], key.Line, path[len(key.Value):]
		}
	}
	return nil, 0, ""
}

// isPathPrefix reports whether the path's first parts spell key. Keys may have dots of their own.
func isPathPrefix(path, key string) bool {
	rest, ok := strings.CutPrefix(path, key)
	return ok && key != "" && (rest == "" || rest[0] == '.' || rest[0] == '[')
}

func withoutIndices(path string) string {
	return regexp.MustCompile(`\[\d+\]`).ReplaceAllString(path, "")
}

// pathAt is the path of the value in which a byte offset of a JSON text lies.
func pathAt(raw []byte, offset int64) string {
	var at jsonPath
	dec := json.NewDecoder(bytes.NewReader(raw))
	for {
		token, err := dec.Token()
		if err != nil {
			return at.String()
		}
		if at.takeKey(token) {
			continue
		}
		if token == json.Delim('}') || token == json.Delim(']') {
			at = at[:len(at)-1]
		}
		if dec.InputOffset() >= offset {
			return at.String()
		}
		switch token {
		case json.Delim('{'):
			at = append(at, jsonLevel{isKey: true})
		case json.Delim('['):
			at = append(at, jsonLevel{array: true})
		default:
			at.endValue()
		}
	}
}

// jsonPath is where a decoder of JSON stands.
type jsonPath []jsonLevel

// jsonLevel is an open array or object.
type jsonLevel struct {
	array bool
	index int
	key   string
	isKey bool // a key comes next
}

// takeKey takes a token that is a key.
func (p jsonPath) takeKey(token json.Token) bool {
	text, ok := token.(string)
	if !ok || len(p) == 0 || !p[len(p)-1].isKey {
		return false
	}
	top := &p[len(p)-1]
	top.key, top.isKey = text, false
	return true
}

// endValue goes on to the next element or key.
func (p jsonPath) endValue() {
	if len(p) == 0 {
		return
	}
	top := &p[len(p)-1]
	if top.array {
		top.index++
	} else {
		top.isKey = true
	}
}

func (p jsonPath) String() string {
	var b strings.Builder
	for _, l := range p {
		switch {
		case l.array:
			fmt.Fprintf(&b, "[%d]", l.index)
		case l.key != "" && b.Len() > 0:
			b.WriteString("." + l.key)
		default:
			b.WriteString(l.key)
		}
	}
	return b.String()
}
