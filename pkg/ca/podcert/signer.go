package podcert

import (
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/go-logr/logr"
	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"github.com/meshd-io/meshd/pkg/ca"
	"github.com/meshd-io/meshd/pkg/ca/refusal"
	"github.com/meshd-io/meshd/pkg/ca/trust"
	"github.com/meshd-io/meshd/pkg/identity"
)

// SignerName that requests are addressed to.
const SignerName = trust.Signer

// MinLife is the shortest validity that the API server takes, not-before to
// not-after. A shorter CertificateAuthority.spec.lifetimes.leaf holds for
// agents' certificates only: those of this carrier live an hour.
const MinLife = time.Hour

// Authority signs; *ca.Authority is one.
type Authority interface {
	TrustDomain() string
	SignWithin(id identity.ID, csr []byte, least, most time.Duration) (ca.Issued, error)
}

// Options of a Signer.
type Options struct {
	Authority Authority
	// Told is called with each answer: reason is "" for a certificate. For metrics; it may be nil.
	Told func(reason string)
	// Log of all that was signed and refused; nil is slog.Default.
	Log *slog.Logger
}

// Signer answers PodCertificateRequests. One process does so: the leader.
type Signer struct {
	options Options
	config  *rest.Config
	client  client.Client
}

// ErrNotServed means that the cluster serves no PodCertificateRequests in version v1.
var ErrNotServed = errors.New("the cluster does not serve PodCertificateRequests (certificates.k8s.io/v1)")

// New fails with ErrNotServed where the cluster has no such requests.
func New(config *rest.Config, o Options) (*Signer, error) {
	if o.Authority == nil {
		return nil, errors.New("pod certificates: an authority is needed")
	}
	if o.Told == nil {
		o.Told = func(string) {}
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
	scheme := runtime.NewScheme()
	if err := errors.Join(corev1.AddToScheme(scheme), certificatesv1.AddToScheme(scheme)); err != nil {
		return nil, err
	}
	config = rest.CopyConfig(config)
	config.QPS = -1 // the API server's own fairness bounds it: client-go's 5 a second would hold up a rollout
	c, err := client.New(config, client.Options{Scheme: scheme})
	if err != nil {
		return nil, fmt.Errorf("pod certificates: %w", err)
	}
	_, err = c.RESTMapper().RESTMapping(certificatesv1.SchemeGroupVersion.WithKind("PodCertificateRequest").GroupKind(), "v1")
	switch {
	case meta.IsNoMatchError(err):
		return nil, ErrNotServed
	case err != nil:
		return nil, fmt.Errorf("pod certificates: %w", err)
	}
	return &Signer{options: o, config: config, client: c}, nil
}

const (
	// workers that answer at once: an answer waits for two calls of the API server.
	workers     = 4
	callTimeout = 30 * time.Second
	// The time between tries of one request.
	firstRetry, lastRetry = 100 * time.Millisecond, 30 * time.Second
)

// Run answers requests until ctx ends.
func (s *Signer) Run(ctx context.Context) error {
	kind := &certificatesv1.PodCertificateRequest{}
	seen, err := cache.New(s.config, cache.Options{
		Scheme: s.client.Scheme(), Mapper: s.client.RESTMapper(),
		ByObject:         map[client.Object]cache.ByObject{kind: {Field: fields.OneTermEqualSelector("spec.signerName", SignerName)}},
		DefaultTransform: cache.TransformStripManagedFields(), ReaderFailOnMissingInformer: true,
	})
	if err != nil {
		return fmt.Errorf("pod certificates: %w", err)
	}
	again := true
	c, err := controller.NewUnmanaged("podcertificaterequest", controller.Options{
		Reconciler: reconcile.Func(func(ctx context.Context, r reconcile.Request) (reconcile.Result, error) {
			return reconcile.Result{}, s.answer(ctx, seen, r.NamespacedName)
		}),
		MaxConcurrentReconciles: workers, ReconciliationTimeout: callTimeout,
		RateLimiter:        workqueue.NewTypedItemExponentialFailureRateLimiter[reconcile.Request](firstRetry, lastRetry),
		SkipNameValidation: &again, // a process may lead, lose the lead, and lead again
		Logger:             logr.FromSlogHandler(s.options.Log.Handler()),
	})
	if err != nil {
		return fmt.Errorf("pod certificates: %w", err)
	}
	err = c.Watch(source.Kind(seen, kind, &handler.TypedEnqueueRequestForObject[*certificatesv1.PodCertificateRequest]{}))
	if err != nil {
		return fmt.Errorf("pod certificates: %w", err)
	}
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- seen.Start(ctx) }()
	err = c.Start(ctx)
	cancel()
	return errors.Join(err, <-ended)
}

// answer answers one request, once: the API server lets no answer be changed,
// and none be written that is based on an older version of the request. An error
// is tried again; the request stays open, because Failed would be final for its pod.
func (s *Signer) answer(ctx context.Context, seen client.Reader, key client.ObjectKey) error {
	var r certificatesv1.PodCertificateRequest
	if err := seen.Get(ctx, key, &r); err != nil {
		return client.IgnoreNotFound(err)
	}
	if answered(&r) || r.Spec.SignerName != SignerName || r.DeletionTimestamp != nil {
		return nil
	}
	refused, err := s.judge(ctx, &r)
	if err != nil {
		return err
	}
	if refused == nil {
		refused, err = s.sign(&r)
		if err != nil {
			return err
		}
	}
	reason := ""
	if refused != nil {
		reason = refused.reason
		r.Status.Conditions = []metav1.Condition{condition(&r, certificatesv1.PodCertificateRequestConditionTypeDenied, *refused)}
	}
	switch err := s.client.Status().Update(ctx, &r); {
	case apierrors.IsNotFound(err), apierrors.IsConflict(err):
		return nil // gone, or changed: then its next version is seen
	case err != nil:
		return err
	}
	s.options.Told(reason)
	s.log(ctx, &r, refused)
	return nil
}

func (s *Signer) judge(ctx context.Context, r *certificatesv1.PodCertificateRequest) (*denial, error) {
	if d := judgeRequest(r); d != nil {
		return d, nil
	}
	var pod corev1.Pod
	err := s.client.Get(ctx, client.ObjectKey{Namespace: r.Namespace, Name: r.Spec.PodName}, &pod)
	switch {
	case apierrors.IsNotFound(err):
		return &denial{PodGone, fmt.Sprintf("pod %s/%s does not exist", r.Namespace, r.Spec.PodName)}, nil
	case err != nil:
		return nil, err
	}
	return judgePod(r, &pod), nil
}

// sign fills in the status. The identity is the request's namespace and the account of its pod.
func (s *Signer) sign(r *certificatesv1.PodCertificateRequest) (*denial, error) {
	id, bad := s.identity(r)
	if bad != nil {
		return bad, nil
	}
	if r.Spec.MaxExpirationSeconds == nil {
		return nil, errors.New("maxExpirationSeconds is not set") // the API server sets it
	}
	most := time.Duration(*r.Spec.MaxExpirationSeconds) * time.Second
	issued, err := s.options.Authority.SignWithin(id, r.Spec.StubPKCS10Request, MinLife, most)
	var refused *refusal.Error
	switch {
	case errors.As(err, &refused):
		return &denial{string(refused.Reason), refused.Wire}, nil
	case err != nil:
		return nil, fmt.Errorf("sign for %s: %w", id, err)
	}
	var chain []byte
	for _, c := range issued.Chain {
		chain = append(chain, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
	}
	leaf := issued.Chain[0]
	notBefore, notAfter := metav1.NewTime(leaf.NotBefore), metav1.NewTime(leaf.NotAfter)
	// Half-life, as agents do; the kubelet adds jitter.
	refresh := metav1.NewTime(leaf.NotBefore.Add(leaf.NotAfter.Sub(leaf.NotBefore) / 2).Truncate(time.Second))
	r.Status = certificatesv1.PodCertificateRequestStatus{
		CertificateChain: string(chain), NotBefore: &notBefore, NotAfter: &notAfter, BeginRefreshAt: &refresh,
		Conditions: []metav1.Condition{condition(r, certificatesv1.PodCertificateRequestConditionTypeIssued,
			denial{"Issued", "signed for " + id.String()})},
	}
	return nil, nil
}

// identity is refused where no SPIFFE ID can be made of the account's name.
func (s *Signer) identity(r *certificatesv1.PodCertificateRequest) (identity.ID, *denial) {
	id, err := identity.New(s.options.Authority.TrustDomain(), r.Namespace, r.Spec.ServiceAccountName)
	if err != nil {
		return id, &denial{string(refusal.NoIdentity), err.Error()}
	}
	return id, nil
}

func condition(r *certificatesv1.PodCertificateRequest, kind string, why denial) metav1.Condition {
	return metav1.Condition{
		Type: kind, Status: metav1.ConditionTrue, Reason: why.reason, Message: why.message,
		ObservedGeneration: r.Generation, LastTransitionTime: metav1.Now(),
	}
}

func (s *Signer) log(ctx context.Context, r *certificatesv1.PodCertificateRequest, refused *denial) {
	attrs := []any{"request", r.Namespace + "/" + r.Name, "pod", r.Spec.PodName, "account", r.Spec.ServiceAccountName, "node", string(r.Spec.NodeName)}
	if refused != nil {
		s.options.Log.WarnContext(ctx, "pod certificate denied", append(attrs, "reason", refused.reason, "detail", refused.message)...)
		return
	}
	s.options.Log.InfoContext(ctx, "pod certificate signed", append(attrs, "notAfter", r.Status.NotAfter.UTC())...)
}
