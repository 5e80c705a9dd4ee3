package main

import (
	"context"
	"errors"
	"log/slog"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
)

// A leader whose work fails does not stay leader: stand returns the failure, and the Lease is free.
func TestLeaderWhoseWorkFails(t *testing.T) {
	c := kube.Get(t)
	client, err := kubernetes.NewForConfig(c.Config)
	if err != nil {
		t.Fatal(err)
	}
	lock := &resourcelock.LeaseLock{
		LeaseMeta: metav1.ObjectMeta{Namespace: corev1.NamespaceDefault, Name: "failing"},
		Client:    client.CoordinationV1(), LockConfig: resourcelock.ResourceLockConfig{Identity: "a"},
	}
	log := slog.New(slog.DiscardHandler)
	broken := errors.New("broken")
	if err := stand(t.Context(), lock, log, func(context.Context) error { return broken }); !errors.Is(err, broken) {
		t.Fatalf("stand: %v", err)
	}
	lease, err := client.CoordinationV1().Leases(corev1.NamespaceDefault).Get(t.Context(), "failing", metav1.GetOptions{})
	if err != nil || lease.Spec.HolderIdentity == nil || *lease.Spec.HolderIdentity != "" {
		t.Errorf("the Lease is not free: %+v, %v", lease.Spec, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	err = stand(ctx, lock, log, func(ctx context.Context) error {
		cancel()
		<-ctx.Done()
		return nil
	})
	if err != nil {
		t.Errorf("told to end: %v", err)
	}
}

// Work that the elector begins too late is not done, and nobody waits for it.
func TestTermThatIsOver(t *testing.T) {
	var late term
	if err := late.end(); err != nil {
		t.Error(err)
	}
	late.begin(func() error { t.Error("it worked when the term was over"); return nil })
}
