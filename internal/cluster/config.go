package cluster

import (
	"encoding/base64"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

func base64Of(b []byte) string { return base64.StdEncoding.EncodeToString(b) }

// writeConfig writes the files that containerd, its network plugin, kubelet and kube-proxy read.
func (o Options) writeConfig() error {
	runc, err := exec.LookPath("runc")
	if err != nil {
		return err
	}
	for name, text := range map[string]string{
		"containerd.toml":     o.containerdConfig(runc),
		"cni/10-ptp.conflist": o.networkConfig(),
		"kubelet.yaml":        o.kubeletConfig(),
		"kube-proxy.yaml":     o.proxyConfig(),
		"resolv.conf":         "# No name server: the node knows the cluster's names only, from CoreDNS.\n",
		"audit-policy.yaml":   auditPolicy,
	} {
		path := o.path("etc", name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return err
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			return err
		}
	}
	return nil
}

// auditPolicy keeps what was refused: a test reads there which right somebody lacks.
const auditPolicy = `apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: Metadata
  users: ["system:serviceaccount:meshd-system:meshd"]
- level: None
`

func (o Options) containerdConfig(runc string) string {
	return fmt.Sprintf(`version = 3
root = %q
state = %q
oom_score = 0
[grpc]
  address = %q
[plugins.'io.containerd.cri.v1.images']
  snapshotter = 'overlayfs'
[plugins.'io.containerd.cri.v1.images'.pinned_images]
  sandbox = %q
[plugins.'io.containerd.cri.v1.runtime']
  restrict_oom_score_adj = true
  disable_apparmor = true
  tolerate_missing_hugetlb_controller = true
  netns_mounts_under_state_dir = true
[plugins.'io.containerd.cri.v1.runtime'.cni]
  bin_dirs = [%q]
  conf_dir = %q
  use_internal_loopback = true
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
  runtime_type = 'io.containerd.runc.v2'
  runtime_path = %q
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
  BinaryName = %q
  SystemdCgroup = false
`, o.data("containerd"), o.data("containerd-state"), o.path("containerd.sock"), pauseImage,
		cniPlugins, o.path("etc", "cni"), filepath.Join(o.Binaries, "containerd-shim-runc-v2"), runc)
}

// networkConfig: a link from every pod to the node and nothing bridged, so that replies
// always pass the node's rules. It needs no masquerading, which would need iptables.
func (o Options) networkConfig() string {
	return fmt.Sprintf(`{
  "cniVersion": "1.0.0", "name": "pods",
  "plugins": [{
    "type": "ptp", "ipMasq": false, "mtu": 1500,
    "ipam": {"type": "host-local", "dataDir": %q, "ranges": [[{"subnet": %q}]], "routes": [{"dst": "0.0.0.0/0"}]}
  }]
}
`, o.data("cni"), nodePods)
}

func (o Options) kubeletConfig() string {
	return fmt.Sprintf(`apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
address: %[2]s
healthzBindAddress: 127.0.0.1
readOnlyPort: 0
authentication:
  anonymous: {enabled: false}
  webhook: {enabled: true}
  x509: {clientCAFile: %[1]s/pki/ca.crt}
authorization: {mode: Webhook}
tlsCertFile: %[1]s/pki/kubelet-server.crt
tlsPrivateKeyFile: %[1]s/pki/kubelet-server.key
clusterDNS: [%[3]s]
clusterDomain: %[4]s
resolvConf: %[1]s/etc/resolv.conf
containerRuntimeEndpoint: unix://%[1]s/containerd.sock
podLogsDir: %[5]s
volumePluginDir: %[6]s
cgroupDriver: cgroupfs
cgroupRoot: /%[7]s
failCgroupV1: false
failSwapOn: false
oomScoreAdj: 0
makeIPTablesUtilChains: false
serializeImagePulls: false
imageGCHighThresholdPercent: 100
imageGCLowThresholdPercent: 99
evictionHard: {memory.available: 50Mi, nodefs.available: "1%%", nodefs.inodesFree: "0%%", imagefs.available: "1%%", imagefs.inodesFree: "0%%"}
nodeStatusUpdateFrequency: 5s
maxPods: 250
`, o.Dir, nodeAddress.Addr(), dnsService, domain, o.data("pod-logs"), o.data("kubelet-plugins"), o.cgroup())
}

func (o Options) proxyConfig() string {
	return fmt.Sprintf(`apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: nftables
clientConnection: {kubeconfig: %[1]s/pki/kube-proxy.kubeconfig}
hostnameOverride: %[2]s
clusterCIDR: %[3]s
bindAddress: 0.0.0.0
healthzBindAddress: 127.0.0.1:10256
metricsBindAddress: 127.0.0.1:10249
oomScoreAdj: 0
conntrack: {maxPerCore: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s}
nftables: {minSyncPeriod: 100ms, syncPeriod: 30s}
`, o.Dir, nodeName, podNetwork)
}
