package attest_test

import (
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/meshd-io/meshd/internal/clock/clocktest"
	"github.com/meshd-io/meshd/pkg/ca/attest"
	"github.com/meshd-io/meshd/pkg/ca/catest"
	"github.com/meshd-io/meshd/pkg/ca/refusal"
)

func verifier(t testing.TB, keys attest.Keys, now time.Time, pods attest.Pods) *attest.Verifier {
	t.Helper()
	v, err := attest.New(attest.Config{
		TrustDomain: catest.TrustDomain, Issuer: catest.Issuer, Keys: keys, Clock: clocktest.New(now), Pods: pods,
	})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// TestGood: the identity is the service account's; times within the skew pass.
// What must be refused is in the CA's table of hostile tokens (pkg/ca/service).
func TestGood(t *testing.T) {
	now := time.Now().Truncate(time.Second)
	tokens := catest.NewTokens(t)
	for _, shift := range []time.Duration{-time.Hour - 5*time.Second, -time.Minute, 0, 5 * time.Second} {
		v := verifier(t, attest.Static{Set: tokens.JWKS()}, now, nil)
		p, err := v.Attest(t.Context(), tokens.Token(t, "shop", "accounts", now.Add(shift)))
		if err != nil {
			t.Errorf("issued %s from now: %v", shift, err)
			continue
		}
		if p.Identity.String() != "spiffe://cluster.local/ns/shop/sa/accounts" || p.Pod != "accounts" || p.PodUID != "uid-accounts" ||
			!p.NotAfter.Equal(now.Add(shift).Add(time.Hour)) {
			t.Errorf("peer is %+v", p)
		}
	}
}

func TestRS256(t *testing.T) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.RS256, Key: jose.JSONWebKey{Key: key, KeyID: "r"}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	token, err := jwt.Signed(signer).Claims(catest.Claims("shop", "accounts", now)).Serialize()
	if err != nil {
		t.Fatal(err)
	}
	set := catest.NewTokens(t).JWKS()
	set.Keys = append(set.Keys, jose.JSONWebKey{Key: key.Public(), KeyID: "r"})
	if _, err := verifier(t, attest.Static{Set: set}, now, nil).Attest(t.Context(), token); err != nil {
		t.Error(err)
	}
	set.Keys[1].Use = "enc"
	if _, err := verifier(t, attest.Static{Set: set}, now, nil).Attest(t.Context(), token); refusal.ReasonOf(err) != refusal.TokenKeyUnknown {
		t.Errorf("a key for encryption: %v", err)
	}
}

type pods struct{ known, ok bool }

func (p pods) PodKnown(_, _, _ string) (known, ok bool) { return p.known, p.ok }

func TestPods(t *testing.T) {
	now := time.Now()
	tokens := catest.NewTokens(t)
	for _, tc := range []struct {
		pods pods
		want refusal.Reason
	}{{pods{true, true}, ""}, {pods{false, false}, ""}, {pods{false, true}, refusal.PodGone}} {
		_, err := verifier(t, attest.Static{Set: tokens.JWKS()}, now, tc.pods).Attest(t.Context(), tokens.Token(t, "shop", "accounts", now))
		if refusal.ReasonOf(err) != tc.want {
			t.Errorf("%+v: %v", tc.pods, err)
		}
	}
}

func TestConfig(t *testing.T) {
	if _, err := attest.New(attest.Config{Keys: attest.Static{}}); err == nil {
		t.Error("no issuer is taken")
	}
	if _, err := attest.New(attest.Config{Issuer: "x"}); err == nil {
		t.Error("no keys are taken")
	}
}

type noKeys struct{}

func (noKeys) Keys() (jose.JSONWebKeySet, error) {
	return jose.JSONWebKeySet{}, errors.New("disk on fire")
}

// TestOwnFailure is told from a refusal.
func TestOwnFailure(t *testing.T) {
	tokens := catest.NewTokens(t)
	_, err := verifier(t, noKeys{}, time.Now(), nil).Attest(t.Context(), tokens.Token(t, "shop", "accounts", time.Now()))
	if err == nil || refusal.ReasonOf(err) != "" {
		t.Errorf("got %v", err)
	}
}

// jwks writes a set as a file whose time differs from all before.
func jwks(t *testing.T, path string, set any, version int) {
	t.Helper()
	raw, err := json.Marshal(set)
	if err != nil {
		t.Fatal(err)
	}
	catest.WriteFile(t, path, string(raw))
	at := time.Unix(1700000000+int64(version), 0)
	if err := os.Chtimes(path, at, at); err != nil {
		t.Fatal(err)
	}
}

// TestFile: keys come late, change, break, vanish.
func TestFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "jwks.json")
	now := time.Now()
	first, second := catest.NewTokens(t), catest.NewTokens(t)
	second.KID = "k2"
	var log strings.Builder
	v := verifier(t, attest.NewFile(path, slog.New(slog.NewTextHandler(&log, nil))), now, nil)
	try := func(k *catest.Tokens) error {
		_, err := v.Attest(t.Context(), k.Token(t, "shop", "accounts", now))
		return err
	}
	if err := try(first); err == nil || refusal.ReasonOf(err) != "" {
		t.Errorf("no file: %v", err)
	}
	jwks(t, path, first.JWKS(), 1)
	if err := try(first); err != nil {
		t.Errorf("first keys: %v", err)
	}
	jwks(t, path, second.JWKS(), 2)
	if err := try(second); err != nil {
		t.Errorf("second keys: %v", err)
	}
	if err := try(first); refusal.ReasonOf(err) != refusal.TokenKeyUnknown {
		t.Errorf("the first key after its removal: %v", err)
	}
	private := jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: first.Key, KeyID: "k1"}}}
	symmetric := jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: []byte("secret"), KeyID: "k1"}}}
	for i, bad := range []any{"text", jose.JSONWebKeySet{}, private, symmetric, strings.Repeat("x", 2<<20)} {
		jwks(t, path, bad, 3+i)
		if err := try(second); err != nil {
			t.Errorf("broken file %d: %v", i, err)
		}
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := try(second); err != nil {
		t.Errorf("file is gone: %v", err)
	}
	if !strings.Contains(log.String(), "stay in force") {
		t.Errorf("log: %q", log.String())
	}
}

// FuzzToken: no bytes pass but those that the issuer has signed, and each refusal has a reason.
func FuzzToken(f *testing.F) {
	now := time.Unix(1_800_000_000, 0)
	tokens := catest.NewTokens(f)
	good := tokens.Token(f, "shop", "accounts", now)
	for _, seed := range []string{good, "", "..", "a.b.c", "eyJhbGciOiJub25lIn0.e30.", good + ".", good[:len(good)-1], strings.Replace(good, ".", "..", 1)} {
		f.Add(seed)
	}
	v := verifier(f, attest.Static{Set: tokens.JWKS()}, now, nil)
	f.Fuzz(func(t *testing.T, token string) {
		p, err := v.Attest(t.Context(), token)
		if err != nil {
			if refusal.ReasonOf(err) == "" || !p.Identity.IsZero() {
				t.Errorf("error without a reason, or with a peer: %v", err)
			}
			return
		}
		if head, _, _ := strings.Cut(token, "."); !strings.HasPrefix(good, head) || p.Identity.Namespace() != "shop" {
			t.Errorf("%q passed as %s", token, p.Identity)
		}
	})
}
