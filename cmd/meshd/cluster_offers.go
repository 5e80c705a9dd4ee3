package main

import (
	"context"
	"fmt"

	certificatesv1 "k8s.io/api/certificates/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/discovery"
)

// offered is what a cluster has that not every cluster has.
type offered struct {
	podCertificates, trustBundles bool
}

// offers asks the API server. What appears later is seen by the next meshd.
func offers(_ context.Context, client discovery.DiscoveryInterface) (offered, error) {
	var out offered
	list, err := client.ServerResourcesForGroupVersion(certificatesv1.SchemeGroupVersion.String())
	if err != nil {
		if apierrors.IsNotFound(err) {
			return out, nil
		}
		return out, fmt.Errorf("discovery: %w", err)
	}
	for _, r := range list.APIResources {
		switch r.Name {
		case "podcertificaterequests":
			out.podCertificates = true
		case "clustertrustbundles":
			out.trustBundles = true
		}
	}
	return out, nil
}
