package injector_test

import (
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"github.com/meshd-io/meshd/internal/envoytest"
	"github.com/meshd-io/meshd/pkg/gateway"
	"github.com/meshd-io/meshd/pkg/injector"
	"github.com/meshd-io/meshd/pkg/model"
	"github.com/meshd-io/meshd/pkg/xds/envoy"
)

// bootstrap is the adapter that cmd/meshd has, too.
func bootstrap(in injector.BootstrapInput) (injector.Bootstrap, error) {
	kind := model.Sidecar
	if in.Gateway {
		kind = model.GatewayProxy
	}
	var probes []envoy.Probe
	for _, p := range in.Probes {
		out := envoy.Probe{Path: p.Path, Port: uint16(p.Port), HTTPPath: p.Target, GRPCService: p.Service, Timeout: p.Timeout}
		switch p.Protocol {
		case injector.ProbeHTTPS:
			out.HTTPS = true
		case injector.ProbeTCP:
			out.Kind = envoy.TCPProbe
		case injector.ProbeGRPC:
			out.Kind = envoy.GRPCProbe
		}
		probes = append(probes, out)
	}
	text, err := envoy.Bootstrap(envoy.BootstrapConfig{
		Kind: kind, Namespace: in.Namespace, Pod: in.Pod, ServiceAccount: in.ServiceAccount,
		MeshdAddress: in.Server, MeshdIdentity: in.ServerIdentity, Probes: probes, RunDir: injector.RunDir, IdentityDir: in.IdentityDir,
	})
	if err != nil || in.IdentityDir == "" {
		return injector.Bootstrap{Config: string(text)}, err
	}
	files, err := envoy.FileSecrets(in.IdentityDir)
	return injector.Bootstrap{Config: string(text), Files: files}, err
}

// expand is what Kubernetes makes of an argument: $(NAME) of the container's
// environment is replaced, another $(NAME) stays, and $$ becomes $.
func expand(s string, env map[string]string) string {
	var out strings.Builder
	for i := 0; i < len(s); i++ {
		rest := s[i:]
		if strings.HasPrefix(rest, "$$") {
			out.WriteByte('$')
			i++
			continue
		}
		if name, _, closed := strings.Cut(strings.TrimPrefix(rest, "$("), ")"); strings.HasPrefix(rest, "$(") && closed {
			if v, there := env[name]; there {
				out.WriteString(v)
			} else {
				out.WriteString("$(" + name + ")")
			}
			i += len("$()") + len(name) - 1
			continue
		}
		out.WriteByte(s[i])
	}
	return out.String()
}

// configOf is the bootstrap as the proxy in the pod gets it.
func configOf(t *testing.T, c corev1.Container) []byte {
	t.Helper()
	at := slices.Index(c.Args, "--config-yaml")
	if at < 0 || at+1 == len(c.Args) {
		t.Fatalf("no --config-yaml in %q", c.Args)
	}
	return []byte(expand(c.Args[at+1], map[string]string{"POD_NAME": "accounts-1", "POD_NAMESPACE": "shop"}))
}

func injected(t *testing.T, file string) corev1.Container {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	pod := &corev1.Pod{}
	if err := yaml.UnmarshalStrict(text, pod); err != nil {
		t.Fatal(err)
	}
	out, d := injector.Inject(pod, nil, injector.Config{Bootstrap: bootstrap})
	if d.Err != nil || !d.Injected {
		t.Fatalf("%+v", d)
	}
	at := slices.IndexFunc(out.Spec.InitContainers, func(c corev1.Container) bool { return c.Name == injector.ProxyContainer })
	return out.Spec.InitContainers[at]
}

func TestEnvoyLoadsWhatIsInjected(t *testing.T) {
	for _, file := range []string{"testdata/plain.in.yaml", "testdata/probes-http.in.yaml", "testdata/probes-tcp-grpc-exec.in.yaml"} {
		envoytest.Validate(t, configOf(t, injected(t, file)))
	}
	d, _, _, err := gateway.ForIngress(injector.Config{Bootstrap: bootstrap})
	if err != nil {
		t.Fatal(err)
	}
	envoytest.Validate(t, configOf(t, d.Spec.Template.Spec.Containers[0]))
}

func TestUsersTextIsNotExpanded(t *testing.T) {
	for file, want := range map[string][]string{
		"testdata/probes-http.in.yaml":          {`"id":"sidecar~shop/accounts-1"`, `"cluster":"shop/default"`, `"/a%20b/$%28POD_NAME%29/$$%28X%29"`},
		"testdata/probes-tcp-grpc-exec.in.yaml": {`"shop.Loans$(X)"`},
		"testdata/probes-expansion.in.yaml":     {`"/$(POD_NAME)/$$/$$$(POD_NAME)/$"`, `"$(POD_NAMESPACE)$$(X)"`},
	} {
		got := string(configOf(t, injected(t, file)))
		if !json.Valid([]byte(got)) {
			t.Errorf("%s: not JSON: %s", file, got)
		}
		for _, w := range want {
			if !strings.Contains(got, w) {
				t.Errorf("%s: no %s in %s", file, w, got)
			}
		}
	}
}
