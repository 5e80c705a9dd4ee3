package kubelet

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/meshd-io/meshd/pkg/lab/store"
)

func TestExpand(t *testing.T) {
	vars := map[string]string{"A": "one", "B": "$(A)"}
	for in, want := range map[string]string{
		"plain":       "plain",
		"$(A)-$(A)":   "one-one",
		"$(NONE)":     "$(NONE)",
		"$$(A)":       "$(A)",
		"$(B)":        "$(A)", // values are not looked at again
		"$A $":        "$A $",
		"$(A":         "$(A",
		"$$$(A)":      "$one",
		"":            "",
		"a$(A)b$(C)c": "aoneb$(C)c",
	} {
		if got := expand(in, vars); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

func testView() store.View {
	v := store.View{}
	for _, o := range []store.Object{
		&corev1.ConfigMap{TypeMeta: metav1.TypeMeta{Kind: "ConfigMap"}, ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "settings"},
			Data: map[string]string{"colour": "red", "size": "10"}},
		&corev1.Secret{TypeMeta: metav1.TypeMeta{Kind: "Secret"}, ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "key"},
			Data: map[string][]byte{"key": []byte("s3cret")}},
	} {
		v[store.KeyOf(o)] = o
	}
	return v
}

func testPod() *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web-1", UID: "u", Labels: map[string]string{"app": "web"},
			Annotations: map[string]string{"note": `say "hi"`}},
		Spec: corev1.PodSpec{NodeName: "lab", ServiceAccountName: "web"},
		Status: corev1.PodStatus{PodIP: "10.0.0.1", HostIP: "10.0.0.254",
			PodIPs: []corev1.PodIP{{IP: "10.0.0.1"}, {IP: "fd00::1"}}},
	}
}

func TestEnvironment(t *testing.T) {
	field := func(path string) *corev1.EnvVarSource {
		return &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: path}}
	}
	from := func(name, key string, opt *bool) *corev1.EnvVarSource {
		return &corev1.EnvVarSource{ConfigMapKeyRef: &corev1.ConfigMapKeySelector{
			LocalObjectReference: corev1.LocalObjectReference{Name: name}, Key: key, Optional: opt}}
	}
	yes := true
	for _, c := range []struct {
		name, want, err string
		envFrom         []corev1.EnvFromSource
		env             []corev1.EnvVar
	}{
		{name: "values see those before them", env: []corev1.EnvVar{{Name: "A", Value: "1"}, {Name: "B", Value: "$(A)2"}, {Name: "C", Value: "$(D)"}, {Name: "D", Value: "x"}},
			want: "A=1 B=12 C=$(D) D=x"},
		{name: "downward", env: []corev1.EnvVar{
			{Name: "N", ValueFrom: field("metadata.name")}, {Name: "NS", ValueFrom: field("metadata.namespace")}, {Name: "U", ValueFrom: field("metadata.uid")},
			{Name: "L", ValueFrom: field("metadata.labels['app']")}, {Name: "SA", ValueFrom: field("spec.serviceAccountName")},
			{Name: "NODE", ValueFrom: field("spec.nodeName")}, {Name: "IPS", ValueFrom: field("status.podIPs")}, {Name: "H", ValueFrom: field("status.hostIP")}},
			want: "H=10.0.0.254 IPS=10.0.0.1,fd00::1 L=web N=web-1 NODE=lab NS=shop SA=web U=u"},
		{name: "unknown field", env: []corev1.EnvVar{{Name: "X", ValueFrom: field("spec.image")}}, err: "downward API"},
		{name: "from a config map", env: []corev1.EnvVar{{Name: "X", ValueFrom: from("settings", "colour", nil)}}, want: "X=red"},
		{name: "missing key", env: []corev1.EnvVar{{Name: "X", ValueFrom: from("settings", "shape", nil)}}, err: `no key "shape"`},
		{name: "missing map", env: []corev1.EnvVar{{Name: "X", ValueFrom: from("nothing", "shape", nil)}}, err: "does not exist"},
		{name: "optional", env: []corev1.EnvVar{{Name: "X", ValueFrom: from("nothing", "shape", &yes)}, {Name: "Y", ValueFrom: from("settings", "shape", &yes)}}},
		{name: "all of both", envFrom: []corev1.EnvFromSource{
			{ConfigMapRef: &corev1.ConfigMapEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: "settings"}}, Prefix: "S_"},
			{SecretRef: &corev1.SecretEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: "key"}}}},
			env: []corev1.EnvVar{{Name: "S_size", Value: "own"}}, want: "S_colour=red S_size=own key=s3cret"},
	} {
		t.Run(c.name, func(t *testing.T) {
			vars, err := environment(testView(), testPod(), corev1.Container{Env: c.env, EnvFrom: c.envFrom})
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err) {
					t.Fatalf("error %v, want %q", err, c.err)
				}
				return
			}
			if got := strings.Join(environ(vars), " "); err != nil || got != c.want {
				t.Errorf("%q %v, want %q", got, err, c.want)
			}
		})
	}
}

func TestProjection(t *testing.T) {
	mode := int32(0o400)
	vol := corev1.Volume{Name: "all", VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{
		{ConfigMap: &corev1.ConfigMapProjection{LocalObjectReference: corev1.LocalObjectReference{Name: "settings"},
			Items: []corev1.KeyToPath{{Key: "colour", Path: "a/colour", Mode: &mode}}}},
		{Secret: &corev1.SecretProjection{LocalObjectReference: corev1.LocalObjectReference{Name: "key"}}},
		{DownwardAPI: &corev1.DownwardAPIProjection{Items: []corev1.DownwardAPIVolumeFile{
			{Path: "notes", FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.annotations"}}}}},
	}}}}
	files, refresh, err := projection(testView(), testPod(), vol, nil)
	if err != nil || refresh != 0 || len(files) != 3 {
		t.Fatalf("%v %v %v", files, refresh, err)
	}
	if f := files["a/colour"]; string(f.data) != "red" || f.mode != 0o400 {
		t.Errorf("%+v", f)
	}
	if f := files["notes"]; string(f.data) != `note="say \"hi\""` || f.mode != 0o644 {
		t.Errorf("%+v", f)
	}
	vol.Projected.Sources[0].ConfigMap.Items[0].Path = "../out"
	if _, _, err := projection(testView(), testPod(), vol, nil); err == nil {
		t.Error("a path that leads out of the volume is taken")
	}
}

func TestVolumeIsReplacedInOneStep(t *testing.T) {
	vol := &volume{dir: t.TempDir()}
	if err := vol.write(map[string]file{"a": {[]byte("1"), 0o644}, "gone": {[]byte("x"), 0o644}, "d/b": {[]byte("2"), 0o400}}); err != nil {
		t.Fatal(err)
	}
	before, err := filepath.EvalSymlinks(filepath.Join(vol.dir, "..data"))
	if err != nil {
		t.Fatal(err)
	}
	if err := vol.write(map[string]file{"a": {[]byte("3"), 0o644}, "d/b": {[]byte("2"), 0o400}}); err != nil {
		t.Fatal(err)
	}
	if raw, err := os.ReadFile(filepath.Join(vol.dir, "a")); err != nil || string(raw) != "3" {
		t.Errorf("%q %v", raw, err)
	}
	if _, err := os.Lstat(filepath.Join(vol.dir, "gone")); !os.IsNotExist(err) {
		t.Errorf("a name that is gone: %v", err)
	}
	if _, err := os.Stat(before); !os.IsNotExist(err) {
		t.Errorf("the former version: %v", err)
	}
	if got, err := vol.sub("d/b"); err != nil || !strings.HasPrefix(got, vol.dir) {
		t.Errorf("%q %v", got, err)
	}
	if err := os.Symlink("/etc", filepath.Join(vol.dir, "etc")); err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{"etc/passwd", "../x", "/etc"} {
		if got, err := vol.sub(bad); err == nil {
			t.Errorf("subPath %s leads to %s", bad, got)
		}
	}
}

func TestRestarts(t *testing.T) {
	always, onFailure, never := corev1.RestartPolicyAlways, corev1.RestartPolicyOnFailure, corev1.RestartPolicyNever
	for _, c := range []struct {
		policy        corev1.RestartPolicy
		init, sidecar bool
		code          int
		want          bool
	}{
		{policy: always, code: 0, want: true},
		{policy: always, code: 1, want: true},
		{policy: onFailure, code: 0},
		{policy: onFailure, code: 1, want: true},
		{policy: never, code: 1},
		{policy: always, init: true, code: 0},
		{policy: always, init: true, code: 1, want: true},
		{policy: never, init: true, code: 1},
		{policy: never, init: true, sidecar: true, code: 0, want: true},
	} {
		if got := restarts(c.policy, c.init, c.sidecar, c.code); got != c.want {
			t.Errorf("%+v: %v", c, got)
		}
	}
}

func TestTally(t *testing.T) {
	probe := &corev1.Probe{SuccessThreshold: 2, FailureThreshold: 3}
	for _, c := range []struct {
		results string
		want    verdict
	}{
		{"+", undecided}, {"++", passing}, {"+-+", undecided}, {"--", undecided}, {"---", failing}, {"--+--", undecided}, {"---++", passing},
	} {
		tl := newTally(probe)
		var got verdict
		for _, r := range c.results {
			got = tl.add(r == '+')
		}
		if got != c.want {
			t.Errorf("%s: %v", c.results, got)
		}
	}
}

func TestCapabilities(t *testing.T) {
	yes := true
	defaults := []string{"CHOWN", "NET_BIND_SERVICE"}
	for _, c := range []struct {
		name string
		sc   *corev1.SecurityContext
		want []string
	}{
		{"default", nil, defaults},
		{"none", &corev1.SecurityContext{Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}}}, nil},
		{"one only", &corev1.SecurityContext{Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"all"}, Add: []corev1.Capability{"CAP_NET_ADMIN"}}}, []string{"NET_ADMIN"}},
		{"one less", &corev1.SecurityContext{Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"CHOWN"}}}, defaults[1:]},
		{"privileged", &corev1.SecurityContext{Privileged: &yes}, allCapabilities()},
	} {
		if got := capabilities(c.sc, defaults); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}

func TestIdentityOf(t *testing.T) {
	n := func(i int64) *int64 { return &i }
	yes := true
	p := &corev1.Pod{Spec: corev1.PodSpec{SecurityContext: &corev1.PodSecurityContext{RunAsUser: n(1), RunAsGroup: n(2), FSGroup: n(3), RunAsNonRoot: &yes}}}
	uid, gid, groups, err := identityOf(p, corev1.Container{SecurityContext: &corev1.SecurityContext{RunAsUser: n(70)}})
	if uid != 70 || gid != 2 || !slices.Equal(groups, []uint32{3}) || err != nil {
		t.Errorf("%d %d %v %v", uid, gid, groups, err)
	}
	if _, _, _, err := identityOf(p, corev1.Container{SecurityContext: &corev1.SecurityContext{RunAsUser: n(0)}}); err == nil {
		t.Error("root where it is forbidden")
	}
}

func TestPhase(t *testing.T) {
	running := corev1.ContainerStatus{State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}}
	done := corev1.ContainerStatus{State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{}}}
	waiting := corev1.ContainerStatus{State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{}}}
	for _, c := range []struct {
		facts facts
		want  corev1.PodPhase
	}{
		{facts{mains: []corev1.ContainerStatus{waiting}}, corev1.PodPending},
		{facts{mains: []corev1.ContainerStatus{waiting, running}}, corev1.PodRunning},
		{facts{mains: []corev1.ContainerStatus{done}}, corev1.PodRunning}, // its sidecars have yet to end
		{facts{mains: []corev1.ContainerStatus{done}, over: true}, corev1.PodSucceeded},
		{facts{mains: []corev1.ContainerStatus{done}, over: true, failed: "x"}, corev1.PodFailed},
	} {
		if got := phase(c.facts); got != c.want {
			t.Errorf("%+v: %s", c.facts, got)
		}
	}
}

// A view may be older than the end of a pod in it.
func TestSyncStartsNoPodThatHasEnded(t *testing.T) {
	k := New(Config{Store: store.New(store.Options{})})
	now := metav1.Now()
	old := &corev1.Pod{
		TypeMeta:   metav1.TypeMeta{Kind: "Pod"},
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web", UID: "1", DeletionTimestamp: &now},
		Status:     corev1.PodStatus{PodIP: "10.244.0.10"},
	}
	k.Sync(store.View{store.KeyOf(old): old})
	if len(k.pods) != 0 {
		t.Error("it is started again")
	}
	k.Close(t.Context())
}
