package crds

import (
	"context"
	"fmt"
	"testing"

	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	structuralschema "k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel/model"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/defaulting"
	"k8s.io/apimachinery/pkg/runtime/schema"
	celconfig "k8s.io/apiserver/pkg/apis/cel"
	"k8s.io/apiserver/pkg/cel/environment"
)

// An API server's limits on the estimated cost of one rule and of all rules of
// a definition (k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/validation).
const (
	ruleCostLimit       = 10_000_000
	definitionCostLimit = 100_000_000
)

// The generated definitions are what an API server takes: structural schemas,
// defaults that are valid, and CEL rules that compile and stay within the
// limits of cost.
func TestDefinitionsAreAcceptedByAnAPIServer(t *testing.T) {
	crds, err := Definitions()
	if err != nil {
		t.Fatal(err)
	}
	if len(crds) != 7 {
		t.Errorf("%d definitions, want one for each of the 7 kinds", len(crds))
	}
	theirs, err := UpstreamDefinitions()
	if err != nil {
		t.Fatal(err)
	}
	crds = append(crds, theirs...)
	for _, crd := range crds {
		t.Run(crd.Spec.Names.Kind, func(t *testing.T) {
			version := crd.Spec.Versions[0]
			gvk := schema.GroupVersionKind{Group: crd.Spec.Group, Version: version.Name, Kind: crd.Spec.Names.Kind}
			if !shared().scheme.Recognizes(gvk) {
				t.Errorf("no type for %s", gvk)
			}
			if version.Subresources == nil || version.Subresources.Status == nil {
				t.Error("no status subresource")
			}
			s := structural(t, version.Schema.OpenAPIV3Schema)
			for _, err := range structuralschema.ValidateStructural(nil, s) {
				t.Error(err)
			}
			errs, err := defaulting.ValidateDefaults(context.Background(), nil, s, true, true)
			for _, fieldErr := range errs {
				t.Error(fieldErr)
			}
			if err != nil {
				t.Error(err)
			}
			w := costWalk{t: t}
			w.walk(s, "", 1, true)
			if w.total > definitionCostLimit {
				t.Errorf("all rules cost %d, more than %d", w.total, definitionCostLimit)
			}
			if w.rules == 0 && len(crd.Spec.Names.Kind) > 0 {
				t.Error("no rule was found")
			}
		})
	}
}

func structural(t *testing.T, props *apiextensionsv1.JSONSchemaProps) *structuralschema.Structural {
	t.Helper()
	var internal apiextensions.JSONSchemaProps
	if err := apiextensionsv1.Convert_v1_JSONSchemaProps_To_apiextensions_JSONSchemaProps(props, &internal, nil); err != nil {
		t.Fatal(err)
	}
	s, err := structuralschema.NewStructural(&internal)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

type costWalk struct {
	t     *testing.T
	rules int
	total uint64
}

// walk adds up what rules cost at the most; times is how often this part of
// the schema can be there, 0 when nothing bounds it.
func (w *costWalk) walk(s *structuralschema.Structural, path string, times uint64, root bool) {
	if len(s.XValidations) > 0 {
		results, err := cel.Compile(s, model.SchemaDeclType(s, root), celconfig.PerCallLimit,
			environment.MustBaseEnvSet(environment.DefaultCompatibilityVersion()), cel.NewExpressionsEnvLoader())
		if err != nil {
			w.t.Fatalf("%s: %v", path, err)
		}
		for i, r := range results {
			w.rules++
			if r.Error != nil {
				w.t.Errorf("%s: rule %q: %s", path, s.XValidations[i].Rule, r.Error.Detail)
				continue
			}
			n := times
			if n == 0 {
				n = r.MaxCardinality
			}
			if cost := r.MaxCost * n; cost > ruleCostLimit {
				w.t.Errorf("%s: rule %q costs %d x %d, more than %d", path, s.XValidations[i].Rule, r.MaxCost, n, ruleCostLimit)
			} else {
				w.total += cost
			}
		}
	}
	for name, child := range s.Properties {
		w.walk(&child, fmt.Sprintf("%s.%s", path, name), times, false)
	}
	if s.Items != nil {
		n := uint64(0)
		if s.ValueValidation != nil && s.ValueValidation.MaxItems != nil {
			n = times * uint64(*s.ValueValidation.MaxItems)
		}
		w.walk(s.Items, path+"[]", n, false)
	}
	if s.AdditionalProperties != nil && s.AdditionalProperties.Structural != nil {
		w.walk(s.AdditionalProperties.Structural, path+"{}", 0, false)
	}
}
