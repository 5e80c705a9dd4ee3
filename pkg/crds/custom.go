package crds

import (
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"sync"

	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	structuralschema "k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/defaulting"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/listtype"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/objectmeta"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/pruning"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/validation"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	utiljson "k8s.io/apimachinery/pkg/util/json"
	"k8s.io/apimachinery/pkg/util/validation/field"
	celconfig "k8s.io/apiserver/pkg/apis/cel"
	"sigs.k8s.io/yaml"

	crdfiles "github.com/meshd-io/meshd/charts/meshd/crds"
	"github.com/meshd-io/meshd/pkg/report"
)

// customKinds are meshd's own kinds, as the embedded CustomResourceDefinitions describe them.
func customKinds(scheme *runtime.Scheme) map[schema.GroupVersionKind]kind {
	out := map[schema.GroupVersionKind]kind{}
	crds, err := Definitions()
	if err != nil {
		panic(err) // the program's own files: a fault of its build
	}
	for _, crd := range crds {
		for _, version := range crd.Spec.Versions {
			gvk := schema.GroupVersionKind{Group: crd.Spec.Group, Version: version.Name, Kind: crd.Spec.Names.Kind}
			out[gvk] = ruled(scheme, crd.Spec.Scope == apiextensionsv1.ClusterScoped, func() (*apiextensionsv1.JSONSchemaProps, error) {
				return version.Schema.OpenAPIV3Schema, nil
			})
		}
	}
	return out
}

// ruled is a kind with a schema, which is looked at when the first object is decoded.
func ruled(scheme *runtime.Scheme, clusterScoped bool, props func() (*apiextensionsv1.JSONSchemaProps, error)) kind {
	rules := sync.OnceValues(func() (*customRules, error) {
		p, err := props()
		if err != nil {
			return nil, err
		}
		return compileRules(p)
	})
	return kind{clusterScoped: clusterScoped, decode: func(f *finder, gvk schema.GroupVersionKind, raw []byte) Resource {
		r, err := rules()
		if err != nil {
			panic(err) // the program's own files: a fault of its build; a test compiles all of them
		}
		return r.decode(f, scheme, gvk, raw)
	}}
}

// Definitions are the CustomResourceDefinitions of charts/meshd/crds.
func Definitions() ([]*apiextensionsv1.CustomResourceDefinition, error) {
	return definitions(crdfiles.FS())
}

func definitions(files fs.FS) ([]*apiextensionsv1.CustomResourceDefinition, error) {
	names, err := fs.Glob(files, "*.yaml")
	if err != nil {
		return nil, fmt.Errorf("embedded definitions: %w", err)
	}
	out := make([]*apiextensionsv1.CustomResourceDefinition, 0, len(names))
	for _, name := range names {
		data, err := fs.ReadFile(files, name)
		if err != nil {
			return nil, fmt.Errorf("embedded definitions: %w", err)
		}
		var crd apiextensionsv1.CustomResourceDefinition
		if err := yaml.UnmarshalStrict(data, &crd); err != nil {
			return nil, fmt.Errorf("embedded definition %s: %w", name, err)
		}
		out = append(out, &crd)
	}
	return out, nil
}

// customRules are the compiled schema and CEL rules of one kind.
type customRules struct {
	props      *apiextensionsv1.JSONSchemaProps
	structural *structuralschema.Structural
	schema     validation.SchemaValidator
	cel        *cel.Validator
}

func compileRules(props *apiextensionsv1.JSONSchemaProps) (*customRules, error) {
	var internal apiextensions.JSONSchemaProps
	if err := apiextensionsv1.Convert_v1_JSONSchemaProps_To_apiextensions_JSONSchemaProps(props, &internal, nil); err != nil {
		return nil, fmt.Errorf("schema: %w", err)
	}
	structural, err := structuralschema.NewStructural(&internal)
	if err != nil {
		return nil, fmt.Errorf("structural schema: %w", err)
	}
	if err := defaulting.PruneDefaults(structural); err != nil {
		return nil, fmt.Errorf("schema defaults: %w", err)
	}
	validator, _, err := validation.NewSchemaValidator(&internal)
	if err != nil {
		return nil, fmt.Errorf("schema validator: %w", err)
	}
	return &customRules{
		props:      props,
		structural: structural,
		schema:     validator,
		cel:        cel.NewValidator(structural, true, celconfig.PerCallLimit),
	}, nil
}

// decode does what an API server does with an object that is created under
// strict field validation: unknown fields, defaults, schema, CEL.
func (r *customRules) decode(f *finder, scheme *runtime.Scheme, gvk schema.GroupVersionKind, raw []byte) Resource {
	var obj map[string]any
	if err := utiljson.Unmarshal(raw, &obj); err != nil {
		f.add(report.Parse, "", err.Error())
		return nil
	}
	if !r.prune(f, obj) {
		return nil
	}
	delete(obj, "status") // a subresource: what a user writes of it does not count
	defaulting.Default(obj, r.structural)
	for _, err := range r.validate(obj, !isClusterScoped(f)) {
		f.add(report.Invalid, fieldPath(err), r.message(err))
	}
	if len(f.out) > 0 {
		return nil
	}
	typed, err := scheme.New(gvk)
	if err != nil {
		f.add(report.UnknownKind, "kind", err.Error())
		return nil
	}
	data, err := json.Marshal(obj)
	if err == nil {
		err = json.Unmarshal(data, typed)
	}
	if err != nil {
		f.addDecoding(data, nil, err)
		return nil
	}
	res, _ := typed.(Resource)
	moveOn(res)
	return res
}

func isClusterScoped(f *finder) bool { return f.ref.Namespace == "" }

// prune finds unknown fields, in metadata too.
func (r *customRules) prune(f *finder, obj map[string]any) bool {
	kind, apiVersion := obj["kind"], obj["apiVersion"]
	meta, found, unknown, err := objectmeta.GetObjectMetaWithOptions(obj, objectmeta.ObjectMetaOptions{ReturnUnknownFieldPaths: true})
	if err != nil {
		f.add(report.Invalid, "metadata", err.Error())
		return false
	}
	unknown = append(unknown, pruning.PruneWithOptions(obj, r.structural, true,
		structuralschema.UnknownFieldPathOptions{TrackUnknownFieldPaths: true})...)
	defaulting.PruneNonNullableNullsWithoutDefaults(obj, r.structural)
	for _, path := range unknown {
		f.add(report.UnknownField, path, fmt.Sprintf("%s has no field %q", f.ref.Kind, path))
	}
	obj["kind"], obj["apiVersion"] = kind, apiVersion
	if found {
		meta.Namespace = f.ref.Namespace
		if err := objectmeta.SetObjectMeta(obj, meta); err != nil {
			f.add(report.Invalid, "metadata", err.Error())
		}
	}
	return len(f.out) == 0
}

func (r *customRules) validate(obj map[string]any, namespaced bool) field.ErrorList {
	u := unstructured.Unstructured{Object: obj}
	errs := apivalidation.ValidateObjectMetaAccessor(&u, namespaced, apivalidation.NameIsDNSSubdomain, field.NewPath("metadata"))
	errs = append(errs, validation.ValidateCustomResource(nil, obj, r.schema)...)
	errs = append(errs, listtype.ValidateListSetsAndMaps(nil, r.structural, obj)...)
	errs = placed(errs)
	// As an API server, CEL is not asked about an object whose types are wrong.
	if len(errs) == 0 && r.cel != nil {
		fromCEL, _ := r.cel.Validate(context.Background(), nil, r.structural, obj, nil, celconfig.RuntimeCELCostBudget)
		errs = append(errs, fromCEL...)
	}
	return errs
}

// placed gives errors about a number's format their field, which the validator
// says in the text only, and leaves them out where another error is about it.
func placed(errs field.ErrorList) field.ErrorList {
	const before, between = "Checked value must be", " in "
	var out field.ErrorList
	for _, err := range errs {
		at := strings.LastIndex(err.Detail, between)
		if fieldPath(err) == "" && strings.HasPrefix(err.Detail, before) && at >= 0 {
			err.Field, err.Detail = err.Detail[at+len(between):], strings.TrimPrefix(err.Detail[:at], "Checked value ")
			if slices.ContainsFunc(errs, func(e *field.Error) bool { return e != err && fieldPath(e) == err.Field }) {
				continue
			}
		}
		out = append(out, err)
	}
	return out
}

// message is an error's in a user's words: a pattern is explained by the field's description.
func (r *customRules) message(err *field.Error) string {
	path := fieldPath(err)
	detail := strings.Replace(err.Detail, path+" in body ", "", 1)
	if err.Type == field.ErrorTypeTypeInvalid {
		wanted, _, _ := strings.Cut(detail, ":")
		cure := ""
		if strings.HasSuffix(wanted, "string") && err.BadValue != "object" && err.BadValue != "array" {
			cure = ": put it in quotes"
		}
		return fmt.Sprintf("%s, not %v%s", wanted, err.BadValue, cure)
	}
	description := ""
	if strings.HasPrefix(detail, "should match '") {
		description = r.description(path)
	}
	if description == "" {
		return strings.Replace(err.ErrorBody(), path+" in body ", "", 1)
	}
	return fmt.Sprintf("Invalid value: %q: %s (it %s)", err.BadValue, description, detail)
}

// description is what the API says about a field, on one line without a final period.
func (r *customRules) description(path string) string {
	props := r.props
	for _, name := range strings.Split(withoutIndices(path), ".") {
		if props.Items != nil && props.Items.Schema != nil {
			props = props.Items.Schema
		}
		child, ok := props.Properties[name]
		if !ok {
			return ""
		}
		props = &child
	}
	return strings.TrimSuffix(strings.Join(strings.Fields(props.Description), " "), ".")
}
