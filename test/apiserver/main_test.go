// Package apiserver holds a real API server (etcd and kube-apiserver, no
// kubelet) to what meshd relies on: its rules, its columns, its statuses.
package apiserver

import (
	"os"
	"testing"

	"github.com/go-logr/logr"
	ctrllog "sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/meshd-io/meshd/internal/kubetest"
)

var cluster kubetest.Shared

func TestMain(m *testing.M) {
	ctrllog.SetLogger(logr.Discard())
	code := m.Run()
	cluster.Stop()
	os.Exit(code)
}
