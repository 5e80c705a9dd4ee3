package gateway

import (
	"encoding/json"
	"errors"
	"slices"
	"testing"

	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/meshd-io/meshd/internal/golden"
	"github.com/meshd-io/meshd/pkg/compile/ingress"
	"github.com/meshd-io/meshd/pkg/injector"
)

func TestForIngress(t *testing.T) {
	show := func(in injector.BootstrapInput) (injector.Bootstrap, error) {
		text, err := json.MarshalIndent(in, "", "  ")
		return injector.Bootstrap{Config: string(text) + "\n", Files: map[string]string{"leaf.json": "{}"}}, err
	}
	for name, config := range map[string]injector.Config{
		"ingress":                 {},
		"ingress-pod-certificate": {Carrier: injector.CarrierPodCertificate, PodCertificates: true, TrustBundles: true},
	} {
		config.Bootstrap = show
		d, s, a, err := ForIngress(config)
		if err != nil {
			t.Fatal(err)
		}
		var docs [][]byte
		for _, o := range []any{a, d, s} {
			doc, err := yaml.Marshal(o)
			if err != nil {
				t.Fatal(err)
			}
			docs = append(docs, doc)
		}
		golden.Check(t, "testdata/"+name+".out.yaml", slices.Concat(docs[0], []byte("---\n"), docs[1], []byte("---\n"), docs[2]))
	}
}

func TestForIngressFailsWithItsBootstrap(t *testing.T) {
	broken := errors.New("no template")
	_, _, _, err := ForIngress(injector.Config{Bootstrap: func(injector.BootstrapInput) (injector.Bootstrap, error) { return injector.Bootstrap{}, broken }})
	if !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
}

func TestNeeded(t *testing.T) {
	class := func(name, controller string, isDefault bool) *networkingv1.IngressClass {
		c := &networkingv1.IngressClass{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: networkingv1.IngressClassSpec{Controller: controller}}
		if isDefault {
			c.Annotations = map[string]string{networkingv1.AnnotationIsDefaultIngressClass: "true"}
		}
		return c
	}
	byField := func(name string) *networkingv1.Ingress {
		return &networkingv1.Ingress{Spec: networkingv1.IngressSpec{IngressClassName: &name}}
	}
	byAnnotation := func(name string) *networkingv1.Ingress {
		return &networkingv1.Ingress{ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{"kubernetes.io/ingress.class": name}}}
	}
	unnamed := &networkingv1.Ingress{}
	ours, theirs := class("meshd", ingress.Controller, false), class("nginx", "k8s.io/ingress-nginx", true)
	type classes = []*networkingv1.IngressClass
	for name, tc := range map[string]struct {
		ingress *networkingv1.Ingress
		classes classes
		want    bool
	}{
		"class object of meshd":                       {byField("meshd"), classes{theirs, ours}, true},
		"another name, meshd's controller":            {byField("edge"), classes{class("edge", ingress.Controller, false)}, true},
		"annotation":                                  {byAnnotation("meshd"), classes{ours}, true},
		"no class object":                             {byField("meshd"), nil, true},
		"annotation without class object":             {byAnnotation("meshd"), classes{theirs}, true},
		"the name meshd, another's controller":        {byField("meshd"), classes{class("meshd", "example.com/other", false)}, false},
		"another class":                               {byField("nginx"), classes{theirs, ours}, false},
		"a class that is not there":                   {byField("edge"), classes{ours}, false},
		"no class named, meshd's not default":         {unnamed, classes{theirs, ours}, false},
		"no class named, meshd's is default":          {unnamed, classes{class("meshd", ingress.Controller, true)}, true},
		"no class named, none there":                  {unnamed, nil, false},
		"the field has the say over the annotation":   {&networkingv1.Ingress{ObjectMeta: byAnnotation("meshd").ObjectMeta, Spec: byField("nginx").Spec}, classes{theirs, ours}, false},
		"an empty annotation names a class no one is": {byAnnotation(""), classes{class("meshd", ingress.Controller, true)}, false},
	} {
		if got := Needed([]*networkingv1.Ingress{byField("unrelated"), tc.ingress}, tc.classes); got != tc.want {
			t.Errorf("%s: got %v", name, got)
		}
	}
	// Of several defaults the newest counts.
	older, newer := class("old", ingress.Controller, true), class("new", "example.com/other", true)
	newer.CreationTimestamp = metav1.Unix(1, 0)
	if both := (classes{older, newer}); Needed([]*networkingv1.Ingress{unnamed}, both) {
		t.Error("the older of two default classes counts")
	}
	newer.Spec.Controller, older.Spec.Controller = older.Spec.Controller, newer.Spec.Controller
	if both := (classes{older, newer}); !Needed([]*networkingv1.Ingress{unnamed}, both) {
		t.Error("the newer of two default classes does not count")
	}
	if Needed(nil, classes{ours}) {
		t.Error("no Ingress, but needed")
	}
}
