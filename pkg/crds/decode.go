package crds

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"sync"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"
	sigsjson "sigs.k8s.io/json"

	meshv1a1 "github.com/meshd-io/meshd/api/v1alpha1"
	"github.com/meshd-io/meshd/pkg/report"
)

// Resource is a Kubernetes object of any kind that meshd can decode.
type Resource interface {
	metav1.Object
	runtime.Object
}

// Object is an object and the place in the user's files where it stands.
type Object struct {
	// Resource is a pointer to the typed object (*corev1.Pod, *meshv1a1.TrafficPolicy,
	// ...), with apiVersion and kind set and defaults filled in. Nobody may change it.
	Resource
	File string
	// Line of the document's first line, 1-based.
	Line int
}

// Ref names the object.
func (o Object) Ref() report.Object {
	return report.Object{Kind: o.GetObjectKind().GroupVersionKind().Kind, Namespace: o.GetNamespace(), Name: o.GetName()}
}

// Decode reads every object of a YAML or JSON file, which may have many
// documents and Lists; file is only a name, for findings. Objects come back in
// the file's order, validated as an API server would and with its defaults; a
// namespaced object that names no namespace is in "default". A document with a
// fault is left out and told of in the findings, the others are not touched by
// it. Objects of kinds that Kubernetes knows and meshd has no use for come back
// as they are written.
func Decode(data []byte, file string) ([]Object, []report.Finding) {
	var objects []Object
	var findings []report.Finding
	for _, d := range decodeFile(file, data) {
		findings = append(findings, d.findings...)
		if d.object != nil {
			objects = append(objects, Object{Resource: d.object, File: file, Line: d.line})
		}
	}
	return objects, findings
}

// declaration is what became of one document: an object, or findings that say
// why there is none. ref is as much of the object's name as could be read.
type declaration struct {
	ref      report.Object
	line     int
	object   Resource
	findings []report.Finding
	// ignored: a kind that meshd has no use for.
	ignored bool
	// whole and content are sums of the object: all of it, and all but metadata and status.
	whole, content sum
}

type sum [sha256.Size]byte

// sums of the object's JSON.
func sums(object Resource) (whole, content sum) {
	data, err := json.Marshal(object)
	if err != nil {
		panic(err) // it was made from JSON
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(data, &fields); err != nil {
		panic(err) // as above
	}
	delete(fields, "metadata")
	delete(fields, "status")
	rest, err := json.Marshal(fields)
	if err != nil {
		panic(err) // as above
	}
	return sha256.Sum256(data), sha256.Sum256(rest)
}

// named reports whether the document says which object it declares.
func (d declaration) named() bool { return d.ref.Kind != "" && d.ref.Name != "" }

// decodeFile gives one declaration per object of a file.
func decodeFile(file string, data []byte) []declaration {
	if len(data) > maxFileBytes {
		return []declaration{unreadable(file, fmt.Sprintf("the file has %d bytes, more than %d: split it", len(data), maxFileBytes))}
	}
	docs := splitDocuments(file, data)
	if len(docs) > maxDocuments {
		return []declaration{unreadable(file, fmt.Sprintf("the file has %d documents, more than %d: split it", len(docs), maxDocuments))}
	}
	var out []declaration
	for _, doc := range docs {
		out = append(out, decodeDocument(doc)...)
	}
	return out
}

// head is what every object begins with.
type head struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Metadata   struct {
		Name      string `json:"name"`
		Namespace string `json:"namespace"`
	} `json:"metadata"`
}

func decodeDocument(doc document) []declaration {
	raw, syntax := doc.json()
	if syntax != nil {
		d := declaration{line: doc.line, ref: shared().qualify(guessRef(doc.text))}
		d.findings = []report.Finding{{
			Object: d.ref, Condition: report.Accepted, Reason: report.Parse,
			File: doc.file, Line: syntax.line, Message: "not YAML: " + syntax.message,
		}}
		return []declaration{d}
	}
	if bytes.Equal(raw, []byte("null")) {
		return nil
	}
	var list struct {
		Kind  string            `json:"kind"`
		Items []json.RawMessage `json:"items"`
	}
	if err := json.Unmarshal(raw, &list); err == nil && strings.HasSuffix(list.Kind, "List") && list.Items != nil {
		var out []declaration
		tree := doc.node()
		for i, item := range list.Items {
			part := doc
			part.tree, part.prefix = tree, fmt.Sprintf("items[%d]", i)
			out = append(out, shared().decodeObject(part, item))
		}
		return out
	}
	return []declaration{shared().decodeObject(doc, raw)}
}

// decoder knows the kinds and their rules. It is immutable.
type decoder struct {
	scheme *runtime.Scheme
	// kinds that meshd reads; it ignores the others of the scheme.
	kinds map[schema.GroupVersionKind]kind
}

// kind is how objects of one kind are decoded.
type kind struct {
	clusterScoped bool
	// decode makes an object from JSON, with defaults, or leaves findings.
	decode func(f *finder, gvk schema.GroupVersionKind, raw []byte) Resource
}

// shared is the one decoder of the process: the kinds and their rules are part
// of the program, and compiling them takes longer than using them.
//
// It is made once and never changed.
var shared = sync.OnceValue(newDecoder)

func newDecoder() *decoder {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, meshv1a1.AddToScheme} {
		if err := add(scheme); err != nil {
			panic(fmt.Sprintf("crds: %v", err)) // two types of one kind: a fault of the program
		}
	}
	dec := &decoder{scheme: scheme, kinds: coreKinds(scheme)}
	maps.Copy(dec.kinds, customKinds(scheme))
	maps.Copy(dec.kinds, upstreamKinds(scheme))
	return dec
}

// finder makes the findings of one document.
type finder struct {
	doc document // its tree is filled in with the first finding
	ref report.Object
	out []report.Finding
}

func (f *finder) add(reason report.Reason, path, message string) {
	if f.doc.tree == nil {
		f.doc.tree = f.doc.node()
	}
	f.out = append(f.out, report.Finding{
		Object: f.ref, Condition: report.Accepted, Reason: reason, Field: path,
		File: f.doc.file, Line: f.doc.lineOf(path), Message: message,
	})
}

func (f *finder) addErrors(errs field.ErrorList) {
	for _, err := range errs {
		f.add(report.Invalid, fieldPath(err), err.ErrorBody())
	}
}

// fieldPath is the path of an error; the libraries call the root "<nil>".
func fieldPath(err *field.Error) string {
	return strings.TrimPrefix(strings.TrimPrefix(err.Field, "<nil>"), ".")
}

// addDecoding tells of what strict decoding of raw into a typed object has found.
func (f *finder) addDecoding(raw []byte, strict []error, err error) {
	for _, s := range strict {
		path := ""
		var fe sigsjson.FieldError
		if errors.As(s, &fe) {
			path = fe.FieldPath()
		}
		f.add(report.UnknownField, path, s.Error())
	}
	var wrong *json.UnmarshalTypeError
	switch {
	case errors.As(err, &wrong):
		path := pathAt(raw, wrong.Offset)
		if !strings.HasPrefix(withoutIndices(path), wrong.Field) { // the offset is one within the field
			path = wrong.Field
		}
		cure := ""
		if wrong.Type.Kind() == reflect.String && (strings.HasPrefix(wrong.Value, "bool") || strings.HasPrefix(wrong.Value, "number")) {
			cure = ": put it in quotes"
		}
		f.add(report.Invalid, path, fmt.Sprintf("must be %s, not %s%s", typeName(wrong.Type), wrong.Value, cure))
	case err != nil && f.badBase64(raw):
	case err != nil:
		f.add(report.Invalid, "", err.Error())
	}
}

// badBase64 tells of the bytes in data and binaryData that cannot be read, if there are any.
func (f *finder) badBase64(raw []byte) bool {
	var o struct{ Data, BinaryData map[string]string }
	if json.Unmarshal(raw, &o) != nil {
		return false
	}
	name, values, plain := "data", o.Data, "stringData"
	if f.ref.Kind == "ConfigMap" {
		name, values, plain = "binaryData", o.BinaryData, "data"
	}
	found := false
	for _, key := range slices.Sorted(maps.Keys(values)) {
		if _, err := base64.StdEncoding.DecodeString(values[key]); err != nil {
			f.add(report.Invalid, name+"."+key, "must be in base64: plain text goes into "+plain)
			found = true
		}
	}
	return found
}

// typeName says in a user's words what a field holds.
func typeName(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Bool:
		return "true or false"
	case reflect.String:
		return "a string"
	case reflect.Slice, reflect.Array:
		return "a list"
	case reflect.Struct, reflect.Map, reflect.Pointer:
		return "an object"
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return "a whole number"
	}
	return "a " + t.Kind().String()
}

func (dec *decoder) decodeObject(doc document, raw []byte) declaration {
	d := declaration{line: doc.lineOf("")}
	var h head
	if err := json.Unmarshal(raw, &h); err != nil {
		f := finder{doc: doc}
		var wrong *json.UnmarshalTypeError
		if errors.As(err, &wrong) && wrong.Field != "" {
			f.addDecoding(raw, nil, err)
		} else {
			f.add(report.Parse, "", "not a Kubernetes object: it needs apiVersion, kind and metadata.name")
		}
		d.findings = f.out
		return d
	}
	d.ref = dec.qualify(report.Object{Kind: h.Kind, Namespace: h.Metadata.Namespace, Name: h.Metadata.Name})
	gv, err := schema.ParseGroupVersion(h.APIVersion)
	gvk := gv.WithKind(h.Kind)
	k, read := dec.kinds[gvk]
	f := &finder{doc: doc, ref: d.ref}
	switch {
	case h.Kind == "":
		f.add(report.Parse, "", "the document has no kind")
	case h.APIVersion == "" || err != nil:
		f.add(report.Parse, "apiVersion", fmt.Sprintf("%s needs an apiVersion, GROUP/VERSION", h.Kind))
	case !read && dec.scheme.Recognizes(gvk) && len(dec.versionsOf(h.Kind)) == 0:
		d.ignored, d.object = true, dec.decodeLoosely(gvk, raw)
	case gvk.Group == "apiextensions.k8s.io":
		d.ignored = true
	case !read && gvk.Group == gwv1.GroupName:
		f.add(report.Unsupported, "kind", dec.unread(gvk))
	case !read:
		f.add(report.UnknownKind, "kind", dec.unknownKind(gvk))
	case h.Metadata.Name == "":
		f.add(report.Parse, "metadata", "the object has no metadata.name")
	case k.clusterScoped && h.Metadata.Namespace != "":
		f.add(report.Invalid, "metadata.namespace", h.Kind+" is cluster-scoped: leave the namespace out")
	default:
		if obj := k.decode(f, gvk, raw); obj != nil && len(f.out) == 0 {
			obj.SetNamespace(d.ref.Namespace)
			obj.GetObjectKind().SetGroupVersionKind(gvk)
			d.object = obj
			d.whole, d.content = sums(obj)
		}
	}
	d.findings = f.out
	return d
}

// decodeLoosely decodes what meshd has no use for; nil when that fails.
func (dec *decoder) decodeLoosely(gvk schema.GroupVersionKind, raw []byte) Resource {
	obj, err := dec.scheme.New(gvk)
	if err != nil || json.Unmarshal(raw, obj) != nil {
		return nil
	}
	res, _ := obj.(Resource)
	return res
}

// versionsOf are the API versions in which a kind is read, sorted.
func (dec *decoder) versionsOf(kind string) []string {
	var versions []string
	for gvk := range dec.kinds {
		if gvk.Kind == kind {
			versions = append(versions, gvk.GroupVersion().String())
		}
	}
	slices.Sort(versions)
	return versions
}

// qualify fills in the namespace where a namespaced object of a kind that is read names none.
func (dec *decoder) qualify(ref report.Object) report.Object {
	for gvk, k := range dec.kinds {
		if gvk.Kind == ref.Kind && !k.clusterScoped && ref.Namespace == "" {
			ref.Namespace = metav1.NamespaceDefault
		}
	}
	return ref
}

// unread says what meshd reads instead of a kind of the Gateway API.
func (dec *decoder) unread(gvk schema.GroupVersionKind) string {
	message := fmt.Sprintf("this version of meshd does not read %s of %s", gvk.Kind, gvk.GroupVersion())
	if versions := dec.versionsOf(gvk.Kind); len(versions) > 0 {
		message += ": write it as " + strings.Join(versions, " or ")
	}
	return message
}

// unknownKind says what a user may have meant.
func (dec *decoder) unknownKind(gvk schema.GroupVersionKind) string {
	message := fmt.Sprintf("no kind %s of %s is known", gvk.Kind, gvk.GroupVersion())
	if versions := dec.versionsOf(gvk.Kind); len(versions) > 0 {
		message += ": it is of " + strings.Join(versions, " and ")
	}
	return message
}
