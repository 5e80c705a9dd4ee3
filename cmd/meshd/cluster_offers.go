package main

import (
	"context"
	"fmt"

	certificatesv1 "k8s.io/api/certificates/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/version"
	"k8s.io/client-go/kubernetes"
)

// offered is what a cluster has that not every cluster has: certificates.k8s.io/v1.
type offered struct {
	podCertificates, trustBundles bool
}

// projecting is the first kubelet that projects both; on a node with an older
// one a pod that needs them would never start.
const projecting = "1.37.0"

// offers asks the API server, and its nodes' kubelets. What appears later is
// seen by the next meshd.
func offers(ctx context.Context, client kubernetes.Interface) (offered, error) {
	var out offered
	list, err := client.Discovery().ServerResourcesForGroupVersion(certificatesv1.SchemeGroupVersion.String())
	if err != nil {
		if apierrors.IsNotFound(err) {
			return out, nil
		}
		return out, fmt.Errorf("discovery: %w", err)
	}
	nodes, err := client.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return out, fmt.Errorf("kubelet versions: %w", err)
	}
	for _, n := range nodes.Items {
		v, err := version.ParseGeneric(n.Status.NodeInfo.KubeletVersion)
		if err != nil || v.LessThan(version.MustParseGeneric(projecting)) {
			return out, nil //nolint:nilerr // a kubelet of no known version counts as an old one
		}
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
