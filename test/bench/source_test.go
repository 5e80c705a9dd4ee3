package main

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Both sources have what is written to them, and tell of changes.
func TestSources(t *testing.T) {
	m := mesh{services: 30, clients: 3, workloads: 2}
	for name, check := range map[string]func(*testing.T, source, *world){"files": checkFiles, "cluster": checkCluster} {
		t.Run(name, func(t *testing.T) {
			if name == "cluster" && os.Getenv("MESHD_KUBE") == "" {
				t.Skip("NOT TESTED: MESHD_KUBE is not set")
			}
			dir := filepath.Join(t.TempDir(), "mesh")
			t.Chdir("../..")
			from, err := openSource(t.Context(), name, dir, m)
			if err != nil {
				t.Fatal(err)
			}
			defer func() {
				if err := from.close(); err != nil {
					t.Error(err)
				}
			}()
			w, err := newWorld(t.Context(), from, m)
			if err != nil {
				t.Fatal(err)
			}
			if token, err := from.token(t.Context(), 1); err != nil || strings.Count(token, ".") != 2 {
				t.Errorf("token %q, %v", token, err)
			}
			for i, service := range []int{7, 7, 0} {
				before := now()
				if err := w.mark(t.Context(), service, i+1); err != nil {
					t.Fatal(err)
				}
				if at, err := w.tidings().of(i + 1); err != nil || at < before {
					t.Errorf("told at %d of what was written at %d: %v", at, before, err)
				}
			}
			if _, err := w.annotate(t.Context(), 1); err != nil {
				t.Error(err)
			}
			if err := w.scope(t.Context(), true); err != nil {
				t.Error(err)
			}
			check(t, from, w)
			if err := w.restore(t.Context()); err != nil {
				t.Fatal(err)
			}
			if got := w.state()[7]; got != strings.Join(both(7), " ") {
				t.Errorf("restored to %s", got)
			}
		})
	}
}

func checkFiles(t *testing.T, from source, _ *world) {
	dir := from.(*meshFiles).dir
	for file, want := range map[string]string{
		"app-0000": "example.com/n: \"1\"", "app-0007-slice": markerAddress(2), "clients": "serviceAccountName: clients-1", "meshconfig": "scope: All",
	} {
		raw, err := os.ReadFile(filepath.Join(dir, file+".yaml"))
		if err != nil || !strings.Contains(string(raw), want) {
			t.Errorf("%v: %s has no %q:\n%s", err, file, want, raw)
		}
	}
}

func checkCluster(t *testing.T, from source, w *world) {
	api := from.(*meshCluster).api
	var slices discoveryv1.EndpointSliceList
	var pods corev1.PodList
	if err := api.List(t.Context(), &slices, client.InNamespace(namespace)); err != nil || len(slices.Items) != w.services {
		t.Errorf("%d slices: %v", len(slices.Items), err)
	}
	if err := api.List(t.Context(), &pods, client.InNamespace(namespace)); err != nil || len(pods.Items) != 2*w.services+w.clients {
		t.Errorf("%d pods: %v", len(pods.Items), err)
	}
	for _, p := range pods.Items {
		if p.Status.Phase != corev1.PodRunning || p.Status.PodIP == "" {
			t.Errorf("%s: %+v", p.Name, p.Status)
		}
	}
	if a := slices.Items[7].Endpoints[1].Addresses; a[0] != markerAddress(2) {
		t.Errorf("the last change is not there: %v", a)
	}
}

// TestAddressIsNoClients: a client that dials while nobody listens cannot be given the port.
func TestAddressIsNoClients(t *testing.T) {
	first, err := firstOfClients()
	if err != nil {
		t.Fatal(err)
	}
	for range 20 {
		text, err := freeAddress(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if a := netip.MustParseAddrPort(text); int(a.Port()) >= first {
			t.Errorf("%s is one that the kernel gives to connections, from %d on", text, first)
		}
	}
}
