package store

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/meshd-io/meshd/pkg/ca"
)

// RootSecret is the name of the Secret that holds meshd's own root.
const RootSecret = "meshd-root"

// defaultTimeout of all that Root does.
const defaultTimeout = 30 * time.Second

// Secrets of one namespace; client-go's SecretInterface has it.
type Secrets interface {
	Get(ctx context.Context, name string, opts metav1.GetOptions) (*corev1.Secret, error)
	Create(ctx context.Context, secret *corev1.Secret, opts metav1.CreateOptions) (*corev1.Secret, error)
}

// Secret is a store in a Kubernetes Secret of type kubernetes.io/tls.
type Secret struct {
	Secrets Secrets
	// Name; "" is RootSecret.
	Name string
	// Timeout of one call of Root; 0 is 30 s.
	Timeout time.Duration
}

// Root reads the root, or creates it once: of replicas that start together one
// creates the Secret, and the others read it. A Secret that is broken, or that
// is something else, is an error and never replaced: a new root would cut off
// every workload that trusts the old one.
func (s Secret) Root(create func() (ca.Pair, error)) (ca.Pair, error) {
	if s.Name == "" {
		s.Name = RootSecret
	}
	if s.Timeout <= 0 {
		s.Timeout = defaultTimeout
	}
	ctx, cancel := context.WithTimeout(context.Background(), s.Timeout)
	defer cancel()
	pair, err := s.read(ctx)
	if !apierrors.IsNotFound(err) {
		return pair, err
	}
	pair, err = create()
	if err != nil {
		return ca.Pair{}, err
	}
	if err := s.write(ctx, pair); err != nil && !apierrors.IsAlreadyExists(err) {
		return ca.Pair{}, fmt.Errorf("create Secret %s: %w", s.Name, err)
	}
	return s.read(ctx)
}

func (s Secret) read(ctx context.Context) (ca.Pair, error) {
	secret, err := s.Secrets.Get(ctx, s.Name, metav1.GetOptions{})
	if err != nil {
		return ca.Pair{}, fmt.Errorf("read Secret %s: %w", s.Name, err)
	}
	pair, err := parseSecret(secret)
	if err != nil {
		return ca.Pair{}, fmt.Errorf("root in Secret %s/%s: %w; restore it from a backup or, if no workload trusts it, delete it: meshd then makes a new root",
			secret.Namespace, secret.Name, err)
	}
	return pair, nil
}

func parseSecret(secret *corev1.Secret) (ca.Pair, error) {
	if secret.Type != corev1.SecretTypeTLS {
		return ca.Pair{}, fmt.Errorf("its type is %q, not %s", secret.Type, corev1.SecretTypeTLS)
	}
	certs, err := ca.ParseCertificates(secret.Data[corev1.TLSCertKey])
	if err != nil {
		return ca.Pair{}, fmt.Errorf("%s: %w", corev1.TLSCertKey, err)
	}
	if len(certs) != 1 {
		return ca.Pair{}, fmt.Errorf("%s: %d certificates, one is wanted", corev1.TLSCertKey, len(certs))
	}
	key, err := ca.ParseKey(secret.Data[corev1.TLSPrivateKeyKey])
	if err != nil {
		return ca.Pair{}, fmt.Errorf("%s: %w", corev1.TLSPrivateKeyKey, err)
	}
	pair := ca.Pair{Certificate: certs[0], Key: key}
	return pair, fit(pair)
}

func (s Secret) write(ctx context.Context, pair ca.Pair) error {
	key, err := x509.MarshalPKCS8PrivateKey(pair.Key)
	if err != nil {
		return err
	}
	immutable := true
	_, err = s.Secrets.Create(ctx, &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{
			Name:   s.Name,
			Labels: map[string]string{"app.kubernetes.io/name": "meshd", "app.kubernetes.io/component": "certificate-authority"},
		},
		Type: corev1.SecretTypeTLS,
		// It is replaced by a rotation, never edited.
		Immutable: &immutable,
		Data: map[string][]byte{
			corev1.TLSCertKey:       pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: pair.Certificate.Raw}),
			corev1.TLSPrivateKeyKey: pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}),
		},
	}, metav1.CreateOptions{})
	return err
}
