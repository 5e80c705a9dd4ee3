package check

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	meshv1a1 "github.com/meshd-io/meshd/api/v1alpha1"
	"github.com/meshd-io/meshd/pkg/console"
	"github.com/meshd-io/meshd/pkg/crds"
	"github.com/meshd-io/meshd/pkg/report"
)

var now = time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC)

// root is a certificate in PEM that lives from start to end.
func root(t *testing.T, start, end time.Time) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: start, NotAfter: end, IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func certificate(t *testing.T, bundle []byte) console.Certificate {
	t.Helper()
	certs, err := parse(bundle)
	if err != nil {
		t.Fatal(err)
	}
	return described(certs[0])
}

func pod(name string, ready bool, images ...string) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name, Labels: map[string]string{}}}
	for i := 0; i+1 < len(images); i += 2 {
		p.Spec.InitContainers = append(p.Spec.InitContainers, corev1.Container{Name: images[i], Image: images[i+1]})
	}
	p.Spec.Containers = []corev1.Container{{Name: "app", Image: "app"}}
	p.Status = corev1.PodStatus{Phase: corev1.PodRunning, PodIPs: []corev1.PodIP{{IP: "10.244.0.7"}}}
	if ready {
		p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
	}
	return p
}

// definitionsOnce: to parse them takes longer than all checks. Nobody changes them.
var definitionsOnce = sync.OnceValues(crds.Definitions)

// well are the facts of a cluster in which nothing is wrong.
func well(t *testing.T) Facts {
	t.Helper()
	wanted, err := definitionsOnce()
	if err != nil {
		t.Fatal(err)
	}
	wanted = wanted[:2] // as good as all, and quicker to compare
	var installed []*apiextensionsv1.CustomResourceDefinition
	for _, d := range wanted {
		d = d.DeepCopy()
		d.Status.Conditions = []apiextensionsv1.CustomResourceDefinitionCondition{{Type: apiextensionsv1.Established, Status: apiextensionsv1.ConditionTrue}}
		installed = append(installed, d)
	}
	anchor := root(t, now.AddDate(-1, 0, 0), now.AddDate(9, 0, 0))
	two, yes := int32(2), true
	entry := func(name string) admissionregistrationv1.MutatingWebhook {
		policy := admissionregistrationv1.Fail
		return admissionregistrationv1.MutatingWebhook{Name: name, FailurePolicy: &policy, ClientConfig: admissionregistrationv1.WebhookClientConfig{
			CABundle: anchor, Service: &admissionregistrationv1.ServiceReference{Namespace: "meshd-system", Name: "meshd"},
		}}
	}
	issuer := console.Certificate{Fingerprint: strings.Repeat("1", 64), NotBefore: now.Add(-time.Hour), NotAfter: now.Add(167 * time.Hour)}
	replica := func(name string, proxies ...console.Proxy) Replica {
		return Replica{Name: name, State: console.State{
			Ready: true, Synced: true, Version: "0.5.0", Proxies: proxies,
			Authority: &console.Authority{Roots: []console.Certificate{certificate(t, anchor)}, Issuer: issuer},
		}}
	}
	proxy := console.Proxy{Name: "shop/loans", Synced: true, Connected: now.Add(-time.Minute), CertificateExpires: now.Add(50 * time.Minute)}
	return Facts{
		Now: now, Version: "0.5.0", Leaf: time.Hour,
		Replicas: []Replica{replica("meshd-a", proxy), replica("meshd-b")},
		Objects: []Object{{
			Object: report.Object{Kind: "TrafficPolicy", Namespace: "shop", Name: "loans"}, Generation: 2, Observed: 2,
			Conditions: []metav1.Condition{{Type: "Accepted", Status: metav1.ConditionTrue}, {Type: "Programmed", Status: metav1.ConditionTrue}},
		}},
		Cluster: &Cluster{
			Namespace: "meshd-system", Wanted: wanted, Installed: installed, Anchor: anchor,
			Deployment: &appsv1.Deployment{
				ObjectMeta: metav1.ObjectMeta{Namespace: "meshd-system", Name: "meshd"}, Spec: appsv1.DeploymentSpec{Replicas: &two},
				Status: appsv1.DeploymentStatus{Replicas: 2, ReadyReplicas: 2, UpdatedReplicas: 2, Conditions: []appsv1.DeploymentCondition{
					{Type: appsv1.DeploymentAvailable, Status: corev1.ConditionTrue},
				}},
			},
			Webhook: &admissionregistrationv1.MutatingWebhookConfiguration{
				ObjectMeta: metav1.ObjectMeta{Name: "meshd-injector"},
				Webhooks:   []admissionregistrationv1.MutatingWebhook{entry("namespace.inject.meshd.io"), entry("pod.inject.meshd.io")},
			},
			Slices: []*discoveryv1.EndpointSlice{{Endpoints: []discoveryv1.Endpoint{
				{Addresses: []string{"10.244.0.2"}, Conditions: discoveryv1.EndpointConditions{Ready: &yes}},
			}}},
			Namespaces: []*corev1.Namespace{{ObjectMeta: metav1.ObjectMeta{Name: "shop", Labels: map[string]string{"meshd.io/inject": "enabled"}}}},
			Pods:       []*corev1.Pod{pod("loans", true, "meshd-agent", "ghcr.io/meshd-io/meshd-agent:0.5.0", "meshd-proxy", "envoy")},
			CIDRs:      []netip.Prefix{netip.MustParsePrefix("10.244.0.0/16"), netip.MustParsePrefix("10.96.0.0/12")},
		},
	}
}

func TestAllIsWell(t *testing.T) {
	results := Run(well(t))
	if len(results) != len(checks()) || !Healthy(results) {
		t.Errorf("%+v", results)
	}
	for _, r := range results {
		if r.Message == "" || r.Cure != "" {
			t.Errorf("%+v", r)
		}
	}
	local := well(t)
	local.Cluster = nil
	if results := Run(local); len(results) != 6 || !Healthy(results) {
		t.Errorf("%+v", results)
	}
}

// trouble is what is changed of well, and what must come of it.
type trouble struct {
	name    string
	broken  func(*testing.T, *Facts)
	check   string
	level   Level
	message string
}

func TestTroubles(t *testing.T) {
	for _, c := range troubles() {
		t.Run(c.name, func(t *testing.T) {
			facts := well(t)
			c.broken(t, &facts)
			results := Run(facts)
			for _, r := range results {
				if r.Check != c.check {
					continue
				}
				if r.Level != c.level || !strings.Contains(r.Message, c.message) || r.Cure == "" {
					t.Errorf("%+v", r)
				}
			}
			if Healthy(results) {
				t.Error("healthy")
			}
		})
	}
}

func troubles() []trouble {
	return append(installationTroubles(), workloadTroubles()...)
}

func installationTroubles() []trouble {
	return []trouble{
		{"a kind is missing", func(_ *testing.T, f *Facts) { f.Cluster.Installed = f.Cluster.Installed[1:] }, "definitions", Fail, "not installed: AuthorizationPolicy"},
		{"a kind is not served", func(_ *testing.T, f *Facts) { f.Cluster.Installed[0].Status.Conditions = nil }, "definitions", Fail, "not served"},
		{"a kind is of another version", func(_ *testing.T, f *Facts) {
			f.Cluster.Installed[0].Spec.Versions[0].AdditionalPrinterColumns = nil
		}, "definitions", Warn, "another version"},
		{"no deployment", func(_ *testing.T, f *Facts) { f.Cluster.Deployment = nil }, "deployment", Fail, "no Deployment"},
		{"one of two is ready", func(_ *testing.T, f *Facts) { f.Cluster.Deployment.Status.ReadyReplicas = 1 }, "deployment", Warn, "1 of 2"},
		{"none is ready", func(_ *testing.T, f *Facts) { f.Cluster.Deployment.Status.ReadyReplicas = 0 }, "deployment", Fail, "0 of 2"},
		{"scaled to 0", func(_ *testing.T, f *Facts) { *f.Cluster.Deployment.Spec.Replicas = 0 }, "deployment", Fail, "scaled to 0"},
		{"a rollout", func(_ *testing.T, f *Facts) { f.Cluster.Deployment.Status.UpdatedReplicas = 1 }, "deployment", Warn, "rollout"},
		{"no replica", func(_ *testing.T, f *Facts) { f.Replicas = nil }, "replicas", Fail, "no meshd runs"},
		{"a silent replica", func(_ *testing.T, f *Facts) { f.Replicas[1] = Replica{Name: "meshd-b", Silent: "refused"} }, "replicas", Fail, "meshd-b does not answer: refused"},
		{"not synced", func(_ *testing.T, f *Facts) { f.Replicas[1].State.Ready = false }, "replicas", Fail, "not synced"},
		{"another server", func(_ *testing.T, f *Facts) { f.Version = "0.4.0" }, "versions", Warn, "this command is 0.4.0"},
		{"two versions", func(_ *testing.T, f *Facts) { f.Replicas[1].State.Version = "0.4.1" }, "versions", Warn, "several versions: 0.4.1 (meshd-b), 0.5.0 (meshd-a)"},
		{"an old agent", func(_ *testing.T, f *Facts) {
			f.Cluster.Pods[0].Spec.InitContainers[0].Image = "r:5000/agent:0.3.9@sha256:00"
		}, "versions", Warn, "shop/loans (0.3.9)"},
		{"no webhook", func(_ *testing.T, f *Facts) { f.Cluster.Webhook = nil }, "webhook", Fail, "no MutatingWebhookConfiguration"},
		{"an entry is missing", func(_ *testing.T, f *Facts) { f.Cluster.Webhook.Webhooks = f.Cluster.Webhook.Webhooks[:1] }, "webhook", Fail, "no entry pod.inject"},
		{"no caBundle", func(_ *testing.T, f *Facts) { f.Cluster.Webhook.Webhooks[0].ClientConfig.CABundle = nil }, "webhook", Fail, "not set"},
		{"another caBundle", func(t *testing.T, f *Facts) {
			f.Cluster.Webhook.Webhooks[0].ClientConfig.CABundle = root(t, now, now.AddDate(1, 0, 0))
		}, "webhook", Fail, "lacks a current root: namespace.inject"},
		{"a caBundle with an old root", func(t *testing.T, f *Facts) {
			c := &f.Cluster.Webhook.Webhooks[0].ClientConfig
			c.CABundle = append(root(t, now, now.AddDate(1, 0, 0)), c.CABundle...)
		}, "webhook", Warn, "more than the current roots"},
		{"no endpoint", func(_ *testing.T, f *Facts) { f.Cluster.Slices = nil }, "webhook", Fail, "no ready endpoint"},
		{"failurePolicy", func(_ *testing.T, f *Facts) {
			ignore := admissionregistrationv1.Ignore
			f.Cluster.Webhook.Webhooks[1].FailurePolicy = &ignore
		}, "webhook", Warn, "failurePolicy"},
		{"OptOut without its entry", func(_ *testing.T, f *Facts) {
			f.Cluster.MeshConfig = &meshv1a1.MeshConfig{}
			f.Cluster.MeshConfig.Spec.Injection.Default = "OptOut"
		}, "injection", Fail, "no entry default.inject"},
		{"an entry of OptOut under OptIn", func(_ *testing.T, f *Facts) {
			w := f.Cluster.Webhook
			w.Webhooks = append(w.Webhooks, *w.Webhooks[0].DeepCopy())
			w.Webhooks[2].Name = "default.inject.meshd.io"
		}, "injection", Warn, "still the entry"},
		{"no anchor", func(_ *testing.T, f *Facts) { f.Cluster.Anchor = nil }, "authority", Fail, "no ConfigMap meshd-trust"},
		{"another anchor", func(t *testing.T, f *Facts) { f.Cluster.Anchor = root(t, now, now.AddDate(1, 0, 0)) }, "authority", Fail, "lacks a root"},
		{"a broken anchor", func(_ *testing.T, f *Facts) { f.Cluster.Anchor = []byte("x") }, "authority", Fail, "no list of certificates"},
		{"an issuer near its end", func(_ *testing.T, f *Facts) {
			f.Replicas[0].State.Authority.Issuer.NotBefore = now.Add(-168 * time.Hour)
			f.Replicas[0].State.Authority.Issuer.NotAfter = now.Add(time.Hour)
		}, "authority", Warn, "the issuer of meshd-a 111111111111 ends in 1h0m0s"},
		{"an expired issuer", func(_ *testing.T, f *Facts) { f.Replicas[0].State.Authority.Issuer.NotAfter = now }, "authority", Fail, "expired"},
		{"one replica has another root", func(t *testing.T, f *Facts) {
			f.Replicas[1].State.Authority.Roots = []console.Certificate{certificate(t, root(t, now, now.AddDate(1, 0, 0)))}
		}, "authority", Fail, "other roots"},
		{"refused to look", func(_ *testing.T, f *Facts) {
			f.Cluster.Unread = map[Reading]string{Webhooks: "forbidden"}
		}, "webhook", Warn, "not known: MutatingWebhookConfigurations cannot be read: forbidden"},
	}
}

func workloadTroubles() []trouble {
	condition := func(kind, reason string) func(*testing.T, *Facts) {
		return func(_ *testing.T, f *Facts) {
			f.Objects[0].Conditions = []metav1.Condition{{Type: kind, Status: metav1.ConditionFalse, Reason: reason, Message: "words"}}
		}
	}
	return []trouble{
		{"no network", func(_ *testing.T, f *Facts) { f.Cluster.CIDRs = nil }, "networks", Warn, "no network"},
		{"a pod outside", func(_ *testing.T, f *Facts) { f.Cluster.CIDRs = f.Cluster.CIDRs[1:] }, "networks", Warn, "shop/loans (10.244.0.7)"},
		{"a namespace's label", func(_ *testing.T, f *Facts) {
			f.Cluster.Namespaces[0].Labels["meshd.io/inject"] = "true"
		}, "labels", Warn, `shop ("true")`},
		{"a pod's label", func(_ *testing.T, f *Facts) { f.Cluster.Pods[0].Labels["meshd.io/inject"] = "yes" }, "labels", Warn, `shop/loans ("yes")`},
		{"no sidecar", func(_ *testing.T, f *Facts) { f.Cluster.Pods = append(f.Cluster.Pods, pod("old", true)) }, "sidecars", Warn, "do not: shop/old"},
		{"no sidecar possible", func(_ *testing.T, f *Facts) {
			p := pod("node", true)
			p.Spec.HostNetwork = true
			f.Cluster.Pods = append(f.Cluster.Pods, p)
		}, "sidecars", Warn, "cannot: shop/node"},
		{"a proxy is behind", func(_ *testing.T, f *Facts) { f.Replicas[0].State.Proxies[0].Synced = false }, "proxies", Warn, "shop/loans"},
		{"a proxy refused", func(_ *testing.T, f *Facts) {
			f.Replicas[0].State.Proxies[0].Types = []console.ProxyType{{Type: "Listener", Rejected: []console.Rejection{{Resource: "in", Message: "no"}}}}
		}, "proxies", Fail, "Listener in: no"},
		{"a proxy is away", func(_ *testing.T, f *Facts) { f.Replicas[0].State.Proxies = nil }, "proxies", Fail, "not connected to meshd: shop/loans"},
		{"an old leaf", func(_ *testing.T, f *Facts) {
			p := &f.Replicas[0].State.Proxies[0]
			p.CertificateExpires = p.Connected.Add(10 * time.Minute)
		}, "certificates", Warn, "shop/loans (10m0s left"},
		{"an expired leaf", func(_ *testing.T, f *Facts) {
			p := &f.Replicas[0].State.Proxies[0]
			p.CertificateExpires = p.Connected
		}, "certificates", Fail, "had expired"},
		{"refused", condition("Accepted", "Invalid"), "objects", Fail, "TrafficPolicy shop/loans (Invalid: words)"},
		{"unresolved", condition("ResolvedRefs", "NotFound"), "objects", Fail, "lead nowhere"},
		{"rejected", condition("Programmed", "Rejected"), "objects", Fail, "refused by a proxy"},
		{"pending", condition("Programmed", "Pending"), "objects", Warn, "not acknowledged"},
		{"unseen", func(_ *testing.T, f *Facts) { f.Objects[0].Observed = 1 }, "objects", Warn, "newest generation"},
		{"a finding", func(_ *testing.T, f *Facts) {
			f.Replicas[0].State.Findings = []report.Finding{{Object: report.Object{Kind: "Ingress", Namespace: "shop", Name: "web"}, Reason: report.NotFound, Message: "no Service"}}
		}, "objects", Warn, "Ingress shop/web (NotFound: no Service)"},
	}
}

// A certificate is judged by what was left when the connection began: it is not shown again before the next one.
func TestLongConnections(t *testing.T) {
	facts := well(t)
	p := &facts.Replicas[0].State.Proxies[0]
	p.Connected, p.CertificateExpires = now.Add(-29*time.Minute), now.Add(time.Minute)
	if results := Run(facts); !Healthy(results) {
		t.Errorf("%+v", results)
	}
}

// A proxy that has moved is told of by two replicas for a moment.
func TestNewestConnectionCounts(t *testing.T) {
	facts := well(t)
	old := facts.Replicas[0].State.Proxies[0]
	old.Synced, old.Connected = false, old.Connected.Add(-time.Hour)
	facts.Replicas[1].State.Proxies = []console.Proxy{old}
	if results := Run(facts); !Healthy(results) {
		t.Errorf("%+v", results)
	}
}

func TestManyAreSummedUp(t *testing.T) {
	f := fault{what: "pods", details: []string{"a", "b", "c", "d", "e"}}
	if got := f.message(); got != "pods: a, b, c and 2 more" {
		t.Error(got)
	}
}

func TestCompatible(t *testing.T) {
	for _, c := range []struct {
		server, agent string
		want          bool
	}{
		{"0.5.0", "0.5.3", true}, {"0.5.0", "0.4.9", true}, {"0.5.0", "0.3.0", false}, {"0.5.0", "0.6.0", false},
		{"1.0.0", "0.9.0", false}, {"0.5.0", "dev", true}, {"0.5.0", "", true}, {"0.5.0", "v0.5.0-rc.1", true},
	} {
		if got := compatible(c.server, c.agent); got != c.want {
			t.Errorf("%s with %s: %t", c.server, c.agent, got)
		}
	}
}
