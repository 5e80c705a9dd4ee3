package compile

import (
	"bytes"
	"fmt"
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/meshd-io/meshd/pkg/model"
	"github.com/meshd-io/meshd/pkg/report"
)

// render shows the named fields of a mesh, without zero values, and findings.
// standard is the Traffic that is not worth a line.
func render(t *testing.T, mesh *model.Mesh, fields []string, findings []report.Finding, standard model.Traffic) []byte {
	t.Helper()
	root := &yaml.Node{Kind: yaml.MappingNode}
	r := renderer{standard: standard}
	for _, name := range fields {
		if name == "Findings" {
			continue
		}
		v := reflect.ValueOf(flatten(mesh)).FieldByName(name)
		if !v.IsValid() {
			t.Fatalf("a Mesh has no field %s", name)
		}
		if n := r.node(v); n != nil {
			root.Content = append(root.Content, text(name), n)
		}
	}
	if len(findings) > 0 {
		list := &yaml.Node{Kind: yaml.SequenceNode}
		for _, f := range findings {
			list.Content = append(list.Content, findingNode(f))
		}
		root.Content = append(root.Content, text("findings"), list)
	}
	var out bytes.Buffer
	encoder := yaml.NewEncoder(&out)
	encoder.SetIndent(2)
	if err := encoder.Encode(root); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func text(s string) *yaml.Node {
	n := &yaml.Node{}
	n.SetString(s)
	return n
}

func findingNode(f report.Finding) *yaml.Node {
	n := &yaml.Node{Kind: yaml.MappingNode}
	says := string(f.Condition) + "=False"
	if f.Reason.Informs() {
		says = string(f.Condition)
	}
	line := fmt.Sprintf("%s %s %s", f.Object, says, f.Reason)
	if f.Field != "" {
		line += " " + f.Field
	}
	n.Content = append(n.Content, text(line), text(f.Message))
	return n
}

// renderer turns a model into YAML by reflection, so that a new field shows at once.
type renderer struct{ standard model.Traffic }

var (
	protocols = map[model.Protocol]string{model.Undeclared: "Undeclared", model.HTTP: "HTTP", model.HTTP2: "HTTP2", model.GRPC: "GRPC", model.TCP: "TCP"}
	modes     = map[model.Mode]string{model.Strict: "Strict", model.Permissive: "Permissive", model.Disable: "Disable"}
	logs      = map[model.AccessLog]string{model.AccessLogErrors: "Errors", model.AccessLogOff: "Off", model.AccessLogAll: "All"}
	balancers = map[model.LoadBalancer]string{model.LeastRequest: "LeastRequest", model.RoundRobin: "RoundRobin", model.Random: "Random"}
	changes   = map[model.PathChangeKind]string{model.ReplacePath: "ReplacePath", model.ReplacePrefix: "ReplacePrefix"}
	matches   = map[model.PathMatch]string{model.PathExact: "Exact", model.PathPrefix: "Prefix", model.PathRegex: "Regex"}
)

// scalar gives the text of values that are one word.
func scalar(v any) (string, bool) {
	switch v := v.(type) {
	case model.Protocol:
		return protocols[v], true
	case model.Mode:
		return modes[v], true
	case model.AccessLog:
		return logs[v], true
	case model.LoadBalancer:
		return balancers[v], true
	case model.PathChangeKind:
		return changes[v], true
	case model.PathMatch:
		return matches[v], true
	case model.WorkloadKey:
		s := fmt.Sprintf("%s/%s", v.Namespace, v.ServiceAccount)
		if v.Kind == model.GatewayProxy {
			s = "gateway " + s
		}
		if v.PodCertificate {
			s = "pod certificate " + s
		}
		return strings.TrimSpace(s + " " + v.Labels), true
	case report.Origin:
		s := fmt.Sprintf("%s@%d", v.Object, v.Generation)
		return strings.TrimSpace(s + " " + v.Rule), true
	case model.BackendRef:
		if v.Address.IsValid() {
			return v.Address.String(), true
		}
		return fmt.Sprintf("%s:%d", v.Service, v.Port), true
	case time.Duration:
		return v.String(), true
	case model.RoutingKey:
		if v.Client != "" {
			return v.Service.String() + " for " + v.Client, true
		}
		return v.Service.String(), true
	case model.Name:
		return v.String(), true
	case netip.Addr:
		return v.String(), true
	case netip.AddrPort:
		return v.String(), true
	case netip.Prefix:
		return v.String(), true
	}
	return "", false
}

// node is nil for what shows nothing.
func (r renderer) node(v reflect.Value) *yaml.Node {
	if traffic, ok := v.Interface().(model.Traffic); ok && reflect.DeepEqual(traffic, r.standard) {
		return nil
	}
	if s, ok := scalar(v.Interface()); ok {
		return text(s)
	}
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() {
			return nil
		}
		return r.node(v.Elem())
	case reflect.Slice:
		return r.list(v)
	case reflect.Map:
		return r.mapping(v)
	case reflect.Struct:
		return r.fields(v)
	}
	if s, ok := v.Interface().(string); ok && strings.HasPrefix(s, "-----BEGIN ") {
		return text(strings.SplitN(s, "\n", 2)[0])
	}
	if v.Kind() != reflect.String {
		return &yaml.Node{Kind: yaml.ScalarNode, Value: fmt.Sprint(v.Interface())}
	}
	return text(v.String())
}

func (r renderer) list(v reflect.Value) *yaml.Node {
	n := &yaml.Node{Kind: yaml.SequenceNode}
	for i := range v.Len() {
		item := r.node(v.Index(i))
		if item == nil {
			item = &yaml.Node{Kind: yaml.MappingNode, Style: yaml.FlowStyle}
		}
		n.Content = append(n.Content, item)
	}
	return flow(n)
}

func (r renderer) mapping(v reflect.Value) *yaml.Node {
	entries := map[string]reflect.Value{}
	byAddress := v.Type().Key() == reflect.TypeFor[netip.Addr]()
	for it := v.MapRange(); it.Next(); {
		key, ok := scalar(it.Key().Interface())
		if !ok {
			key = fmt.Sprint(it.Key().Interface())
		}
		entries[key] = it.Value()
	}
	n := &yaml.Node{Kind: yaml.MappingNode}
	for _, key := range slices.Sorted(maps.Keys(entries)) {
		entry := entries[key]
		if byAddress { // shown in full under its name
			entry = entry.Elem().FieldByName("Name")
		}
		if item := r.node(entry); item != nil {
			n.Content = append(n.Content, text(key), item)
		}
	}
	return n
}

func (r renderer) fields(v reflect.Value) *yaml.Node {
	n := &yaml.Node{Kind: yaml.MappingNode}
	for i := range v.NumField() {
		field := v.Field(i)
		if empty(field) && !shown(field.Interface()) {
			continue
		}
		if item := r.node(field); item != nil {
			n.Content = append(n.Content, text(v.Type().Field(i).Name), item)
		}
	}
	if len(n.Content) == 0 {
		return nil
	}
	return flow(n)
}

func empty(v reflect.Value) bool {
	if v.Kind() == reflect.Slice || v.Kind() == reflect.Map {
		return v.Len() == 0
	}
	return v.IsZero()
}

// shown are the types whose zero value is a statement.
func shown(v any) bool {
	switch v.(type) {
	case model.Protocol, model.Mode, model.PathMatch:
		return true
	}
	return false
}

// flow puts what is small on one line.
func flow(n *yaml.Node) *yaml.Node {
	const small = 90
	size := 0
	for _, c := range n.Content {
		if c.Kind != yaml.ScalarNode {
			return n
		}
		size += len(c.Value) + 2
	}
	if size <= small && (n.Kind == yaml.MappingNode || len(n.Content) <= 4) {
		n.Style = yaml.FlowStyle
	}
	return n
}
