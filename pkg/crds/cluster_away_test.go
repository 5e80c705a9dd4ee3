package crds

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/meshd-io/meshd/internal/kubetest"
	"github.com/meshd-io/meshd/pkg/report"
)

// wire is a way to the API server that can be cut.
type wire struct {
	target string

	mu       sync.Mutex
	listener net.Listener
	address  string
	conns    []net.Conn
	lost     *atomic.Bool // what goes over the connections that there are now
	running  sync.WaitGroup
}

// wireTo gives a configuration that goes through a wire.
func wireTo(t testing.TB, config *rest.Config) (*wire, *rest.Config) {
	t.Helper()
	host := strings.TrimSuffix(strings.TrimPrefix(config.Host, "https://"), "/")
	w := &wire{target: host, address: "127.0.0.1:0", lost: &atomic.Bool{}}
	w.open(t)
	t.Cleanup(w.cut)
	out := rest.CopyConfig(config)
	out.Host = "https://" + w.address
	return w, out
}

func (w *wire) open(t testing.TB) {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", w.address)
	if err != nil {
		t.Fatal(err)
	}
	w.listener, w.address = listener, listener.Addr().String()
	w.running.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			w.running.Go(func() { w.carry(conn) })
		}
	})
}

func (w *wire) carry(conn net.Conn) {
	defer conn.Close()
	far, err := (&net.Dialer{}).DialContext(context.Background(), "tcp", w.target)
	if err != nil {
		return
	}
	defer far.Close()
	w.mu.Lock()
	w.conns = append(w.conns, conn, far)
	lost := w.lost
	w.mu.Unlock()
	w.running.Go(func() {
		_, _ = io.Copy(lossy{far, lost}, conn) // ends when either end does
		far.Close()
	})
	_, _ = io.Copy(lossy{conn, lost}, far) // as above
}

// lossy swallows what is written once it is lost.
type lossy struct {
	io.Writer
	lost *atomic.Bool
}

func (l lossy) Write(p []byte) (int, error) {
	if l.lost.Load() {
		return len(p), nil
	}
	return l.Writer.Write(p)
}

// lose swallows from now on what goes over the connections that there are, and
// tells neither end.
func (w *wire) lose() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.lost.Store(true)
	w.lost = &atomic.Bool{}
}

// cut breaks every connection and refuses new ones.
func (w *wire) cut() {
	w.listener.Close()
	w.mu.Lock()
	for _, c := range w.conns {
		c.Close()
	}
	w.conns = nil
	w.mu.Unlock()
	w.running.Wait()
}

// listCounter counts the requests that read a kind from its beginning.
type listCounter struct {
	http.RoundTripper
	path  string
	lists atomic.Int32
}

// WrappedRoundTripper is how client-go finds the connections to close.
func (l *listCounter) WrappedRoundTripper() http.RoundTripper { return l.RoundTripper }

func (l *listCounter) RoundTrip(r *http.Request) (*http.Response, error) {
	q := r.URL.Query()
	// Rescan's lists are of metadata.
	if r.URL.Path == l.path && !strings.Contains(r.Header.Get("Accept"), "PartialObjectMetadata") &&
		(q.Get("watch") == "" || q.Get("sendInitialEvents") == "true") {
		l.lists.Add(1)
	}
	return l.RoundTripper.RoundTrip(r)
}

// TestClusterAway: what cannot be known changes nothing; what was missed is
// listed. A watch cannot go on where it was once the API server has restarted:
// it is told 410 Gone.
func TestClusterAway(t *testing.T) {
	c := cluster.Get(t)
	api, ns := c.Client(t), c.Namespace(t, nil)
	stays, changes, goes := service(ns, "stays"), service(ns, "changes"), service(ns, "goes")
	create(t, api, stays, changes, goes)
	w, config := wireTo(t, c.Config)
	counter := &listCounter{path: "/api/v1/services"}
	config.Wrap(func(rt http.RoundTripper) http.RoundTripper { counter.RoundTripper = rt; return counter })
	k := watchCluster(t, config)
	before, count := k.last()
	lists := counter.lists.Load()

	w.cut()
	changes.Spec.Ports[0].Port = 81
	update(t, api, changes)
	remove(t, api, goes)
	create(t, api, service(ns, "comes"))
	c.StopAPI(t)
	c.StartAPI(t)
	if err := k.source.Rescan(context.Background()); err == nil {
		t.Error("Rescan knows what is in an API server that is away")
	}
	if after, now := k.now(); now != count || after != before {
		t.Errorf("%d snapshots while the API server was away, want none", now-count)
	}

	w.open(t)
	after, _ := k.last()
	got := in(after.Services, ns)
	if len(got) != 3 || got["goes"] != nil || got["comes"] == nil || got["changes"].Spec.Ports[0].Port != 81 {
		t.Errorf("after the API server is back: %v", got)
	}
	if got["stays"] != in(before.Services, ns)["stays"] {
		t.Error("a Service that has not changed is another pointer")
	}
	if now := counter.lists.Load(); now <= lists {
		t.Error("the Services were not listed again: was the watch told 410?")
	}
	_, snapshots := k.now()
	for _, s := range k.snapshots[count:snapshots] {
		if in(s.Services, ns)["stays"] == nil {
			t.Error("a Service that was there all the time was withdrawn")
		}
	}
}

// TestClusterStalled: connections over which nothing comes any more are found out.
func TestClusterStalled(t *testing.T) {
	t.Setenv("HTTP2_READ_IDLE_TIMEOUT_SECONDS", "1") // 30 and 15 by default
	t.Setenv("HTTP2_PING_TIMEOUT_SECONDS", "1")
	c := cluster.Get(t)
	api, ns := c.Client(t), c.Namespace(t, nil)
	w, config := wireTo(t, c.Config)
	config.Dial = (&net.Dialer{}).DialContext // a pool of its own, made with these timeouts
	k := watchCluster(t, config)
	before, count := k.last()
	w.lose()
	create(t, api, service(ns, "s"))
	ctx, cancel := context.WithTimeout(context.Background(), kubetest.Patience)
	defer cancel()
	for err := errors.New("not asked"); err != nil; err = k.source.Rescan(ctx) {
		if ctx.Err() != nil {
			t.Fatal(err)
		}
	}
	_, now := k.now()
	for _, s := range k.snapshots[count:now] {
		if !Same(s.IngressClasses, before.IngressClasses) {
			t.Error("something was withdrawn or read anew that has not changed")
		}
	}
	if s, _ := k.now(); in(s.Services, ns)["s"] == nil {
		t.Error("the Service has not come")
	}
}

// TestClusterLoadWaits for an API server that is not there yet.
func TestClusterLoadWaits(t *testing.T) {
	c := cluster.Get(t)
	w, config := wireTo(t, c.Config)
	w.cut()
	source, err := NewClusterSource(config, ClusterOptions{})
	if err != nil {
		t.Fatal(err)
	}
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	if _, _, err := source.Load(ended); !errors.Is(err, context.Canceled) {
		t.Errorf("the context has ended: %v", err)
	}
	if source, err = NewClusterSource(config, ClusterOptions{}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	loaded := make(chan error, 1)
	go func() {
		s, _, err := source.Load(ctx)
		if err == nil && len(s.Namespaces) == 0 {
			err = errors.New("no namespaces")
		}
		loaded <- err
	}()
	w.open(t)
	if err := <-loaded; err != nil {
		t.Error(err)
	}
	cancel()
	if err := source.Run(ctx, func(*Snapshot, []report.Finding) {}); err != nil {
		t.Error(err)
	}
}

// TestClusterStopped: the API server itself goes and comes.
func TestClusterStopped(t *testing.T) {
	c := cluster.Get(t)
	api, ns := c.Client(t), c.Namespace(t, nil)
	create(t, api, service(ns, "s"))
	k := watchCluster(t, c.Config)
	before, count := k.last()
	c.StopAPI(t)
	if err := k.source.Rescan(context.Background()); err == nil {
		t.Error("Rescan knows what is in an API server that is stopped")
	}
	c.StartAPI(t)
	create(t, api, service(ns, "later"))
	after, _ := k.last()
	if got := in(after.Services, ns); len(got) != 2 || got["s"] != in(before.Services, ns)["s"] {
		t.Errorf("after the restart: %v", got)
	}
	_, snapshots := k.now()
	for _, s := range k.snapshots[count:snapshots] {
		if in(s.Services, ns)["s"] == nil || len(s.Namespaces) == 0 || !Same(s.IngressClasses, before.IngressClasses) {
			t.Error("something was withdrawn or read anew that has not changed")
		}
	}
}

// definition gives the CustomResourceDefinition of a kind of meshd's.
func definition(kind string) *apiextensionsv1.CustomResourceDefinition {
	crds := kubetest.CRDs()
	return crds[slices.IndexFunc(crds, func(c *apiextensionsv1.CustomResourceDefinition) bool { return c.Spec.Names.Kind == kind })]
}

// await repeats Rescan until the state is as wanted: the API server may serve a
// kind some time after it has taken its definition.
func (k *taken) await(what string, is func(*Snapshot) bool) *Snapshot {
	k.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), kubetest.Patience)
	defer cancel()
	for {
		s, _ := k.last()
		if is(s) {
			return s
		}
		if ctx.Err() != nil {
			k.t.Fatalf("not within %v: %s; absent: %v", kubetest.Patience, what, k.source.Absent())
		}
	}
}

func TestClusterDefinitionsComeAndGo(t *testing.T) {
	c := kubetest.Start(t, kubetest.Options{NoCRDs: true})
	api := c.Client(t)
	create(t, api, service("default", "s"))
	k := watchCluster(t, c.Config)
	s, _ := k.last()
	if got := k.source.Absent(); len(got) != 7 || got[0] != "AuthorizationPolicy" || got[6] != "Workload" {
		t.Errorf("absent: %v, want meshd's seven kinds", got)
	}
	if in(s.Services, "default")["s"] == nil {
		t.Error("the other kinds are to be there")
	}

	c.InstallCRDs(t, definition("TrafficPolicy"))
	create(t, c.Client(t), trafficPolicy("default", "p"))
	s = k.await("the policy is there", func(s *Snapshot) bool { return len(s.TrafficPolicies) == 1 })
	if got := k.source.Absent(); len(got) != 6 || slices.Contains(got, "TrafficPolicy") {
		t.Errorf("absent: %v", got)
	}
	before := s

	remove(t, api, definition("TrafficPolicy"))
	s = k.await("the policy is gone", func(s *Snapshot) bool { return len(s.TrafficPolicies) == 0 })
	k.await("the kind is absent", func(*Snapshot) bool { return slices.Contains(k.source.Absent(), "TrafficPolicy") })
	if !Same(s.Services, before.Services) {
		t.Error("another kind has changed")
	}

	c.InstallCRDs(t)
	create(t, c.Client(t), trafficPolicy("default", "q"))
	k.await("the policy is back", func(s *Snapshot) bool { return len(s.TrafficPolicies) == 1 && s.TrafficPolicies[0].Name == "q" })
	k.await("every kind is served", func(*Snapshot) bool { return len(k.source.Absent()) == 0 })
}

// The Gateway API may be installed later, or not at all; without it nothing is missed.
func TestClusterRoutesComeWithTheirDefinition(t *testing.T) {
	c := kubetest.Start(t, kubetest.Options{})
	k := watchCluster(t, c.Config)
	if absent := k.source.Absent(); len(absent) > 0 {
		t.Errorf("absent: %v, but the Gateway API's kinds are nobody's loss", absent)
	}
	theirs, err := UpstreamDefinitions()
	if err != nil {
		t.Fatal(err)
	}
	c.InstallCRDs(t, theirs...)
	api := c.Client(t)
	route := &unstructured.Unstructured{}
	if err := yaml.Unmarshal([]byte(`{apiVersion: gateway.networking.k8s.io/v1, kind: HTTPRoute, metadata: {name: r, namespace: default}, spec: {
		parentRefs: [{group: "", kind: Service, name: s}], rules: [{backendRefs: [{name: s, port: 80}]}]}}`), route); err != nil {
		t.Fatal(err)
	}
	create(t, api, route)
	s := k.await("the route is there", func(s *Snapshot) bool { return len(s.HTTPRoutes) == 1 })
	if rules := s.HTTPRoutes[0].Spec.Rules; len(rules) != 1 || len(rules[0].Matches) != 1 || *rules[0].BackendRefs[0].Weight != 1 {
		t.Errorf("rules %+v, want the definition's defaults in them", rules)
	}
	remove(t, api, theirs[0].DeepCopy())
	k.await("the route is gone with its definition", func(s *Snapshot) bool { return len(s.HTTPRoutes) == 0 })
}

// sourceRules are what the source may do in a cluster, and needs.
func sourceRules() []rbacv1.PolicyRule {
	read := []string{"list", "watch"}
	return []rbacv1.PolicyRule{
		{APIGroups: []string{""}, Resources: []string{"namespaces", "serviceaccounts", "services", "pods", "secrets", "nodes"}, Verbs: read},
		{APIGroups: []string{"discovery.k8s.io"}, Resources: []string{"endpointslices"}, Verbs: read},
		{APIGroups: []string{"networking.k8s.io"}, Resources: []string{"ingresses", "ingressclasses", "servicecidrs"}, Verbs: read},
		{APIGroups: []string{"meshd.io"}, Resources: []string{
			"meshconfigs", "certificateauthorities", "peerauthentications", "requestauthentications", "authorizationpolicies", "trafficpolicies", "workloads",
		}, Verbs: read},
		{APIGroups: []string{"apiextensions.k8s.io"}, Resources: []string{"customresourcedefinitions"}, Verbs: []string{"get"}, ResourceNames: []string{
			"meshconfigs.meshd.io", "certificateauthorities.meshd.io", "peerauthentications.meshd.io", "requestauthentications.meshd.io",
			"authorizationpolicies.meshd.io", "trafficpolicies.meshd.io", "workloads.meshd.io", "httproutes.gateway.networking.k8s.io",
		}},
		{APIGroups: []string{"gateway.networking.k8s.io"}, Resources: []string{"httproutes"}, Verbs: read},
	}
}

func TestClusterNeedsOnlyToRead(t *testing.T) {
	c := cluster.Get(t)
	api, ns := c.Client(t), c.Namespace(t, nil)
	role := &rbacv1.ClusterRole{ObjectMeta: named("", "source-"+ns), Rules: sourceRules()}
	binding := &rbacv1.ClusterRoleBinding{
		ObjectMeta: named("", "source-"+ns),
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: role.Name},
		Subjects:   []rbacv1.Subject{{Kind: "ServiceAccount", Namespace: ns, Name: "meshd"}},
	}
	create(t, api, role, binding)
	defer remove(t, api, binding)
	defer remove(t, api, role)
	account := c.As(ns, "meshd")
	mayRead := func() bool {
		err := c.ClientFor(t, account).List(context.Background(), &corev1.NodeList{}, client.Limit(1))
		if err != nil && !apierrors.IsForbidden(err) {
			t.Fatal(err)
		}
		return err == nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), kubetest.Patience)
	defer cancel()
	for !mayRead() { // the API server learns of a role by a watch of its own
		if ctx.Err() != nil {
			t.Fatal("the role has no effect")
		}
	}
	k := watchCluster(t, account)
	if s, _ := k.last(); len(s.Namespaces) == 0 {
		t.Error("no namespaces")
	}
	if err := k.source.checkGone(ctx); err != nil {
		t.Errorf("definitions: %v", err)
	}
	if got := k.source.Absent(); len(got) != 0 {
		t.Errorf("absent: %v", got)
	}
}

func TestClusterLeavesNothingBehind(t *testing.T) {
	c := cluster.Get(t)
	before := goleak.IgnoreCurrent()
	for range 3 {
		source, err := NewClusterSource(c.Config, ClusterOptions{})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		if err := source.Run(ctx, func(*Snapshot, []report.Finding) { cancel() }); err != nil {
			t.Error(err)
		}
		cancel()
	}
	// client-go has one pool of connections for all who have the same configuration.
	goleak.VerifyNone(t, before, goleak.IgnoreAnyFunction("net/http/internal/http2.(*ClientConn).readLoop"))
}

// deaf is a way to the API server on which one kind's first watches fall silent.
type deaf struct {
	http.RoundTripper
	path string
	// silent from when it is closed.
	silent chan struct{}
}

// WrappedRoundTripper is how client-go finds the connections to close.
func (d *deaf) WrappedRoundTripper() http.RoundTripper { return d.RoundTripper }

func (d *deaf) RoundTrip(r *http.Request) (*http.Response, error) {
	response, err := d.RoundTripper.RoundTrip(r)
	if err != nil || r.URL.Path != d.path || r.URL.Query().Get("watch") == "" {
		return response, err
	}
	select {
	case <-d.silent: // what comes later is heard
	default:
		response.Body = muffled{response.Body, d.silent, r.Context()}
	}
	return response, nil
}

// muffled is a body that loses what comes once it is silent.
type muffled struct {
	io.ReadCloser
	silent <-chan struct{}
	ctx    context.Context
}

func (m muffled) Read(b []byte) (int, error) {
	n, err := m.ReadCloser.Read(b)
	select {
	case <-m.silent:
		<-m.ctx.Done()
		return 0, m.ctx.Err()
	default:
		return n, err
	}
}

// TestClusterSilentWatch: a watch that lives and tells nothing any more is found out, and nothing is withdrawn meanwhile.
func TestClusterSilentWatch(t *testing.T) {
	c := cluster.Get(t)
	api, ns := c.Client(t), c.Namespace(t, nil)
	create(t, api, service(ns, "stays"), service(ns, "goes"))
	d := &deaf{path: "/api/v1/services", silent: make(chan struct{})}
	config := rest.CopyConfig(c.Config)
	config.Wrap(func(next http.RoundTripper) http.RoundTripper { d.RoundTripper = next; return d })
	k := watchCluster(t, config, func(s *ClusterSource) { s.silence = time.Second })
	before, count := k.last()
	close(d.silent)
	create(t, api, service(ns, "comes"))
	remove(t, api, service(ns, "goes"))
	k.await("what the watch has lost", func(s *Snapshot) bool {
		now := in(s.Services, ns)
		return now["comes"] != nil && now["goes"] == nil
	})
	_, now := k.now()
	for _, s := range k.snapshots[count:now] {
		if in(s.Services, ns)["stays"] != in(before.Services, ns)["stays"] {
			t.Error("a Service that has not changed was withdrawn or read anew")
		}
		if !Same(s.IngressClasses, before.IngressClasses) {
			t.Error("a kind whose watch tells what there is was read anew")
		}
	}
}
