package service_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/meshd-io/meshd/pkg/ca/refusal"
)

// bearer spoils the token.
func bearer(make func(f *forge) string) func(*forge, *attempt) {
	return func(f *forge, a *attempt) { a.metadata = []string{"Bearer " + make(f)} }
}

// claim spoils claims of a token that the right issuer signs.
func claim(change func(f *forge) map[string]any) func(*forge, *attempt) {
	return bearer(func(f *forge) string { return f.token(change(f)) })
}

// with spoils claims by constants.
func with(change map[string]any) func(*forge, *attempt) {
	return claim(func(*forge) map[string]any { return change })
}

func tokenCases() []hostile {
	return append(append(tokenForms(), tokenSignatures()...), append(tokenTimes(), tokenSubjects()...)...)
}

func tokenForms() []hostile {
	return []hostile{
		{"no token", refusal.NoCredential, func(_ *forge, a *attempt) { a.metadata = nil }},
		{"two tokens", refusal.TokenMalformed, func(_ *forge, a *attempt) { a.metadata = append(a.metadata, a.metadata[0]) }},
		{"empty authorization", refusal.TokenMalformed, func(_ *forge, a *attempt) { a.metadata = []string{""} }},
		{"basic authorization", refusal.TokenMalformed, func(_ *forge, a *attempt) { a.metadata = []string{"Basic YTpi"} }},
		{"token without scheme", refusal.TokenMalformed, func(_ *forge, a *attempt) { a.metadata[0] = a.metadata[0][len("Bearer "):] }},
		{"empty token", refusal.TokenMalformed, bearer(func(*forge) string { return "" })},
		{"token is no JWT", refusal.TokenMalformed, bearer(func(*forge) string { return "hello" })},
		{"token of dots", refusal.TokenAlgorithm, bearer(func(*forge) string { return ".." })},
		{"token of many dots", refusal.TokenMalformed, bearer(func(*forge) string { return strings.Repeat(".", 5000) })},
		{"token oversized", refusal.TokenTooLarge, claim(func(*forge) map[string]any {
			return map[string]any{"pad": strings.Repeat("x", 9000)}
		})},
		{"token in JSON form", refusal.TokenMalformed, bearer(func(f *forge) string {
			p := strings.Split(f.token(nil), ".")
			return fmt.Sprintf(`{"protected":%q,"payload":%q,"signature":%q}`, p[0], p[1], p[2])
		})},
		{"token with trailing data", refusal.TokenMalformed, bearer(func(f *forge) string { return f.token(nil) + ".e30" })},
		{"token encrypted", refusal.TokenMalformed, bearer(func(f *forge) string {
			enc, err := jose.NewEncrypter(jose.A128GCM, jose.Recipient{Algorithm: jose.ECDH_ES, Key: f.ca.Tokens.Key.Public()}, nil)
			if err != nil {
				f.t.Fatal(err)
			}
			obj, err := enc.Encrypt([]byte(f.payload()))
			if err != nil {
				f.t.Fatal(err)
			}
			out, err := obj.CompactSerialize()
			if err != nil {
				f.t.Fatal(err)
			}
			return out
		})},
		{"claims are a list", refusal.TokenMalformed, bearer(func(f *forge) string { return f.resigned(`[1]`) })},
		{"claims are no JSON", refusal.TokenMalformed, bearer(func(f *forge) string { return f.resigned(`{"iss":`) })},
		{"claims are empty", refusal.TokenIssuer, bearer(func(f *forge) string { return f.resigned(`{}`) })},
		{"claim twice", refusal.TokenMalformed, bearer(func(f *forge) string {
			return f.resigned(strings.Replace(f.payload(), "{", `{"sub":"system:serviceaccount:shop:admin",`, 1))
		})},
	}
}

func tokenSignatures() []hostile {
	return []hostile{
		{"alg none", refusal.TokenAlgorithm, bearer(func(f *forge) string { return parts(`{"alg":"none"}`, f.payload(), "") })},
		{"alg NONE", refusal.TokenAlgorithm, bearer(func(f *forge) string { return parts(`{"alg":"NONE"}`, f.payload(), "x") })},
		{"alg missing", refusal.TokenAlgorithm, bearer(func(f *forge) string { return parts(`{"kid":"k1"}`, f.payload(), "x") })},
		{"HS256 by the public key", refusal.TokenAlgorithm, bearer(func(f *forge) string {
			raw, err := f.ca.Tokens.Key.PublicKey.Bytes()
			if err != nil {
				f.t.Fatal(err)
			}
			return f.jws(jose.HS256, raw, nil)
		})},
		{"HS512", refusal.TokenAlgorithm, bearer(func(f *forge) string { return f.jws(jose.HS512, make([]byte, 64), nil) })},
		{"RS512", refusal.TokenAlgorithm, bearer(func(f *forge) string { return f.jws(jose.RS512, f.rsa, nil) })},
		{"PS256", refusal.TokenAlgorithm, bearer(func(f *forge) string { return f.jws(jose.PS256, f.rsa, nil) })},
		{"RS256 by an unknown key", refusal.TokenKeyUnknown, bearer(func(f *forge) string { return f.jws(jose.RS256, f.rsa, nil) })},
		{"other key, same id", refusal.TokenSignature, bearer(func(f *forge) string { return f.other.Token(f.t, "shop", "accounts", f.now) })},
		{"unknown key id", refusal.TokenKeyUnknown, bearer(func(f *forge) string {
			return f.jws(jose.ES256, jose.JSONWebKey{Key: f.ca.Tokens.Key, KeyID: "../../k1"}, nil)
		})},
		{"key brought along", refusal.TokenSignature, bearer(func(f *forge) string {
			return f.jws(jose.ES256, f.other.Key, &jose.SignerOptions{EmbedJWK: true})
		})},
		{"critical header", refusal.TokenMalformed, bearer(func(f *forge) string {
			return f.jws(jose.ES256, f.ca.Tokens.Key, (&jose.SignerOptions{}).WithHeader("crit", []string{"x"}).WithHeader("x", 1))
		})},
		{"signature cut off", refusal.TokenSignature, bearer(func(f *forge) string {
			p := strings.Split(f.token(nil), ".")
			return p[0] + "." + p[1] + "."
		})},
		{"signature of zeros", refusal.TokenSignature, bearer(func(f *forge) string {
			p := strings.Split(f.token(nil), ".")
			return p[0] + "." + p[1] + "." + base64.RawURLEncoding.EncodeToString(make([]byte, 64))
		})},
		{"payload exchanged", refusal.TokenSignature, bearer(func(f *forge) string {
			p, q := strings.Split(f.token(nil), "."), strings.Split(f.ca.Tokens.Token(f.t, "shop", "admin", f.now), ".")
			return p[0] + "." + q[1] + "." + p[2]
		})},
		{"algorithm exchanged", refusal.TokenKeyUnknown, bearer(func(f *forge) string {
			p := strings.Split(f.token(nil), ".")
			return base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"RS256","kid":"k1"}`)) + "." + p[1] + "." + p[2]
		})},
	}
}

func tokenTimes() []hostile {
	at := func(change map[string]time.Duration) func(*forge, *attempt) {
		return claim(func(f *forge) map[string]any {
			out := map[string]any{}
			for k, d := range change {
				out[k] = f.now.Add(d).Unix()
			}
			return out
		})
	}
	return []hostile{
		{"expired", refusal.TokenExpired, at(map[string]time.Duration{"iat": -2 * time.Hour, "nbf": -2 * time.Hour, "exp": -time.Hour})},
		{"just expired", refusal.TokenExpired, at(map[string]time.Duration{"exp": -15 * time.Second})},
		{"not yet valid", refusal.TokenNotYet, at(map[string]time.Duration{"nbf": time.Minute})},
		{"issued in the future", refusal.TokenNotYet, at(map[string]time.Duration{"iat": time.Minute})},
		{"lives too long", refusal.TokenLifetime, at(map[string]time.Duration{"exp": 25 * time.Hour})},
		{"legacy: one year", refusal.TokenLifetime, at(map[string]time.Duration{"exp": 365 * 24 * time.Hour})},
		{"no expiry", refusal.TokenLifetime, with(map[string]any{"exp": nil})},
		{"no issue time", refusal.TokenLifetime, with(map[string]any{"iat": nil})},
		{"expiry zero", refusal.TokenExpired, with(map[string]any{"exp": 0})},
		{"expiry negative", refusal.TokenExpired, with(map[string]any{"exp": -1})},
		{"expiry in a string", refusal.TokenMalformed, with(map[string]any{"exp": "tomorrow"})},
		{"expiry overflows", refusal.TokenMalformed, with(map[string]any{"exp": json.Number("9223372036854775807")})},
		{"expiry beyond floats", refusal.TokenMalformed, with(map[string]any{"exp": json.Number("1e400")})},
		{"issue time at the other end", refusal.TokenLifetime, with(map[string]any{"iat": -math.MaxInt32})},
	}
}

func tokenSubjects() []hostile {
	return []hostile{
		{"other issuer", refusal.TokenIssuer, with(map[string]any{"iss": "https://evil.example"})},
		{"issuer with a slash more", refusal.TokenIssuer, with(map[string]any{"iss": "https://kubernetes.default.svc.cluster.local/"})},
		{"no issuer", refusal.TokenIssuer, with(map[string]any{"iss": nil})},
		{"audience of the API server", refusal.TokenAudience, with(map[string]any{"aud": []string{"https://kubernetes.default.svc"}})},
		{"audience like ours", refusal.TokenAudience, with(map[string]any{"aud": "meshd.evil"})},
		{"no audience", refusal.TokenAudience, with(map[string]any{"aud": nil})},
		{"audience empty", refusal.TokenAudience, with(map[string]any{"aud": []string{}})},
		{"no subject", refusal.TokenSubject, with(map[string]any{"sub": nil})},
		{"subject is a user", refusal.TokenSubject, with(map[string]any{"sub": "admin"})},
		{"subject is a node", refusal.TokenSubject, with(map[string]any{"sub": "system:node:n1"})},
		{"subject of another account", refusal.TokenSubject, with(map[string]any{"sub": "system:serviceaccount:shop:admin"})},
		{"subject of another namespace", refusal.TokenSubject, with(map[string]any{"sub": "system:serviceaccount:prod:accounts"})},
		{"subject with a colon more", refusal.TokenSubject, with(map[string]any{"sub": "system:serviceaccount:shop:accounts:x"})},
		{"no kubernetes claims", refusal.TokenSubject, with(map[string]any{"kubernetes.io": nil})},
		{"kubernetes claims are a string", refusal.TokenMalformed, with(map[string]any{"kubernetes.io": "x"})},
		{"namespace disagrees", refusal.TokenSubject, with(map[string]any{"k8s.namespace": "prod"})},
		{"account disagrees", refusal.TokenSubject, with(map[string]any{"k8s.serviceaccount": map[string]any{"name": "admin", "uid": "u"}})},
		{"namespace is a path", refusal.TokenSubject, with(map[string]any{
			"sub": "system:serviceaccount:a/sa/b:accounts", "k8s.namespace": "a/sa/b",
		})},
		{"account is a path", refusal.TokenSubject, with(map[string]any{
			"sub": "system:serviceaccount:shop:../admin", "k8s.serviceaccount": map[string]any{"name": "../admin", "uid": "u"},
		})},
		{"not bound to a pod", refusal.TokenNotBound, with(map[string]any{"k8s.pod": nil})},
		{"bound to a pod without uid", refusal.TokenNotBound, with(map[string]any{"k8s.pod": map[string]any{"name": "accounts"}})},
		{"replay after the pod's deletion", refusal.PodGone, with(map[string]any{
			"k8s.pod": map[string]any{"name": "accounts", "uid": "uid-deleted"},
		})},
	}
}
