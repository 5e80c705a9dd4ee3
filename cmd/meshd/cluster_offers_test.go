package main

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/discovery/fake"
	kubernetesfake "k8s.io/client-go/kubernetes/fake"
)

// One old kubelet, and pods are made for it too. Real clusters of two versions
// cannot be made here, so that this one is a fake.
func TestOffersWhatEveryKubeletProjects(t *testing.T) {
	for _, tc := range []struct {
		kubelets []string
		want     bool
	}{
		{[]string{"v1.37.2", "v1.38.0-rc.1"}, true},
		{[]string{"v1.37.2", "v1.36.9"}, false},
		{[]string{"v1.37.2", ""}, false},
		{nil, true},
	} {
		client := kubernetesfake.NewClientset()
		client.Discovery().(*fake.FakeDiscovery).Resources = []*metav1.APIResourceList{{
			GroupVersion: "certificates.k8s.io/v1",
			APIResources: []metav1.APIResource{{Name: "podcertificaterequests"}, {Name: "clustertrustbundles"}},
		}}
		for _, v := range tc.kubelets {
			node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n" + v}}
			node.Status.NodeInfo.KubeletVersion = v
			if _, err := client.CoreV1().Nodes().Create(t.Context(), node, metav1.CreateOptions{}); err != nil {
				t.Fatal(err)
			}
		}
		got, err := offers(t.Context(), client)
		if want := (offered{tc.want, tc.want}); err != nil || got != want {
			t.Errorf("kubelets %q: %+v, %v", tc.kubelets, got, err)
		}
	}
}
