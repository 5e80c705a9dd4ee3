package kubelet

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/meshd-io/meshd/pkg/lab/network"
	"github.com/meshd-io/meshd/pkg/lab/sandbox"
	"github.com/meshd-io/meshd/pkg/lab/store"
)

// Config of a kubelet.
type Config struct {
	Sandbox *sandbox.Sandbox
	Network *network.Network
	Store   *store.Store
	Tokens  TokenSource
	// Dir is for volumes, LogDir for what containers write: NAMESPACE_POD_UID/CONTAINER.log.
	Dir, LogDir string
	// Path is the PATH of containers that set none.
	Path string
	// Programs are folders that every container has, first on Path: also for
	// users that may not enter the folders above them, such as someone's home.
	Programs []string
	// NodeName and NodeAddresses are the node's.
	NodeName      string
	NodeAddresses []netip.Addr
	// ResolvConf is a pod's /etc/resolv.conf.
	ResolvConf func(namespace string) string
	// Trusted pods may write to their hostPath volumes. Those of others are read-only.
	Trusted func(*corev1.Pod) bool
	// Drain is called when a pod is to end, before its first container is
	// told: it returns when no one sends to the pod any more, or when ctx is done.
	Drain func(ctx context.Context, p *corev1.Pod)
	Log   *slog.Logger
}

// drainTime bounds Config.Drain.
const drainTime = 2 * time.Second

// Kubelet runs pods.
type Kubelet struct {
	cfg Config

	mu     sync.Mutex
	pods   map[types.UID]*pod
	closed bool
	wg     sync.WaitGroup

	// patience is done when no container is waited for any more.
	patience context.Context
	hurry    context.CancelFunc
}

// New gives a kubelet that runs nothing yet.
func New(cfg Config) *Kubelet {
	k := &Kubelet{cfg: cfg, pods: map[types.UID]*pod{}}
	k.patience, k.hurry = context.WithCancel(context.Background())
	return k
}

// Sync starts the pods that are new in the view, ends those that are marked,
// and brings changed objects into the volumes of the others. It does not wait.
func (k *Kubelet) Sync(v store.View) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.closed {
		return
	}
	for _, o := range store.List[*corev1.Pod](v) {
		p := k.pods[o.UID]
		switch {
		case p == nil && o.DeletionTimestamp != nil && o.Status.PodIP == "":
			// It never came to be.
			k.cfg.Store.RemovePod(o.Namespace, o.Name, o.UID)
		case p == nil:
			if k.present(o) {
				k.start(o)
			}
		case o.DeletionTimestamp != nil:
			p.end()
		}
	}
	for _, p := range k.pods {
		p.notify()
	}
}

// present reports whether the store still has a pod: the view may be older
// than the pod's end, and no pod is started twice.
func (k *Kubelet) present(o *corev1.Pod) bool {
	now, _ := k.cfg.Store.View()
	p, ok := store.Get[*corev1.Pod](now, "Pod", o.Namespace, o.Name)
	return ok && p.UID == o.UID
}

func (k *Kubelet) start(o *corev1.Pod) {
	p := newPod(k, o)
	k.pods[o.UID] = p
	k.wg.Go(func() {
		p.run()
		k.mu.Lock()
		delete(k.pods, o.UID)
		k.mu.Unlock()
	})
}

// Close ends all pods, without their preStop, and gracefully until ctx is done.
func (k *Kubelet) Close(ctx context.Context) {
	k.mu.Lock()
	k.closed = true
	for _, p := range k.pods {
		p.end()
	}
	k.mu.Unlock()
	defer context.AfterFunc(ctx, k.hurry)()
	k.wg.Wait()
	k.hurry()
}

func (k *Kubelet) closing() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.closed
}

// ErrNotRunning tells that the container is not there, or not running now.
var ErrNotRunning = errors.New("not running")

// Exec runs a command in a container; container "" is the first one that is no sidecar.
func (k *Kubelet) Exec(ctx context.Context, uid types.UID, name string, e sandbox.ExecSpec) (sandbox.Exit, error) {
	k.mu.Lock()
	p := k.pods[uid]
	k.mu.Unlock()
	if p == nil {
		return sandbox.Exit{}, ErrNotRunning
	}
	c := p.find(name)
	if c == nil {
		return sandbox.Exit{}, fmt.Errorf("the pod has no container %q", name)
	}
	proc := c.process()
	if proc == nil {
		return sandbox.Exit{}, fmt.Errorf("container %s: %w", c.spec.Name, ErrNotRunning)
	}
	return k.cfg.Sandbox.Exec(ctx, proc, e)
}

// LogFile is where a container's output is kept.
func (k *Kubelet) LogFile(p *corev1.Pod, container string) string {
	return filepath.Join(k.podLogs(p), container+".log")
}

func (k *Kubelet) podLogs(p *corev1.Pod) string {
	return filepath.Join(k.cfg.LogDir, p.Namespace+"_"+p.Name+"_"+string(p.UID))
}

// DefaultContainer is the first container that is no sidecar.
func DefaultContainer(p *corev1.Pod) string {
	for _, c := range p.Spec.Containers {
		if !meshContainer(c.Name) {
			return c.Name
		}
	}
	if len(p.Spec.Containers) > 0 {
		return p.Spec.Containers[0].Name
	}
	return ""
}

// meshContainer reports whether a container is the mesh's own.
func meshContainer(name string) bool {
	return name == "meshd-proxy" || name == "meshd-agent" || name == "meshd-capture"
}

func removeAll(dir string, log *slog.Logger) {
	if err := os.RemoveAll(dir); err != nil {
		log.Warn("pod's folder left behind", "dir", dir, "error", err)
	}
}
