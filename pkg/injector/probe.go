package injector

import (
	"fmt"
	"net/url"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/meshd-io/meshd/pkg/report"
)

// rewriteProbes turns kubelet's probes to the proxy's plain port, because
// kubelet has no mesh identity and would be refused under Strict, and because
// a tcpSocket probe of a captured port always succeeds: the proxy accepts.
// It gives the originals, for the bootstrap. Exec probes run inside the
// container and stay. Lifecycle hooks by httpGet stay as well: they come from
// kubelet, uncaptured at its end, and are refused under Strict unless their
// port is excluded.
func (s *subject) rewriteProbes() []Probe {
	var out []Probe
	for at, c := range containers(s.pod) {
		for _, p := range []struct {
			kind, field string
			probe       *corev1.Probe
		}{
			{"startup", "startupProbe", c.StartupProbe},
			{"liveness", "livenessProbe", c.LivenessProbe},
			{"readiness", "readinessProbe", c.ReadinessProbe},
		} {
			if p.probe == nil {
				continue
			}
			original, query, err := readProbe(c, &p.probe.ProbeHandler)
			if err != nil {
				s.find(report.PortNotFound, at+"."+p.field, err.Error())
				continue
			}
			if original == nil {
				continue
			}
			original.Path = "/probe/" + c.Name + "/" + p.kind
			original.Timeout, original.Period = seconds(p.probe.TimeoutSeconds, 1), seconds(p.probe.PeriodSeconds, 10)
			redirect(&p.probe.ProbeHandler, original.Path+query)
			out = append(out, *original)
		}
	}
	return out
}

// readProbe gives the probe, and the query that kubelet sends with it ("?..." or
// ""). It is nil for one that does not come in through the pod's address.
func readProbe(c *corev1.Container, h *corev1.ProbeHandler) (p *Probe, query string, err error) {
	switch {
	// A host of its own is not this pod as kubelet sees it: 127.0.0.1 there is the node.
	case h.HTTPGet != nil && h.HTTPGet.Host == "":
		p = &Probe{Protocol: ProbeHTTP}
		if h.HTTPGet.Scheme == corev1.URISchemeHTTPS {
			p.Protocol = ProbeHTTPS
		}
		p.Target, query = split(h.HTTPGet.Path)
		p.Target = literal(p.Target)
		p.Port, err = port(c, h.HTTPGet.Port)
	case h.TCPSocket != nil && h.TCPSocket.Host == "":
		p = &Probe{Protocol: ProbeTCP}
		p.Port, err = port(c, h.TCPSocket.Port)
	case h.GRPC != nil:
		p = &Probe{Protocol: ProbeGRPC}
		p.Port, err = number(c, h.GRPC.Port)
		if h.GRPC.Service != nil {
			p.Service = literal(*h.GRPC.Service)
		}
	}
	return p, query, err
}

// split reads a probe's path as kubelet does: it may carry a query, and what
// is no URL is taken as a path to be escaped.
func split(path string) (target, query string) {
	u, err := url.Parse(path)
	if err != nil {
		u = &url.URL{Path: path}
	}
	target = u.EscapedPath()
	if !strings.HasPrefix(target, "/") {
		target = "/" + target
	}
	if u.RawQuery != "" {
		query = "?" + u.RawQuery
	}
	return target, query
}

// literal protects a user's text from the expansion of $(NAME) and $$ in a
// container's arguments. Every $ is doubled, for Kubernetes halves every pair.
func literal(s string) string { return strings.ReplaceAll(s, "$", "$$") }

// port resolves a port among those of the container itself, as kubelet does.
func port(c *corev1.Container, p intstr.IntOrString) (int32, error) {
	if p.Type == intstr.Int {
		return number(c, p.IntVal)
	}
	for _, cp := range c.Ports {
		if cp.Name == p.StrVal {
			return number(c, cp.ContainerPort)
		}
	}
	if n, err := portFromText(p.StrVal); err == nil {
		return n, nil
	}
	return 0, fmt.Errorf("container %s has no port named %q, so that the probe is left as it is and will fail; name one of its ports", c.Name, p.StrVal)
}

func number(c *corev1.Container, n int32) (int32, error) {
	if _, err := portOf(n); err != nil {
		return 0, fmt.Errorf("container %s can have no port %d, so that the probe is left as it is and will fail; write a number from 1 to 65535", c.Name, n)
	}
	return n, nil
}

func portFromText(s string) (int32, error) {
	n, err := parsePort(s)
	return int32(n), err
}

func seconds(n int32, unset time.Duration) time.Duration {
	if n <= 0 {
		return unset * time.Second
	}
	return time.Duration(n) * time.Second
}

// redirect makes the probe ask the proxy. Headers stay with it: the proxy passes them on.
func redirect(h *corev1.ProbeHandler, path string) {
	get := &corev1.HTTPGetAction{Path: path, Port: intstr.FromInt32(PlainPort), Scheme: corev1.URISchemeHTTP}
	if h.HTTPGet != nil {
		get.HTTPHeaders = h.HTTPGet.HTTPHeaders
	}
	*h = corev1.ProbeHandler{HTTPGet: get}
}
