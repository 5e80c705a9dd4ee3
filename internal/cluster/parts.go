package cluster

import "fmt"

// part is a process of the node.
type part struct {
	name string
	args []string
}

func (o Options) pki(name string) string { return o.path("pki", name) }

func (o Options) etcd() part {
	return part{"etcd", []string{
		"--data-dir=" + o.data("etcd"),
		"--listen-client-urls=http://127.0.0.1:2379", "--advertise-client-urls=http://127.0.0.1:2379",
		"--listen-peer-urls=http://127.0.0.1:2380", "--initial-advertise-peer-urls=http://127.0.0.1:2380",
		"--initial-cluster=default=http://127.0.0.1:2380",
		"--unsafe-no-fsync", // it ends with the cluster
		"--log-level=warn",
	}}
}

func (o Options) containerd() part {
	return part{"containerd", []string{"--config", o.path("etc", "containerd.toml"), "--log-level", "warn"}}
}

func (o Options) apiServer() part {
	return part{"kube-apiserver", []string{
		"--etcd-servers=http://127.0.0.1:2379",
		"--bind-address=0.0.0.0", fmt.Sprint("--secure-port=", apiPort), fmt.Sprint("--advertise-address=", nodeAddress.Addr()),
		"--tls-cert-file=" + o.pki("kube-apiserver.crt"), "--tls-private-key-file=" + o.pki("kube-apiserver.key"),
		"--client-ca-file=" + o.pki("ca.crt"),
		"--kubelet-certificate-authority=" + o.pki("ca.crt"),
		"--kubelet-client-certificate=" + o.pki("admin.crt"), "--kubelet-client-key=" + o.pki("admin.key"),
		"--kubelet-preferred-address-types=InternalIP",
		"--service-account-issuer=https://kubernetes.default.svc." + domain,
		"--service-account-key-file=" + o.pki("service-accounts.crt"),
		"--service-account-signing-key-file=" + o.pki("service-accounts.key"),
		fmt.Sprint("--service-cluster-ip-range=", services),
		"--authorization-mode=Node,RBAC", "--enable-admission-plugins=NodeRestriction",
		"--allow-privileged=true", "--anonymous-auth=true", // for the health endpoints
		"--audit-log-path=" + o.path("log", "audit.log"), "--audit-policy-file=" + o.path("etc", "audit-policy.yaml"), "--audit-log-maxsize=100",
		"--cert-dir=" + o.data("apiserver"),
	}}
}

func (o Options) controllerManager() part {
	return part{"kube-controller-manager", []string{
		"--kubeconfig=" + o.pki("kube-controller-manager.kubeconfig"),
		"--leader-elect=false", // there is one, and it outlives an API server that is away
		"--use-service-account-credentials=true",
		"--service-account-private-key-file=" + o.pki("service-accounts.key"), "--root-ca-file=" + o.pki("ca.crt"),
		"--cluster-signing-cert-file=" + o.pki("ca.crt"), "--cluster-signing-key-file=" + o.pki("ca.key"),
		"--allocate-node-cidrs=true", fmt.Sprint("--cluster-cidr=", podNetwork), fmt.Sprint("--service-cluster-ip-range=", services),
		"--node-monitor-grace-period=10m", // tests that stop the API server are about meshd, not about a node that could not report
		"--flex-volume-plugin-dir=" + o.data("flex"),
		"--bind-address=127.0.0.1", "--cert-dir=" + o.data("controller-manager"),
	}}
}

func (o Options) scheduler() part {
	return part{"kube-scheduler", []string{
		"--kubeconfig=" + o.pki("kube-scheduler.kubeconfig"), "--leader-elect=false",
		"--bind-address=127.0.0.1", "--cert-dir=" + o.data("scheduler"),
	}}
}

func (o Options) kubelet() part {
	return part{"kubelet", []string{
		"--config=" + o.path("etc", "kubelet.yaml"), "--kubeconfig=" + o.pki("kubelet.kubeconfig"),
		"--root-dir=" + o.data("kubelet"), "--cert-dir=" + o.data("kubelet-pki"),
		"--hostname-override=" + nodeName, fmt.Sprint("--node-ip=", nodeAddress.Addr()),
	}}
}

func (o Options) proxy() part {
	return part{"kube-proxy", []string{"--config=" + o.path("etc", "kube-proxy.yaml")}}
}
