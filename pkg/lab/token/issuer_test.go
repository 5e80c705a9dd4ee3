package token

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestToken(t *testing.T) {
	i, err := New(func(namespace, account string) string {
		if account == "gone" {
			return ""
		}
		return "uid-of-" + namespace + "-" + account
	})
	if err != nil {
		t.Fatal(err)
	}
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "bank", Name: "accounts-1", UID: "pod-uid"}, Spec: corev1.PodSpec{ServiceAccountName: "accounts"}}
	raw, err := i.Token(p, "meshd", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	var keys jose.JSONWebKeySet
	if err := json.Unmarshal(i.JWKS(), &keys); err != nil {
		t.Fatal(err)
	}
	parsed, err := jwt.ParseSigned(raw, []jose.SignatureAlgorithm{jose.ES256})
	if err != nil {
		t.Fatal(err)
	}
	if keys.Keys[0].IsPublic() == false {
		t.Fatal("the private key is given away")
	}
	var claims jwt.Claims
	var rest struct {
		Kubernetes bound `json:"kubernetes.io"`
	}
	if err := parsed.Claims(keys.Key(parsed.Headers[0].KeyID)[0], &claims, &rest); err != nil {
		t.Fatal(err)
	}
	err = claims.Validate(jwt.Expected{Issuer: URL, AnyAudience: jwt.Audience{"meshd"}, Subject: "system:serviceaccount:bank:accounts", Time: time.Now()})
	if err != nil {
		t.Error(err)
	}
	want := bound{Namespace: "bank", Pod: named{"accounts-1", "pod-uid"}, ServiceAccount: named{"accounts", "uid-of-bank-accounts"}}
	if rest.Kubernetes != want {
		t.Errorf("%+v", rest.Kubernetes)
	}
	p.Spec.ServiceAccountName = "gone"
	if _, err := i.Token(p, "meshd", time.Hour); err == nil {
		t.Error("a token of a service account that does not exist")
	}
}
