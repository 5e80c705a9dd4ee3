package main

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/meshd-io/meshd/internal/version"
	"github.com/meshd-io/meshd/pkg/check"
)

// A meshd that serves from files is asked on its socket.
func TestCheckOfAMeshdFromFiles(t *testing.T) {
	config, state := t.TempDir(), t.TempDir()
	write(t, filepath.Join(config, "mesh.yaml"), "apiVersion: meshd.io/v1alpha1\nkind: MeshConfig\nmetadata: {name: default}\n")
	s := startServe(t, config, state)
	out, err := runCheck(t, "--admin-socket", s.flags.adminSocket)
	if err != nil || !out.Healthy {
		t.Errorf("%v: %+v", err, out)
	}
	if got := out.of("versions").Message; got != "meshd and this command are "+version.Version {
		t.Error(got)
	}
	if got := out.of("authority").Message; !strings.HasPrefix(got, "1 roots, 1 issuers") {
		t.Error(got)
	}

	write(t, filepath.Join(config, "bad.yaml"), "apiVersion: meshd.io/v1alpha1\nkind: PeerAuthentication\nmetadata: {name: x, namespace: shop}\nspec: {mode: strict}\n")
	if _, err := s.client.State(t.Context(), 5*time.Second); err != nil { // reads the files anew
		t.Fatal(err)
	}
	out, err = runCheck(t, "--admin-socket", s.flags.adminSocket)
	if err == nil || out.Healthy || out.of("objects").Level == check.OK || !strings.Contains(out.of("objects").Message, "PeerAuthentication shop/x") {
		t.Errorf("%v: %+v", err, out)
	}
	s.stop()
	if _, err := runCheck(t, "--admin-socket", s.flags.adminSocket); err == nil || !strings.Contains(err.Error(), "does not answer") {
		t.Errorf("nobody answers: %v", err)
	}
}

func TestCheckRefuses(t *testing.T) {
	if _, _, err := meshd(t, "check", "-o", "xml"); err == nil || !strings.Contains(err.Error(), "there is json") {
		t.Error(err)
	}
}
