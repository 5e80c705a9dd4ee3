package check

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/meshd-io/meshd/pkg/console"
	"github.com/meshd-io/meshd/pkg/injector"
	"github.com/meshd-io/meshd/pkg/report"
)

// proxies are those of all replicas, each once, by name.
func (f *Facts) proxies() []console.Proxy {
	newest := map[string]console.Proxy{}
	for _, r := range f.Replicas {
		for _, p := range r.State.Proxies {
			if known, there := newest[p.Name]; !there || p.Connected.After(known.Connected) {
				newest[p.Name] = p
			}
		}
	}
	out := make([]console.Proxy, 0, len(newest))
	for _, name := range slices.Sorted(maps.Keys(newest)) {
		out = append(out, newest[name])
	}
	return out
}

// proxies: every proxy holds what was published for it, and every sidecar is connected.
func proxies(f *Facts) verdict {
	all := f.proxies()
	v := verdict{well: fmt.Sprintf("%d are connected and hold everything that was published for them", len(all))}
	connected := map[string]bool{}
	var rejected, behind, absent []string
	for _, p := range all {
		connected[p.Name] = true
		switch words := refusal(p); {
		case words != "":
			rejected = append(rejected, p.Name+" ("+words+")")
		case !p.Synced:
			behind = append(behind, p.Name)
		}
	}
	if f.Cluster != nil {
		for _, pod := range f.Cluster.Pods {
			if name := pod.Namespace + "/" + pod.Name; serving(pod) && hasContainer(pod, injector.ProxyContainer) && !connected[name] {
				absent = append(absent, name)
			}
		}
	}
	v.addEach(Fail, "proxies refused something; the last good version stays in force", "see the conditions of the object that it comes from", rejected)
	v.addEach(Warn, "proxies do not hold everything yet", "wait a moment; if it stays so, see the log of the pod's container meshd-proxy", behind)
	v.addEach(Fail, "pods carry a proxy that is not connected to meshd", "see the log of the pod's containers meshd-agent and meshd-proxy", absent)
	return v
}

func refusal(p console.Proxy) string {
	for _, t := range p.Types {
		for _, r := range t.Rejected {
			return t.Type + " " + r.Resource + ": " + r.Message
		}
	}
	return ""
}

// serving pods are ready, and not about to go.
func serving(pod *corev1.Pod) bool {
	return pod.DeletionTimestamp == nil && slices.ContainsFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
	})
}

func hasContainer(pod *corev1.Pod, name string) bool { return imageOf(pod, name) != "" }

// imageOf is the image of a pod's container or init container, "" without one.
func imageOf(pod *corev1.Pod, name string) string {
	for _, list := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for _, c := range list {
			if c.Name == name {
				return c.Image
			}
		}
	}
	return ""
}

// sidecars: no pod that should be in the mesh is outside of it.
func sidecars(f *Facts) verdict {
	config := injector.Config{SystemNamespace: f.Cluster.Namespace}
	if f.Cluster.MeshConfig != nil {
		config.Injection = f.Cluster.MeshConfig.Spec.Injection
	}
	in := 0
	for _, pod := range f.Cluster.Pods {
		if hasContainer(pod, injector.ProxyContainer) {
			in++
		}
	}
	v := verdict{well: fmt.Sprintf("%d pods carry one, and none that should lacks it", in)}
	var without, refused []string
	for _, finding := range injector.Audit(f.Cluster.Pods, f.Cluster.Namespaces, config) {
		name := finding.Object.Namespace + "/" + finding.Object.Name
		if finding.Reason == report.NoSidecar {
			without = append(without, name)
		} else {
			refused = append(refused, name+" ("+finding.Message+")")
		}
	}
	v.addEach(Warn, "pods should carry a sidecar and do not", "make them anew: kubectl rollout restart, or delete the pod", without)
	v.addEach(Warn, "pods should carry a sidecar and cannot", "change the pod, or label it "+injector.InjectLabel+": disabled", refused)
	return v
}

// labels: the label of injection says enabled or disabled and nothing else.
func labels(f *Facts) verdict {
	v := verdict{well: injector.InjectLabel + " is enabled or disabled wherever it is set"}
	wrong := func(o metav1.Object) (string, bool) {
		value, there := o.GetLabels()[injector.InjectLabel]
		return value, there && value != "enabled" && value != "disabled"
	}
	var namespaces, pods []string
	for _, ns := range f.Cluster.Namespaces {
		if value, is := wrong(ns); is {
			namespaces = append(namespaces, fmt.Sprintf("%s (%q)", ns.Name, value))
		}
	}
	for _, pod := range f.Cluster.Pods {
		if value, is := wrong(pod); is {
			pods = append(pods, fmt.Sprintf("%s/%s (%q)", pod.Namespace, pod.Name, value))
		}
	}
	const cure = "write enabled or disabled; any other value does not count"
	v.addEach(Warn, "namespaces whose label "+injector.InjectLabel+" says neither", cure, namespaces)
	v.addEach(Warn, "pods whose label "+injector.InjectLabel+" says neither", cure, pods)
	return v
}

// networks: what the gate asks about is known, and every pod of the mesh lies in it.
func networks(f *Facts) verdict {
	known := slices.Clone(f.Cluster.CIDRs)
	if f.Cluster.MeshConfig != nil {
		for _, text := range f.Cluster.MeshConfig.Spec.CIDRs {
			if p, err := netip.ParsePrefix(text); err == nil { // the API server has seen to it
				known = append(known, p)
			}
		}
	}
	const cure = "name the networks of pods and services in MeshConfig default, spec.cidrs"
	v := verdict{}
	if len(known) == 0 {
		v.add(Warn, cure, "no network of services and pods is known: their addresses are taken one by one, and new ones are late")
		return v
	}
	slices.SortFunc(known, netip.Prefix.Compare)
	known = slices.Compact(known)
	texts := make([]string, 0, len(known))
	for _, p := range known {
		texts = append(texts, p.String())
	}
	v.well = "services and pods are in " + strings.Join(texts[:min(4, len(texts))], ", ")
	if more := len(texts) - 4; more > 0 {
		v.well += fmt.Sprintf(" and %d more", more)
	}
	var outside []string
	for _, pod := range f.Cluster.Pods {
		if !serving(pod) || !hasContainer(pod, injector.ProxyContainer) {
			continue
		}
		for _, ip := range pod.Status.PodIPs {
			a, err := netip.ParseAddr(ip.IP)
			if err == nil && !slices.ContainsFunc(known, func(p netip.Prefix) bool { return p.Contains(a) }) {
				outside = append(outside, fmt.Sprintf("%s/%s (%s)", pod.Namespace, pod.Name, a))
			}
		}
	}
	v.addEach(Warn, "pods of the mesh lie outside of its networks", cure, outside)
	return v
}
