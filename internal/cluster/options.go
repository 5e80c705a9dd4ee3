package cluster

import (
	"errors"
	"fmt"
	"hash/fnv"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// Options say where a cluster lives.
type Options struct {
	// Dir is the state: kubeconfig, certificates, logs, sockets. It must not be under /run, /var/log or /var/lib.
	Dir string `json:"dir"`
	// Binaries is the folder that `hack/kube` prints.
	Binaries string `json:"binaries"`
	// Images are archives to import before the node is ready; pause and CoreDNS must be among them.
	Images []string `json:"images"`
}

// The cluster's addresses: 198.18.0.0/15 (RFC 2544) is nobody's on a test
// machine. The others exist only inside of the node.
var (
	hostAddress   = netip.MustParsePrefix("198.18.0.1/30")
	nodeAddress   = netip.MustParsePrefix("198.18.0.2/30")
	loadBalancers = netip.MustParsePrefix("198.18.1.0/24")
	podNetwork    = netip.MustParsePrefix("10.244.0.0/16")
	nodePods      = netip.MustParsePrefix("10.244.0.0/24")
	services      = netip.MustParsePrefix("10.96.0.0/16")
	apiService    = netip.MustParseAddr("10.96.0.1")
	dnsService    = netip.MustParseAddr("10.96.0.10")
)

const (
	nodeName    = "node"
	hostLink    = "meshd-kube" // the host's end
	nodeLink    = "host0"      // the node's end
	apiPort     = 6443
	domain      = "cluster.local"
	cniPlugins  = "/usr/lib/cni"
	pauseImage  = "meshd.test/pause:1"
	corednsName = "meshd.test/coredns:1"
)

func (o Options) path(elem ...string) string {
	return filepath.Join(append([]string{o.Dir}, elem...)...)
}

// data is on the node's tmpfs.
func (o Options) data(elem ...string) string {
	return o.path(append([]string{"data"}, elem...)...)
}

// cgroup is the name of the one under which kubelet keeps the pods.
func (o Options) cgroup() string {
	h := fnv.New32a()
	h.Write([]byte(o.Dir))
	return fmt.Sprintf("meshd-kube-%08x", h.Sum32())
}

// Kubeconfig is the administrator's.
func (o Options) Kubeconfig() string { return o.path("kubeconfig") }

func (o Options) server() string { return fmt.Sprintf("https://%s:%d", nodeAddress.Addr(), apiPort) }

// binaries are those that a cluster runs.
var binaries = []string{
	"etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy",
	"containerd", "containerd-shim-runc-v2", "ctr",
}

// check tells all that is missing on this machine.
func (o Options) check() error {
	var missing []error
	if os.Geteuid() != 0 {
		missing = append(missing, errors.New("a cluster needs root"))
	}
	for _, name := range binaries {
		if _, err := os.Stat(filepath.Join(o.Binaries, name)); err != nil {
			missing = append(missing, fmt.Errorf("%s: run hack/kube: %w", name, err))
		}
	}
	for program, pkg := range map[string]string{"runc": "runc", "nft": "nftables", "mount": "mount"} {
		if _, err := exec.LookPath(program); err != nil {
			missing = append(missing, fmt.Errorf("%w (Debian's package %s)", err, pkg))
		}
	}
	for _, plugin := range []string{"ptp", "host-local", "portmap"} {
		if _, err := os.Stat(filepath.Join(cniPlugins, plugin)); err != nil {
			missing = append(missing, fmt.Errorf("%w (Debian's package containernetworking-plugins)", err))
		}
	}
	for _, hidden := range []string{"/run/", "/var/run/", "/var/log/", "/var/lib/", "/proc/", "/sys/"} {
		if strings.HasPrefix(o.Dir+"/", hidden) {
			missing = append(missing, fmt.Errorf("the state must not be under %s, which the node has of its own", hidden))
		}
	}
	return errors.Join(missing...)
}
