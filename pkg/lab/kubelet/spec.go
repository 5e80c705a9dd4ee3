package kubelet

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/meshd-io/meshd/pkg/lab/sandbox"
)

// allCapabilities is what "ALL" and privileged mean (capabilities(7)).
func allCapabilities() []string {
	return strings.Fields(`AUDIT_CONTROL AUDIT_READ AUDIT_WRITE BLOCK_SUSPEND BPF CHECKPOINT_RESTORE CHOWN DAC_OVERRIDE
		DAC_READ_SEARCH FOWNER FSETID IPC_LOCK IPC_OWNER KILL LEASE LINUX_IMMUTABLE MAC_ADMIN MAC_OVERRIDE MKNOD NET_ADMIN
		NET_BIND_SERVICE NET_BROADCAST NET_RAW PERFMON SETFCAP SETGID SETPCAP SETUID SYSLOG SYS_ADMIN SYS_BOOT SYS_CHROOT
		SYS_MODULE SYS_NICE SYS_PACCT SYS_PTRACE SYS_RAWIO SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG WAKE_ALARM`)
}

// capabilities is the set that a container has.
func capabilities(s *corev1.SecurityContext, defaults []string) []string {
	if s == nil {
		return defaults
	}
	if optional(s.Privileged) {
		return allCapabilities()
	}
	set := slices.Clone(defaults)
	if s.Capabilities == nil {
		return set
	}
	for _, c := range s.Capabilities.Drop {
		name := capName(c)
		set = slices.DeleteFunc(set, func(x string) bool { return name == "ALL" || x == name })
	}
	for _, c := range s.Capabilities.Add {
		if name := capName(c); name == "ALL" {
			set = allCapabilities()
		} else if !slices.Contains(set, name) {
			set = append(set, name)
		}
	}
	return set
}

func capName(c corev1.Capability) string {
	return strings.TrimPrefix(strings.ToUpper(string(c)), "CAP_")
}

// sandboxSpec is the container as the sandbox starts it.
func (c *container) sandboxSpec() (sandbox.Spec, error) {
	p := c.pod.current()
	v, _ := c.pod.k.cfg.Store.View()
	vars, err := environment(v, p, c.spec)
	if err != nil {
		return sandbox.Spec{}, err
	}
	uid, gid, groups, err := identityOf(p, c.spec)
	if err != nil {
		return sandbox.Spec{}, err
	}
	mounts, err := c.mounts(vars)
	if err != nil {
		return sandbox.Spec{}, err
	}
	command := expandAll(append(slices.Clone(c.spec.Command), c.spec.Args...), vars)
	for k, val := range map[string]string{"PATH": c.pod.k.path(), "HOSTNAME": hostname(p), "HOME": "/"} {
		if _, ok := vars[k]; !ok {
			vars[k] = val
		}
	}
	s := sandbox.Spec{
		Name:         p.Namespace + "_" + p.Name + "_" + c.spec.Name,
		Network:      c.pod.namespace().File(),
		Hostname:     hostname(p),
		Command:      command,
		Env:          environ(vars),
		User:         sandbox.User{UID: uid, GID: gid, Groups: groups},
		WorkDir:      c.spec.WorkingDir,
		Mounts:       mounts,
		Capabilities: capabilities(c.spec.SecurityContext, sandbox.DefaultCapabilities()),
	}
	if sc := c.spec.SecurityContext; sc != nil {
		s.NoNewPrivileges = sc.AllowPrivilegeEscalation != nil && !*sc.AllowPrivilegeEscalation
		s.ReadOnlyRoot = optional(sc.ReadOnlyRootFilesystem)
	}
	return s, nil
}

func hostname(p *corev1.Pod) string {
	if p.Spec.Hostname != "" {
		return p.Spec.Hostname
	}
	if len(p.Name) > 63 {
		return strings.TrimRight(p.Name[:63], "-.")
	}
	return p.Name
}

// programDir is where a container finds the i-th of Config.Programs.
func programDir(i int) string { return "/opt/meshd-lab/" + strconv.Itoa(i) }

// path is the PATH of containers that set none.
func (k *Kubelet) path() string {
	var dirs []string
	for i := range k.cfg.Programs {
		dirs = append(dirs, programDir(i))
	}
	return strings.Join(append(dirs, k.cfg.Path), ":")
}

// mounts are the container's volumes and the pod's files in /etc.
func (c *container) mounts(vars map[string]string) ([]sandbox.Mount, error) {
	var out []sandbox.Mount
	for _, f := range []string{"resolv.conf", "hosts", "hostname"} {
		out = append(out, sandbox.Mount{Source: filepath.Join(c.pod.dir, "etc", f), Target: "/etc/" + f})
	}
	for i, dir := range c.pod.k.cfg.Programs {
		out = append(out, sandbox.Mount{Source: dir, Target: programDir(i), ReadOnly: true})
	}
	for _, m := range c.spec.VolumeMounts {
		vol := c.pod.volume(m.Name)
		if vol == nil {
			return nil, fmt.Errorf("volumeMount %s: the pod has no such volume", m.Name)
		}
		source := vol.dir
		sub := m.SubPath
		if m.SubPathExpr != "" {
			sub = expand(m.SubPathExpr, vars)
		}
		if sub != "" {
			var err error
			if source, err = vol.sub(sub); err != nil {
				return nil, fmt.Errorf("volumeMount %s: %w", m.Name, err)
			}
		}
		out = append(out, sandbox.Mount{Source: source, Target: m.MountPath, ReadOnly: m.ReadOnly || vol.readOnly})
	}
	return out, nil
}

// writeEtc writes the files that make names resolve.
func (p *pod) writeEtc() error {
	dir := filepath.Join(p.dir, "etc")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("pod's /etc: %w", err)
	}
	host := hostname(p.spec)
	var hosts strings.Builder
	hosts.WriteString("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n")
	for _, a := range p.namespace().Addrs {
		if p.spec.Spec.Subdomain != "" {
			fmt.Fprintf(&hosts, "%s\t%s.%s.%s.svc.cluster.local\t%s\n", a, host, p.spec.Spec.Subdomain, p.spec.Namespace, host)
		} else {
			fmt.Fprintf(&hosts, "%s\t%s\n", a, host)
		}
	}
	for _, a := range p.spec.Spec.HostAliases {
		fmt.Fprintf(&hosts, "%s\t%s\n", a.IP, strings.Join(a.Hostnames, "\t"))
	}
	for name, content := range map[string]string{
		"hosts": hosts.String(), "hostname": host + "\n", "resolv.conf": p.resolvConf(),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
			return fmt.Errorf("pod's /etc: %w", err)
		}
	}
	return nil
}

// resolvConf honours dnsConfig and dnsPolicy None.
func (p *pod) resolvConf() string {
	conf := ""
	if p.spec.Spec.DNSPolicy != corev1.DNSNone {
		conf = p.k.cfg.ResolvConf(p.spec.Namespace)
	}
	d := p.spec.Spec.DNSConfig
	if d == nil {
		return conf
	}
	var b strings.Builder
	b.WriteString(conf)
	for _, n := range d.Nameservers {
		fmt.Fprintf(&b, "nameserver %s\n", n)
	}
	if len(d.Searches) > 0 {
		fmt.Fprintf(&b, "search %s\n", strings.Join(d.Searches, " "))
	}
	for _, o := range d.Options {
		if o.Value == nil {
			fmt.Fprintf(&b, "options %s\n", o.Name)
		} else {
			fmt.Fprintf(&b, "options %s:%s\n", o.Name, *o.Value)
		}
	}
	return b.String()
}
