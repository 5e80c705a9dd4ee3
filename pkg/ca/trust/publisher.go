package trust

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	certificatesv1ac "k8s.io/client-go/applyconfigurations/certificates/v1"
	corev1ac "k8s.io/client-go/applyconfigurations/core/v1"
	"k8s.io/client-go/rest"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/meshd-io/meshd/internal/clock"
)

// The names of what is published.
const (
	// ConfigMap in each namespace, and the key in it, as in every Kubernetes CA bundle.
	ConfigMap = "meshd-trust"
	Key       = "ca.crt"
	// Signer is the name that PodCertificateRequests are addressed to, and Bundle its ClusterTrustBundle.
	Signer = "meshd.io/workload"
	Bundle = "meshd.io:workload:anchor"
	// FieldOwner of both.
	FieldOwner = "meshd-trust"
)

// Authority has the bundle; *ca.Authority is one.
type Authority interface {
	// Bundle in PEM.
	Bundle() string
	// Changed is closed when the bundle may have changed since the call.
	Changed() <-chan struct{}
}

// Options of a Publisher.
type Options struct {
	Authority Authority
	// Namespaces are those that get a ConfigMap. One that does not exist, or that is being deleted, is passed over.
	Namespaces func() []string
	// Clock; nil is the system's.
	Clock clock.Clock
	// Log; nil is slog.Default.
	Log *slog.Logger
}

// Publisher keeps the objects as they are to be.
type Publisher struct {
	options Options
	config  *rest.Config
	client  client.Client
	// bundles reports whether the cluster serves ClusterTrustBundles.
	bundles bool
	poke    chan struct{}
}

// New finds out what the cluster serves.
func New(config *rest.Config, o Options) (*Publisher, error) {
	if o.Authority == nil || o.Namespaces == nil {
		return nil, errors.New("trust: authority and namespaces are needed")
	}
	if o.Clock == nil {
		o.Clock = clock.System{}
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
	config = rest.CopyConfig(config)
	config.QPS = -1 // the API server's own fairness bounds it: client-go's 5 a second would hold up a rollout
	c, err := client.New(config, client.Options{Scheme: scheme()})
	if err != nil {
		return nil, fmt.Errorf("trust: %w", err)
	}
	p := &Publisher{options: o, config: config, client: c, poke: make(chan struct{}, 1)}
	_, err = c.RESTMapper().RESTMapping(certificatesv1.SchemeGroupVersion.WithKind("ClusterTrustBundle").GroupKind(), "v1")
	switch {
	case err == nil:
		p.bundles = true
	case !meta.IsNoMatchError(err):
		return nil, fmt.Errorf("trust: %w", err)
	}
	return p, nil
}

// ServesBundles reports whether the cluster serves ClusterTrustBundles (certificates.k8s.io/v1).
func (p *Publisher) ServesBundles() bool { return p.bundles }

func scheme() *runtime.Scheme {
	s := runtime.NewScheme()
	// Neither fails but for two types of one name.
	if err := errors.Join(corev1.AddToScheme(s), certificatesv1.AddToScheme(s)); err != nil {
		panic(err)
	}
	return s
}

// retryAfter a publication that failed: doubled each time, up to a minute.
const (
	retryAfter  = time.Second
	retryAtMost = time.Minute
	callTimeout = 30 * time.Second
)

// Run publishes until ctx ends: when the bundle changes, when the caller says by
// changes that the namespaces have, and when somebody else touches the objects.
func (p *Publisher) Run(ctx context.Context, changes <-chan struct{}) error {
	seen, err := p.watch()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- seen.Start(ctx) }()
	if seen.WaitForCacheSync(ctx) {
		p.keep(ctx, seen, changes)
	}
	cancel()
	return <-ended
}

// keep publishes again and again until ctx ends.
func (p *Publisher) keep(ctx context.Context, seen client.Reader, changes <-chan struct{}) {
	retry := retryAfter
	for {
		changed := p.options.Authority.Changed()
		var again <-chan time.Time
		if err := p.publish(ctx, seen); err != nil && ctx.Err() == nil {
			p.options.Log.Error("trust anchor is not published everywhere", "error", err, "again", retry)
			again, retry = p.options.Clock.After(retry), min(2*retry, retryAtMost)
		} else {
			retry = retryAfter
		}
		select {
		case <-ctx.Done():
			return
		case <-changes:
		case <-changed:
		case <-p.poke:
		case <-again:
		}
	}
}

// watch looks at the published objects and nothing else: by name, so that RBAC can name them too.
func (p *Publisher) watch() (cache.Cache, error) {
	byName := func(name string) fields.Selector { return fields.OneTermEqualSelector("metadata.name", name) }
	watched := map[client.Object]cache.ByObject{&corev1.ConfigMap{}: {Field: byName(ConfigMap)}}
	if p.bundles {
		watched[&certificatesv1.ClusterTrustBundle{}] = cache.ByObject{Field: byName(Bundle)}
	}
	seen, err := cache.New(p.config, cache.Options{
		Scheme: p.client.Scheme(), Mapper: p.client.RESTMapper(), ByObject: watched,
		DefaultTransform: cache.TransformStripManagedFields(), ReaderFailOnMissingInformer: true,
		DefaultUnsafeDisableDeepCopy: new(true), // they are compared, after every change of the cluster, and never written into
	})
	if err != nil {
		return nil, fmt.Errorf("trust: %w", err)
	}
	touched := func() {
		select {
		case p.poke <- struct{}{}:
		default:
		}
	}
	handler := toolscache.ResourceEventHandlerFuncs{
		AddFunc: func(any) { touched() }, UpdateFunc: func(_, _ any) { touched() }, DeleteFunc: func(any) { touched() },
	}
	for kind := range watched {
		informer, err := seen.GetInformer(context.Background(), kind, cache.BlockUntilSynced(false))
		if err != nil {
			return nil, fmt.Errorf("trust: %w", err)
		}
		if _, err := informer.AddEventHandler(handler); err != nil {
			return nil, fmt.Errorf("trust: %w", err)
		}
	}
	return seen, nil
}

// publish writes what differs. What fails in one namespace does not hold up the others.
func (p *Publisher) publish(ctx context.Context, seen client.Reader) error {
	bundle := p.options.Authority.Bundle()
	var errs []error
	if p.bundles {
		errs = append(errs, p.clusterBundle(ctx, seen, bundle))
	}
	for _, namespace := range p.options.Namespaces() {
		if err := p.configMap(ctx, seen, namespace, bundle); err != nil {
			errs = append(errs, fmt.Errorf("namespace %s: %w", namespace, err))
		}
	}
	return errors.Join(errs...)
}

func (p *Publisher) configMap(ctx context.Context, seen client.Reader, namespace, bundle string) error {
	var have corev1.ConfigMap
	err := seen.Get(ctx, client.ObjectKey{Namespace: namespace, Name: ConfigMap}, &have)
	if err == nil && have.Data[Key] == bundle {
		return nil
	}
	if err != nil && !apierrors.IsNotFound(err) {
		return err
	}
	err = p.apply(ctx, corev1ac.ConfigMap(ConfigMap, namespace).WithLabels(labels()).WithData(map[string]string{Key: bundle}))
	if apierrors.IsNotFound(err) || apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) {
		return nil // the namespace is gone, or goes
	}
	if err == nil {
		p.options.Log.Info("trust anchor published", "namespace", namespace)
	}
	return err
}

func (p *Publisher) clusterBundle(ctx context.Context, seen client.Reader, bundle string) error {
	var have certificatesv1.ClusterTrustBundle
	err := seen.Get(ctx, client.ObjectKey{Name: Bundle}, &have)
	if err == nil && have.Spec.TrustBundle == bundle {
		return nil
	}
	if err != nil && !apierrors.IsNotFound(err) {
		return err
	}
	spec := certificatesv1ac.ClusterTrustBundleSpec().WithSignerName(Signer).WithTrustBundle(bundle)
	if err := p.apply(ctx, certificatesv1ac.ClusterTrustBundle(Bundle).WithLabels(labels()).WithSpec(spec)); err != nil {
		return fmt.Errorf("ClusterTrustBundle %s: %w", Bundle, err)
	}
	p.options.Log.Info("trust anchor published", "clusterTrustBundle", Bundle)
	return nil
}

// apply takes the fields from whoever has changed them.
func (p *Publisher) apply(ctx context.Context, object runtime.ApplyConfiguration) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return p.client.Apply(ctx, object, client.FieldOwner(FieldOwner), client.ForceOwnership)
}

func labels() map[string]string {
	return map[string]string{"app.kubernetes.io/name": "meshd", "app.kubernetes.io/component": "trust"}
}
