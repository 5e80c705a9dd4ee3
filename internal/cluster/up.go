package cluster

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
)

// startTimeout bounds bringing up; a warm start on two cores takes some 15 s.
const startTimeout = 5 * time.Minute

// bringUp starts the parts, each as soon as it can work, until the node is ready and answers for names.
func (s *supervisor) bringUp(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	o := s.options
	etcd, err := s.start(o.etcd())
	if err != nil {
		return err
	}
	containerd, err := s.start(o.containerd())
	if err != nil {
		return err
	}
	if err := s.until(ctx, etcd, "etcd", healthy(http.DefaultClient, "http://127.0.0.1:2379/health")); err != nil {
		return err
	}
	api, err := s.start(o.apiServer())
	if err != nil {
		return err
	}
	images := make(chan error, 1)
	go func() { images <- s.importAll(ctx, containerd) }()

	client, err := o.client()
	if err != nil {
		return err
	}
	err = s.until(ctx, api, "kube-apiserver", func(ctx context.Context) error {
		return client.Discovery().RESTClient().Get().AbsPath("/readyz").Do(ctx).Error()
	})
	if err != nil {
		return err
	}
	for _, p := range []part{o.controllerManager(), o.scheduler(), o.proxy()} {
		if _, err := s.start(p); err != nil {
			return err
		}
	}
	if err := <-images; err != nil {
		return err
	}
	kubelet, err := s.start(o.kubelet())
	if err != nil {
		return err
	}
	if err := installDNS(ctx, client); err != nil {
		return fmt.Errorf("install CoreDNS: %w", err)
	}
	if err := s.until(ctx, kubelet, "node", nodeReady(client)); err != nil {
		return err
	}
	if err := s.until(ctx, kubelet, "CoreDNS", dnsReady(client)); err != nil {
		return err
	}
	go s.assignLoadBalancers(context.WithoutCancel(ctx), client)
	return nil
}

func (s *supervisor) importAll(ctx context.Context, containerd *running) error {
	err := s.until(ctx, containerd, "containerd", func(ctx context.Context) error {
		conn, err := (&net.Dialer{}).DialContext(ctx, "unix", s.options.path("containerd.sock"))
		if err == nil {
			conn.Close()
		}
		return err
	})
	if err != nil {
		return err
	}
	for _, archive := range s.options.Images {
		if err := s.importImage(ctx, archive); err != nil {
			return err
		}
	}
	return nil
}

func (o Options) client() (*kubernetes.Clientset, error) {
	cfg, err := clientcmd.BuildConfigFromFlags("", o.Kubeconfig())
	if err != nil {
		return nil, err
	}
	return kubernetes.NewForConfig(cfg)
}

func healthy(client *http.Client, url string) func(context.Context) error {
	return func(ctx context.Context) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return err
		}
		resp, err := client.Do(req)
		if err != nil {
			return err
		}
		defer func() { _ = resp.Body.Close() }()
		if resp.StatusCode != http.StatusOK {
			return errors.New(resp.Status)
		}
		return nil
	}
}

func nodeReady(client kubernetes.Interface) func(context.Context) error {
	return func(ctx context.Context) error {
		n, err := client.CoreV1().Nodes().Get(ctx, nodeName, metav1.GetOptions{})
		if err != nil {
			return err
		}
		if n.Spec.PodCIDR != nodePods.String() {
			return fmt.Errorf("the node's pods have %q, want %s", n.Spec.PodCIDR, nodePods)
		}
		for _, c := range n.Status.Conditions {
			if c.Type == corev1.NodeReady {
				if c.Status == corev1.ConditionTrue {
					return nil
				}
				return errors.New(c.Message)
			}
		}
		return errors.New("it has no condition Ready")
	}
}
