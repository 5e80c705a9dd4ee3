package injector_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/meshd-io/meshd/pkg/injector"
)

// wanted is a pod whose label asks for the sidecar.
func wanted(c corev1.Container) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "a", Labels: map[string]string{injector.InjectLabel: "enabled"}},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{c}},
	}
}

func emptyBootstrap(injector.BootstrapInput) (injector.Bootstrap, error) {
	return injector.Bootstrap{Config: "{}"}, nil
}

// FuzzUsersTextSurvivesKubernetes: what a user writes into a probe comes out of
// the proxy's argument as it went in, whatever Kubernetes expands in it.
func FuzzUsersTextSurvivesKubernetes(f *testing.F) {
	for _, seed := range []string{"", "$", "$$", "$(POD_NAME)", "$$(POD_NAME)", "$$$(POD_NAME)$", "a$(b", "$(POD_NAME", `"\$(X)"`} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, service string) {
		if !utf8.ValidString(service) {
			t.Skip("not a text of the API")
		}
		pod := wanted(corev1.Container{Name: "a", LivenessProbe: &corev1.Probe{
			ProbeHandler: corev1.ProbeHandler{GRPC: &corev1.GRPCAction{Port: 1, Service: &service}}}})
		out, d := injector.Inject(pod, nil, injector.Config{Bootstrap: func(in injector.BootstrapInput) (injector.Bootstrap, error) {
			text, err := json.Marshal([]string{in.Probes[0].Service, in.Pod})
			return injector.Bootstrap{Config: string(text)}, err
		}})
		if !d.Injected || len(d.Findings) > 0 {
			t.Fatalf("%+v", d)
		}
		at := slices.IndexFunc(out.Spec.InitContainers, func(c corev1.Container) bool { return c.Name == injector.ProxyContainer })
		var got []string
		if err := json.Unmarshal(configOf(t, out.Spec.InitContainers[at]), &got); err != nil {
			t.Fatal(err)
		}
		if got[0] != service || got[1] != "accounts-1" {
			t.Errorf("%q came out as %q", service, got)
		}
	})
}

// FuzzNothingIsDroppedSilently: of an annotation's list every value is either
// an exclusion or a finding.
func FuzzNothingIsDroppedSilently(f *testing.F) {
	for _, seed := range []string{"", ",", "1,2", "1, 2 ,x", "0", "65536", "-1", "+1", "1\n2", "１"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, list string) {
		pod := wanted(corev1.Container{Name: "a"})
		pod.Annotations = map[string]string{injector.ExcludeInboundPortsAnnotation: list}
		out, d := injector.Inject(pod, nil, injector.Config{Bootstrap: emptyBootstrap})
		if !d.Injected {
			t.Fatalf("%+v", d)
		}
		values := map[string]bool{}
		if strings.TrimSpace(list) != "" {
			for _, v := range strings.Split(list, ",") {
				values[strings.TrimSpace(v)] = true
			}
		}
		taken := 0
		for _, arg := range out.Spec.InitContainers[0].Args {
			if ports, ok := strings.CutPrefix(arg, "--exclude-inbound-ports="); ok {
				taken = len(strings.Split(ports, ","))
			}
		}
		// Two spellings of one number (1 and 01) are one exclusion, so that there may be fewer.
		if taken+len(d.Findings) > len(values) || len(values) > 0 && taken+len(d.Findings) == 0 {
			t.Errorf("%q: %d exclusions, findings %+v", list, taken, d.Findings)
		}
		for _, finding := range d.Findings {
			if !strings.Contains(finding.Message, injector.ExcludeInboundPortsAnnotation) {
				t.Errorf("the annotation is not named: %s", finding.Message)
			}
		}
	})
}

// TestProbesOfEveryKindOfContainer: native sidecars of the user are probed by
// kubelet like containers.
func TestProbesOfEveryKindOfContainer(t *testing.T) {
	get := func(port int) *corev1.Probe {
		return &corev1.Probe{ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Port: intstr.FromInt32(int32(port))}}}
	}
	always := corev1.ContainerRestartPolicyAlways
	pod := wanted(corev1.Container{Name: "a", StartupProbe: get(1), LivenessProbe: get(2), ReadinessProbe: get(3)})
	pod.Spec.InitContainers = []corev1.Container{{Name: "s", RestartPolicy: &always, StartupProbe: get(4), LivenessProbe: get(5), ReadinessProbe: get(6)}}
	var got []injector.Probe
	_, d := injector.Inject(pod, nil, injector.Config{Bootstrap: func(in injector.BootstrapInput) (injector.Bootstrap, error) {
		got = in.Probes
		return injector.Bootstrap{Config: "{}"}, nil
	}})
	if !d.Injected {
		t.Fatalf("%+v", d)
	}
	want := map[string]int32{
		"/probe/a/startup": 1, "/probe/a/liveness": 2, "/probe/a/readiness": 3,
		"/probe/s/startup": 4, "/probe/s/liveness": 5, "/probe/s/readiness": 6,
	}
	if len(got) != len(want) {
		t.Errorf("%d probes: %+v", len(got), got)
	}
	for _, p := range got {
		if want[p.Path] != p.Port || p.Target != "/" {
			t.Errorf("%+v, wanted port %d and /", p, want[p.Path])
		}
	}
}
