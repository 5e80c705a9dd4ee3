package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/go-logr/logr"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"sigs.k8s.io/controller-runtime/pkg/client"
	ctrllog "sigs.k8s.io/controller-runtime/pkg/log"

	meshv1a1 "github.com/meshd-io/meshd/api/v1alpha1"
	"github.com/meshd-io/meshd/internal/clock"
	"github.com/meshd-io/meshd/internal/kubetest"
)

const (
	systemNamespace = "meshd-system"
	// renderedChart is what helm makes of the chart; a test keeps it so.
	renderedChart = "test/chart/testdata/default.yaml"
)

// meshCluster is an API server of its own. No kubelet runs the pods, and no
// controller fills in the slices: the bench writes both.
type meshCluster struct {
	mesh     mesh
	cluster  *kubetest.Cluster
	api      client.WithWatch
	versions sync.Map // of what has been written, by kind and name
	told     *tidings
	stop     context.CancelFunc
}

func newCluster(ctx context.Context, folder string, m mesh) (*meshCluster, error) {
	ctrllog.SetLogger(logr.Discard()) // it would complain that nobody has said where to
	cluster, err := kubetest.Open(folder, kubetest.Options{})
	if err != nil {
		return nil, err
	}
	c := &meshCluster{mesh: m, cluster: cluster, told: newTidings(), stop: func() {}}
	config := rest.CopyConfig(cluster.Config)
	config.QPS = -1
	if c.api, err = client.NewWithWatch(config, client.Options{Scheme: kubetest.Scheme()}); err == nil {
		err = c.prepare(ctx)
	}
	if err != nil {
		return nil, errors.Join(err, c.close())
	}
	return c, nil
}

// prepare installs what the chart brings, and what is there before the mesh.
func (c *meshCluster) prepare(ctx context.Context) error {
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: nodeName}, Spec: corev1.NodeSpec{PodCIDR: "10.244.0.0/16", PodCIDRs: []string{"10.244.0.0/16"}}}
	objects := []client.Object{node}
	for _, name := range []string{systemNamespace, namespace} {
		objects = append(objects, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}})
	}
	chart, err := chartObjects()
	if err != nil {
		return err
	}
	objects = append(objects, chart...)
	for i := range c.mesh.workloads {
		objects = append(objects, &corev1.ServiceAccount{ObjectMeta: named(account(i))})
	}
	if err := c.put(ctx, "", objects...); err != nil {
		return err
	}
	node.Status.NodeInfo.KubeletVersion = "v1.37.2"
	if err := c.api.Status().Update(ctx, node); err != nil {
		return err
	}
	ctx, c.stop = context.WithCancel(ctx)
	go c.watch(ctx)
	return nil
}

// chartObjects are the chart's, but for its hooks.
func chartObjects() ([]client.Object, error) {
	file, err := os.Open(renderedChart)
	if err != nil {
		return nil, fmt.Errorf("the chart (bench runs in the project's folder): %w", err)
	}
	defer file.Close()
	var out []client.Object
	for d := yaml.NewYAMLOrJSONDecoder(file, 4096); ; {
		o := &unstructured.Unstructured{}
		err := d.Decode(&o.Object)
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", renderedChart, err)
		}
		if _, hook := o.GetAnnotations()["helm.sh/hook"]; !hook && len(o.Object) > 0 {
			out = append(out, o)
		}
	}
}

func (c *meshCluster) put(ctx context.Context, _ string, objects ...client.Object) error {
	for _, o := range objects {
		if err := c.write(ctx, o); err != nil {
			return fmt.Errorf("%T %s: %w", o, client.ObjectKeyFromObject(o), err)
		}
	}
	return nil
}

// write creates what it has not written before, a pod with its status, and updates the rest.
func (c *meshCluster) write(ctx context.Context, o client.Object) error {
	o.SetUID("") // the API server's to give
	key := fmt.Sprintf("%T %s %s", o, o.GetObjectKind().GroupVersionKind().Kind, client.ObjectKeyFromObject(o))
	if err := c.createOrUpdate(ctx, key, o); err != nil {
		return err
	}
	c.versions.Store(key, o.GetResourceVersion())
	return nil
}

func (c *meshCluster) createOrUpdate(ctx context.Context, key string, o client.Object) error {
	if version, known := c.versions.Load(key); known {
		o.SetResourceVersion(version.(string))
		err := c.api.Update(ctx, o)
		for apierrors.IsConflict(err) { // meshd has written a status
			current := o.DeepCopyObject().(client.Object)
			if err := c.api.Get(ctx, client.ObjectKeyFromObject(o), current); err != nil {
				return err
			}
			o.SetResourceVersion(current.GetResourceVersion())
			err = c.api.Update(ctx, o)
		}
		return err
	}
	pod, isPod := o.(*corev1.Pod)
	var status corev1.PodStatus
	if isPod {
		status = *pod.Status.DeepCopy()
	}
	if err := c.api.Create(ctx, o); err != nil || !isPod {
		return err
	}
	pod.Status = status
	return c.api.Status().Update(ctx, pod)
}

// watch stamps what the API server tells, as meshd's own watch is told it.
func (c *meshCluster) watch(ctx context.Context) {
	for ctx.Err() == nil {
		w, err := c.api.Watch(ctx, &discoveryv1.EndpointSliceList{}, client.InNamespace(namespace))
		if err != nil {
			c.told.fail(err)
			return
		}
		for e := range w.ResultChan() {
			at := now()
			if s, ok := e.Object.(*discoveryv1.EndpointSlice); ok {
				c.told.note(s, at)
			}
		}
	}
	c.told.fail(ctx.Err())
}

// serve runs meshd with the rights of the chart's account.
func (c *meshCluster) serve(ctx context.Context, bin, dir string) (*daemon, error) {
	own := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: systemNamespace, Name: "meshd"}}
	token, err := c.tokenOf(ctx, own, authenticationv1.TokenRequestSpec{})
	if err != nil {
		return nil, err
	}
	config := clientcmdapi.NewConfig()
	config.Clusters["bench"] = &clientcmdapi.Cluster{Server: c.cluster.Config.Host, CertificateAuthorityData: c.cluster.Config.CAData}
	config.AuthInfos["bench"] = &clientcmdapi.AuthInfo{Token: token}
	config.Contexts["bench"] = &clientcmdapi.Context{Cluster: "bench", AuthInfo: "bench"}
	config.CurrentContext = "bench"
	kubeconfig := filepath.Join(dir, "kubeconfig")
	if err := clientcmd.WriteToFile(*config, kubeconfig); err != nil {
		return nil, err
	}
	args := []string{"--kubeconfig", kubeconfig, "--namespace", systemNamespace, "--agent-image", "agent", "--proxy-image", "envoy"}
	for _, flag := range []string{"--webhook-address", "--debug-address"} {
		address, err := freeAddress(ctx)
		if err != nil {
			return nil, err
		}
		args = append(args, flag, address)
	}
	d, err := startDaemon(ctx, bin, dir, args...)
	if err != nil {
		return nil, err
	}
	var root corev1.Secret
	if err := c.api.Get(ctx, client.ObjectKey{Namespace: systemNamespace, Name: "meshd-root"}, &root); err != nil {
		return d, err
	}
	anchor := filepath.Join(dir, "root.crt")
	return d, errors.Join(os.WriteFile(anchor, root.Data[corev1.TLSCertKey], 0o600), d.trust(anchor))
}

// token is what a kubelet would ask for.
func (c *meshCluster) token(ctx context.Context, number int) (string, error) {
	var pod corev1.Pod
	if err := c.api.Get(ctx, client.ObjectKey{Namespace: namespace, Name: clientName(number)}, &pod); err != nil {
		return "", err
	}
	own := &corev1.ServiceAccount{ObjectMeta: named(pod.Spec.ServiceAccountName)}
	return c.tokenOf(ctx, own, authenticationv1.TokenRequestSpec{
		Audiences:      []string{"meshd"},
		BoundObjectRef: &authenticationv1.BoundObjectReference{APIVersion: "v1", Kind: "Pod", Name: pod.Name, UID: pod.UID},
	})
}

func (c *meshCluster) tokenOf(ctx context.Context, account *corev1.ServiceAccount, spec authenticationv1.TokenRequestSpec) (string, error) {
	day := int64(24 * 60 * 60) // longer than any run
	spec.ExpirationSeconds = &day
	request := &authenticationv1.TokenRequest{Spec: spec}
	err := c.api.SubResource("token").Create(ctx, account, request)
	return request.Status.Token, err
}

func (c *meshCluster) tidings() *tidings { return c.told }

// lull is longer than meshd's writer of statuses pauses while it has something to write.
const lull = 3 * time.Second

func (c *meshCluster) quiet(ctx context.Context) error {
	policies := &metav1.PartialObjectMetadataList{}
	policies.SetGroupVersionKind(meshv1a1.GroupVersion.WithKind("TrafficPolicyList"))
	for before := []string(nil); ; {
		if err := c.api.List(ctx, policies, client.InNamespace(namespace)); err != nil {
			return err
		}
		var versions []string
		for _, p := range policies.Items {
			versions = append(versions, p.ResourceVersion)
		}
		if slices.Equal(versions, before) {
			return nil
		}
		before = versions
		if !clock.Pause(ctx, lull) {
			return ctx.Err()
		}
	}
}

func (c *meshCluster) close() error {
	c.stop()
	return c.cluster.Close()
}
