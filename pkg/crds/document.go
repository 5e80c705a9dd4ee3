package crds

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strconv"

	yamlv3 "go.yaml.in/yaml/v3"
	"sigs.k8s.io/yaml"

	"github.com/meshd-io/meshd/pkg/report"
)

// The bounds of what is read from one file; beyond them it is refused unparsed.
const (
	maxFileBytes     = 16 << 20 // twice and more what an API server takes in a request
	maxDocuments     = 20000
	maxExpandedBytes = 16 << 20 // of a document once its aliases are followed
)

// document is one YAML document of a file, or one item of a List in it.
type document struct {
	file string
	line int // of its first line, 1-based
	text []byte
	// prefix is the path of a List's item in its document, such as "items[2]".
	prefix string
	// tree, once it has been needed.
	tree *yamlv3.Node
}

// splitDocuments cuts a file at its document markers, which stand at the start
// of a line and nowhere else, so that a broken document takes no other with it.
func splitDocuments(file string, data []byte) []document {
	data = bytes.TrimPrefix(data, []byte("\xef\xbb\xbf"))
	var docs []document
	start, startLine, line := 0, 1, 0
	emit := func(end int) {
		if text := data[start:end]; hasContent(text) {
			skipped := leadingBlankLines(text)
			docs = append(docs, document{file: file, line: startLine + skipped, text: dropLines(text, skipped)})
		}
	}
	for offset := 0; offset < len(data); {
		line++
		end := len(data)
		if i := bytes.IndexByte(data[offset:], '\n'); i >= 0 {
			end = offset + i + 1
		}
		if marker := documentMarker(data[offset:end]); marker != "" {
			emit(offset)
			start, startLine = offset+3, line
			if marker == "..." {
				start, startLine = end, line+1
			}
		}
		offset = end
	}
	emit(len(data))
	return docs
}

// documentMarker is "---" or "..." where the line begins a new document or ends one.
func documentMarker(line []byte) string {
	for _, marker := range []string{"---", "..."} {
		rest, ok := bytes.CutPrefix(line, []byte(marker))
		if ok && (len(rest) == 0 || bytes.IndexByte([]byte(" \t\r\n"), rest[0]) >= 0) {
			return marker
		}
	}
	return ""
}

// hasContent reports whether any line is neither blank, a comment nor a directive.
func hasContent(text []byte) bool {
	for line := range bytes.Lines(text) {
		if isContent(line) {
			return true
		}
	}
	return false
}

func isContent(line []byte) bool {
	line = bytes.TrimSpace(line)
	return len(line) > 0 && line[0] != '#' && line[0] != '%'
}

func leadingBlankLines(text []byte) int {
	n := 0
	for line := range bytes.Lines(text) {
		if isContent(line) {
			break
		}
		n++
	}
	return n
}

func dropLines(text []byte, n int) []byte {
	for range n {
		text = text[bytes.IndexByte(text, '\n')+1:]
	}
	return text
}

// syntaxError is a document that is not YAML.
type syntaxError struct {
	line    int // in the file
	message string
}

func (e *syntaxError) Error() string { return e.message }

// json is the document as JSON, as kubectl would send it.
func (d document) json() ([]byte, *syntaxError) {
	text := d.text
	if json.Valid(text) {
		if err := checkDuplicates(text); err == nil {
			return text, nil
		}
		// A tab is white space in JSON, but not in YAML, which is what names the duplicate.
		text = bytes.ReplaceAll(text, []byte("\t"), []byte(" "))
	}
	if err := checkAliases(text); err != nil {
		return nil, &syntaxError{line: d.line, message: err.Error()}
	}
	out, err := yaml.YAMLToJSONStrict(quoteBooleanKeys(text))
	if err != nil {
		return nil, d.syntaxError(err)
	}
	return out, nil
}

// node is the document's tree with the lines of its fields; nil where there is none.
func (d document) node() *yamlv3.Node {
	text := d.text
	if json.Valid(text) {
		text = bytes.ReplaceAll(text, []byte("\t"), []byte(" "))
	}
	var n yamlv3.Node
	if err := yamlv3.Unmarshal(text, &n); err != nil || len(n.Content) == 0 {
		return nil
	}
	return n.Content[0]
}

// checkDuplicates fails where an object of valid JSON has a key twice.
func checkDuplicates(text []byte) error {
	dec := json.NewDecoder(bytes.NewReader(text))
	var open []map[string]bool // nil for arrays
	key := false
	for {
		token, err := dec.Token()
		if err != nil {
			return nil //nolint:nilerr // the end; the text is known to be valid
		}
		top := len(open) - 1
		switch token {
		case json.Delim('{'):
			open, key = append(open, map[string]bool{}), true
			continue
		case json.Delim('['):
			open, key = append(open, nil), false
			continue
		case json.Delim('}'), json.Delim(']'):
			open = open[:top]
			key = top > 0 && open[top-1] != nil
			continue
		}
		if !key {
			key = top >= 0 && open[top] != nil
			continue
		}
		name, _ := token.(string)
		if open[top][name] {
			return fmt.Errorf("key %q is there twice", name)
		}
		open[top][name] = true
		key = false
	}
}

var errAliases = errors.New("the document's aliases expand to too much: write it without them")

// checkAliases bounds what a document's aliases make of it (a "billion laughs").
func checkAliases(text []byte) error {
	if bytes.IndexByte(text, '*') < 0 || bytes.IndexByte(text, '&') < 0 {
		return nil
	}
	var n yamlv3.Node
	if err := yamlv3.Unmarshal(text, &n); err != nil {
		return nil //nolint:nilerr // decoding says it better
	}
	if _, ok := expandedSize(&n, map[*yamlv3.Node]int{}); !ok {
		return errAliases
	}
	return nil
}

// expandedSize is the size of a tree with its aliases followed; false when it
// is beyond the bound or has no end. A negative entry in known is a node in work.
func expandedSize(n *yamlv3.Node, known map[*yamlv3.Node]int) (int, bool) {
	if size, ok := known[n]; ok {
		return size, size >= 0
	}
	known[n] = -1
	size := len(n.Value) + 4
	children := n.Content
	if n.Alias != nil {
		children = []*yamlv3.Node{n.Alias}
	}
	for _, c := range children {
		s, ok := expandedSize(c, known)
		if size += s; !ok || size > maxExpandedBytes {
			return 0, false
		}
	}
	known[n] = size
	return size, true
}

// guessRef reads kind, namespace and name from a document that does not parse,
// in the layout that almost every document has.
func guessRef(text []byte) report.Object {
	find := func(pattern string) string {
		if m := regexp.MustCompile(pattern).FindSubmatch(text); m != nil {
			return string(m[1])
		}
		return ""
	}
	return report.Object{
		Kind:      find(`(?m)^kind:[ \t]+["']?([A-Za-z]+)`),
		Namespace: find(`(?m)^metadata:(?:[ \t]*\{|[ \t]*(?:#.*)?\r?\n(?:[ \t]+.*\n)*?[ \t]+)(?:.*[ ,{])?namespace:[ \t]*["']?([a-z0-9.-]+)`),
		Name:      find(`(?m)^metadata:(?:[ \t]*\{|[ \t]*(?:#.*)?\r?\n(?:[ \t]+.*\n)*?[ \t]+)(?:.*[ ,{])?name:[ \t]*["']?([a-z0-9.-]+)`),
	}
}

// syntaxError finds the line that a YAML library names, and counts it from the start of the file.
func (d document) syntaxError(err error) *syntaxError {
	named := regexp.MustCompile(`line (\d+)`)
	message := regexp.MustCompile(`^(error converting YAML to JSON: )?yaml: (unmarshal errors:\n\s*)?(line \d+: )?`).ReplaceAllString(err.Error(), "")
	message = named.ReplaceAllStringFunc(message, func(s string) string {
		return fmt.Sprintf("line %d", d.line+lineNumber(s[len("line "):])-1)
	})
	line := 1
	if m := named.FindStringSubmatch(err.Error()); m != nil {
		line = lineNumber(m[1])
	}
	if lines := bytes.Split(d.text, []byte("\n")); line <= len(lines) && hasTabIndent(lines[line-1]) {
		message = "a tab stands where spaces belong"
	}
	return &syntaxError{line: d.line + line - 1, message: message}
}

// lineNumber reads a line in a document, 1-based.
func lineNumber(s string) int {
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 {
		return 1
	}
	return n
}

func hasTabIndent(line []byte) bool {
	indent := line[:len(line)-len(bytes.TrimLeft(line, " \t"))]
	return bytes.IndexByte(indent, '\t') >= 0
}
