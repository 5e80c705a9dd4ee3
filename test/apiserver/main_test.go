// Package apiserver holds a real API server (etcd and kube-apiserver, no
// kubelet) to what meshd relies on: its rules, its columns, its statuses.
package apiserver

import (
	"os"
	"testing"

	"github.com/meshd-io/meshd/internal/kubetest"
)

var cluster kubetest.Shared

func TestMain(m *testing.M) {
	code := m.Run()
	cluster.Stop()
	os.Exit(code)
}
