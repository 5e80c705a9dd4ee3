package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"google.golang.org/grpc"

	"github.com/meshd-io/meshd/pkg/authn"
	"github.com/meshd-io/meshd/pkg/ca"
	"github.com/meshd-io/meshd/pkg/ca/attest"
	"github.com/meshd-io/meshd/pkg/ca/store"
	"github.com/meshd-io/meshd/pkg/crds"
	"github.com/meshd-io/meshd/pkg/identity"
	"github.com/meshd-io/meshd/pkg/report"
)

// fileSource is the source of `meshd serve --config`.
type fileSource struct{ *crds.FileSource }

// Load implements source.
func (s fileSource) Load(context.Context) (*crds.Snapshot, []report.Finding, error) {
	return s.FileSource.Load()
}

// files is the home of a meshd without a cluster: its root lies in a folder,
// and tokens are of a configured issuer.
type files struct{}

// Open implements home. Without an issuer nobody is given a certificate.
func (files) Open(_ context.Context, d *daemon, trustDomain string) (ca.Store, authn.Attestor, error) {
	root := store.File{Dir: d.flags.stateDir}
	if d.flags.tokenIssuer == "" {
		return root, nil, nil
	}
	verifier, err := attest.New(attest.Config{
		TrustDomain: trustDomain, Issuer: d.flags.tokenIssuer, Keys: attest.NewFile(d.flags.tokenJWKS, d.log), Pods: podsOf{d},
	})
	return root, verifier, err
}

// Parts implements home.
func (files) Parts(_ context.Context, d *daemon) ([]part, error) {
	// What workloads trust meshd by: not secret, and needed by whoever distributes it.
	anchor := filepath.Join(d.flags.stateDir, "root.crt")
	if err := os.WriteFile(anchor, []byte(d.authority.Bundle()), 0o644); err != nil { // certificates are public
		return nil, fmt.Errorf("trust anchor: %w", err)
	}
	return nil, nil
}

// Services implements home.
func (files) Services(*daemon, identity.ID) []func(grpc.ServiceRegistrar) { return nil }

// Findings implements home.
func (files) Findings(*daemon, *crds.Snapshot) []report.Finding { return nil }

// podsOf asks the pipeline, which is made after the attestor.
type podsOf struct{ *daemon }

// PodKnown implements attest.Pods.
func (p podsOf) PodKnown(namespace, name, uid string) (known, ok bool) {
	return p.pipeline.PodKnown(namespace, name, uid)
}
