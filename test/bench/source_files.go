package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"
)

const tokenIssuer = "https://bench.example"

// meshFiles is a folder, with an issuer of tokens.
type meshFiles struct {
	dir  string
	mesh mesh
	key  *ecdsa.PrivateKey // of the issuer
	told *tidings
}

func newFiles(dir string, m mesh) (*meshFiles, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	f := &meshFiles{dir: dir, mesh: m, key: key, told: newTidings()}
	return f, f.put(context.Background(), "namespace", &corev1.Namespace{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Namespace"}, ObjectMeta: metav1.ObjectMeta{Name: namespace},
	})
}

// put replaces a file whole.
func (f *meshFiles) put(_ context.Context, file string, objects ...client.Object) error {
	var text bytes.Buffer
	for _, o := range objects {
		raw, err := yaml.Marshal(o)
		if err != nil {
			return err
		}
		fmt.Fprintf(&text, "---\n%s", raw)
	}
	path := filepath.Join(f.dir, file+".yaml")
	if err := os.WriteFile(path+".new", text.Bytes(), 0o644); err != nil { // nothing secret
		return err
	}
	if err := os.Rename(path+".new", path); err != nil {
		return err
	}
	at := now()
	for _, o := range objects {
		if s, ok := o.(*discoveryv1.EndpointSlice); ok {
			f.told.note(s, at)
		}
	}
	return nil
}

func (f *meshFiles) serve(ctx context.Context, bin, dir string) (*daemon, error) {
	keys := jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: f.key.Public(), KeyID: "bench", Algorithm: "ES256", Use: "sig"}}}
	raw, err := json.Marshal(keys)
	if err != nil {
		return nil, err
	}
	jwks, state := filepath.Join(dir, "jwks.json"), filepath.Join(dir, "state")
	if err := os.WriteFile(jwks, raw, 0o600); err != nil {
		return nil, err
	}
	d, err := startDaemon(ctx, bin, dir, "--config", f.dir, "--state-dir", state,
		"--token-issuer", tokenIssuer, "--token-jwks", jwks)
	if err != nil {
		return nil, err
	}
	return d, d.trust(filepath.Join(state, "root.crt"))
}

// token is bound to the pod, as a kubelet's is.
func (f *meshFiles) token(_ context.Context, client int) (string, error) {
	now, name := time.Now(), account(f.mesh.workloadOf(client))
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: f.key, KeyID: "bench"}}, nil)
	if err != nil {
		return "", err
	}
	return jwt.Signed(signer).Claims(map[string]any{
		"iss": tokenIssuer, "aud": []string{"meshd"}, "sub": "system:serviceaccount:" + namespace + ":" + name,
		"iat": now.Unix(), "nbf": now.Unix(), "exp": now.Add(time.Hour).Unix(),
		"kubernetes.io": map[string]any{
			"namespace":      namespace,
			"serviceaccount": map[string]any{"name": name, "uid": "sa-" + name},
			"pod":            map[string]any{"name": clientName(client), "uid": podUID(clientName(client))},
		},
	}).Serialize()
}

func (f *meshFiles) tidings() *tidings { return f.told }

func (f *meshFiles) quiet(context.Context) error { return nil } // files have no statuses

func (f *meshFiles) close() error { return os.RemoveAll(f.dir) }
