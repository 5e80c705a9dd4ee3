package integration

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"time"
)

// certificate is a PEM certificate for names, and its key.
func (w *world) certificate(names ...string) (crt, key []byte) {
	w.Helper()
	return w.certificateFor(0, names...)
}

// certificateFor is one with a key usage; 0 is none said.
func (w *world) certificateFor(usage x509.KeyUsage, names ...string) (crt, key []byte) {
	w.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		w.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: names, KeyUsage: usage, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		w.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		w.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})
}

func secret(name string, crt, key []byte) string {
	return fmt.Sprintf("apiVersion: v1\nkind: Secret\nmetadata: {name: %s, namespace: NS}\ntype: kubernetes.io/tls\ndata: {tls.crt: %s, tls.key: %s}\n---\n",
		name, base64.StdEncoding.EncodeToString(crt), base64.StdEncoding.EncodeToString(key))
}

func ingressTLS(w *world) {
	secretFor := func(name string, hosts ...string) string {
		crt, key := w.certificate(hosts...)
		return secret(name, crt, key)
	}
	// handshake asks for a name; "" is no handshake.
	handshake := func(host, want string, code int) {
		w.Helper()
		r := w.ask(outsider, question{URL: "https://" + w.gateway() + "/x", Host: host})[0]
		if !slices.Contains(append(r.Certificate, ""), want) || (want == "") != (len(r.Certificate) == 0) || r.Code != code {
			w.Errorf("%s: %d %s %v, want %s %d", host, r.Code, r.Error, r.Certificate, want, code)
		}
	}
	target := toService("target", 80)
	rules := `rules: [` + rule("a.example", path("/", "Prefix", target)) + `, ` + rule("b.example", path("/", "Prefix", target)) + `, ` + rule("*.w.example", path("/", "Prefix", target)) + `]`
	tls := `tls: [{hosts: [a.example], secretName: a}, {hosts: [b.example], secretName: b}, {hosts: ["*.w.example"], secretName: w}], `
	w.with(secretFor("a", "a.example")+secretFor("b", "b.example")+secretFor("w", "*.w.example")+ingress("tls", tls+rules), func() {
		handshake("a.example", "a.example", 200)
		handshake("b.example", "b.example", 200)
		handshake("x.w.example", "*.w.example", 200)
		handshake("w.example", "", 0)
		handshake("c.example", "", 0)
		handshake("", "", 0)
		w.hosts(map[string]int{"a.example/x": 200, "x.w.example/": 200})

		crt, _ := w.certificate("b.example")
		_, key := w.certificate("b.example")
		for name, broken := range map[string]string{
			"mismatch": secret("b", crt, key), "garbage": secret("b", []byte("no certificate"), []byte("no key")), "empty": secret("b", nil, nil),
			"opaque": "apiVersion: v1\nkind: Secret\nmetadata: {name: b, namespace: NS}\nstringData: {password: x}\n",
		} {
			out, err := w.Apply(w.Context(), documents(w.named(broken)), applyTime)
			if err != nil {
				w.Fatal(err)
			}
			w.Logf("%s: %+v", name, out)
			if len(out.Refused) > 0 { // a Secret that no API server would take: the one before stays in force
				handshake("b.example", "b.example", 200)
				continue
			}
			handshake("b.example", "", 0)
			handshake("a.example", "a.example", 200)
			if c := w.condition("Ingress", "tls", "ResolvedRefs"); c.Status != "False" || c.Reason != "InvalidCertificate" || !strings.Contains(c.Message, "tls[1]") {
				w.Errorf("%s: %+v", name, c)
			}
		}
		w.with(secretFor("b", "b.example", "mended.example"), func() { handshake("b.example", "mended.example", 200) })
		handshake("b.example", "", 0)
		if c := w.condition("Ingress", "tls", "ResolvedRefs"); c.Status != "False" || c.Reason != "NotFound" {
			w.Errorf("%+v", c)
		}
		w.hosts(map[string]int{"b.example/x": 200})
	})
}
