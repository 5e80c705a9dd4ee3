package main

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/portforward"
	"k8s.io/streaming/pkg/httpstream"
	"k8s.io/streaming/pkg/httpstream/spdy"

	"github.com/meshd-io/meshd/internal/kubetest"
	"github.com/meshd-io/meshd/pkg/console"
)

// kubelet is as much of one as port-forward needs: it leads streams for a pod's
// port 15016 to that pod's handler.
type kubelet struct {
	node string
	mu   sync.Mutex
	pods map[string]http.Handler // by name
}

// startKubelet adds a node whose kubelet is this process.
func startKubelet(t *testing.T, c *kubetest.Cluster) *kubelet {
	t.Helper()
	k := &kubelet{node: "node-" + c.Namespace(t, nil), pods: map[string]http.Handler{}}
	server := httptest.NewTLSServer(k)
	t.Cleanup(server.Close)
	address, ok := server.Listener.Addr().(*net.TCPAddr)
	if !ok {
		t.Fatal("no TCP")
	}
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: k.node}}
	create(t, c.Client(t), node)
	node.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: address.IP.String()}}
	node.Status.DaemonEndpoints.KubeletEndpoint.Port = int32(address.Port)
	if err := c.Client(t).Status().Update(t.Context(), node); err != nil {
		t.Fatal(err)
	}
	return k
}

// ServeHTTP takes POST /portForward/NAMESPACE/POD.
func (k *kubelet) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	parts := strings.Split(strings.TrimPrefix(r.URL.Path, "/"), "/")
	if len(parts) != 3 || parts[0] != "portForward" {
		http.NotFound(w, r)
		return
	}
	if _, err := httpstream.Handshake(r, w, []string{portforward.PortForwardProtocolV1Name}); err != nil {
		return
	}
	streams := make(chan httpstream.Stream, 2)
	conn := spdy.NewResponseUpgrader().UpgradeResponse(w, r, func(s httpstream.Stream, _ <-chan struct{}) error {
		streams <- s
		return nil
	})
	if conn == nil {
		return
	}
	defer conn.Close()
	var failed, data httpstream.Stream
	for failed == nil || data == nil {
		select {
		case s := <-streams:
			if s.Headers().Get(corev1.StreamType) == corev1.StreamTypeError {
				failed = s
			} else {
				data = s
			}
		case <-conn.CloseChan():
			return
		}
	}
	k.mu.Lock()
	handler := k.pods[parts[2]]
	k.mu.Unlock()
	if handler == nil || data.Headers().Get(corev1.PortHeader) != "15016" {
		_, _ = io.WriteString(failed, "nobody listens on port "+data.Headers().Get(corev1.PortHeader))
		failed.Close()
		data.Close()
		<-conn.CloseChan()
		return
	}
	k.serve(handler, data)
	failed.Close()
	<-conn.CloseChan()
}

// serve answers one connection.
func (k *kubelet) serve(handler http.Handler, data httpstream.Stream) {
	near, far := net.Pipe()
	l := &oneListener{conn: far, closed: make(chan struct{})}
	server := &http.Server{Handler: handler}
	var done sync.WaitGroup
	done.Go(func() { _ = server.Serve(l) })
	done.Go(func() { _, _ = io.Copy(near, data) })
	_, _ = io.Copy(data, near) // until the server has closed it
	data.Close()
	near.Close()
	server.Close()
	done.Wait()
}

type oneListener struct {
	conn   net.Conn
	closed chan struct{}
	once   sync.Once
}

func (l *oneListener) Accept() (net.Conn, error) {
	if c := l.conn; c != nil {
		l.conn = nil
		return c, nil
	}
	<-l.closed
	return nil, net.ErrClosed
}
func (l *oneListener) Close() error   { l.once.Do(func() { close(l.closed) }); return nil }
func (l *oneListener) Addr() net.Addr { return streamAddress{} }

// meshdPod makes a running pod of meshd that tells this state.
func (k *kubelet) meshdPod(t *testing.T, c *kubetest.Cluster, namespace, name string, state console.State) {
	t.Helper()
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, Labels: map[string]string{
			"app.kubernetes.io/name": "meshd", "app.kubernetes.io/component": "control-plane",
		}},
		Spec: corev1.PodSpec{NodeName: k.node, Containers: []corev1.Container{{Name: "meshd", Image: "meshd"}}},
	}
	create(t, c.Client(t), pod)
	pod.Status.Phase = corev1.PodRunning
	if err := c.Client(t).Status().Update(t.Context(), pod); err != nil {
		t.Fatal(err)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.pods[name] = console.Handler(fixedState{state})
}
