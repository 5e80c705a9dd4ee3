package crds

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// invalid wraps the messages of a validation function.
func invalid(path *field.Path, value any, messages []string) field.ErrorList {
	var errs field.ErrorList
	for _, m := range messages {
		errs = append(errs, field.Invalid(path, value, m))
	}
	return errs
}

func validateProtocol(p corev1.Protocol, path *field.Path) field.ErrorList {
	known := []corev1.Protocol{corev1.ProtocolTCP, corev1.ProtocolUDP, corev1.ProtocolSCTP}
	if slices.Contains(known, p) {
		return nil
	}
	return field.ErrorList{field.NotSupported(path, p, known)}
}

func validatePortNumber(port int32, path *field.Path) field.ErrorList {
	return invalid(path, port, validation.IsValidPortNum(int(port)))
}

func validateService(s *corev1.Service) field.ErrorList {
	spec := field.NewPath("spec")
	types := []corev1.ServiceType{corev1.ServiceTypeClusterIP, corev1.ServiceTypeNodePort, corev1.ServiceTypeLoadBalancer, corev1.ServiceTypeExternalName}
	if !slices.Contains(types, s.Spec.Type) {
		return field.ErrorList{field.NotSupported(spec.Child("type"), s.Spec.Type, types)}
	}
	var errs field.ErrorList
	if s.Spec.Type == corev1.ServiceTypeExternalName {
		errs = append(errs, invalid(spec.Child("externalName"), s.Spec.ExternalName,
			validation.IsDNS1123Subdomain(strings.TrimSuffix(s.Spec.ExternalName, ".")))...)
	} else if len(s.Spec.Ports) == 0 && s.Spec.ClusterIP != corev1.ClusterIPNone {
		errs = append(errs, field.Required(spec.Child("ports"), "a Service needs at least one port, unless it is headless"))
	}
	for i, ip := range s.Spec.ClusterIPs {
		if _, err := netip.ParseAddr(ip); err != nil && ip != corev1.ClusterIPNone {
			errs = append(errs, field.Invalid(spec.Child("clusterIPs").Index(i), ip, "must be an IP address or None"))
		}
	}
	if len(s.Spec.ClusterIPs) > 0 && s.Spec.ClusterIPs[0] != s.Spec.ClusterIP {
		errs = append(errs, field.Invalid(spec.Child("clusterIPs").Index(0), s.Spec.ClusterIPs[0], "must be the same as clusterIP"))
	}
	return append(errs, validateServicePorts(s.Spec.Ports, spec.Child("ports"))...)
}

func validateServicePorts(ports []corev1.ServicePort, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	names, numbers := map[string]bool{}, map[string]bool{}
	for i, p := range ports {
		at := path.Index(i)
		errs = append(errs, validatePortNumber(p.Port, at.Child("port"))...)
		errs = append(errs, validateProtocol(p.Protocol, at.Child("protocol"))...)
		if p.TargetPort != intstr.FromInt32(p.Port) {
			errs = append(errs, validatePortReference(p.TargetPort, at.Child("targetPort"))...)
		}
		switch {
		case p.Name == "" && len(ports) > 1:
			errs = append(errs, field.Required(at.Child("name"), "ports need names where there are several"))
		case p.Name != "" && names[p.Name]:
			errs = append(errs, field.Duplicate(at.Child("name"), p.Name))
		case p.Name != "":
			errs = append(errs, invalid(at.Child("name"), p.Name, validation.IsDNS1123Label(p.Name))...)
		}
		names[p.Name] = true
		number := fmt.Sprintf("%d/%s", p.Port, p.Protocol)
		if numbers[number] {
			errs = append(errs, field.Duplicate(at.Child("port"), p.Port))
		}
		numbers[number] = true
		if p.AppProtocol != nil {
			errs = append(errs, invalid(at.Child("appProtocol"), *p.AppProtocol, validation.IsQualifiedName(*p.AppProtocol))...)
		}
	}
	return errs
}

// validatePortReference checks a port given by number or by the name of a container's port.
func validatePortReference(p intstr.IntOrString, path *field.Path) field.ErrorList {
	if p.Type == intstr.Int {
		return validatePortNumber(p.IntVal, path)
	}
	return invalid(path, p.StrVal, validation.IsValidPortName(p.StrVal))
}

func validateEndpointSlice(e *discoveryv1.EndpointSlice) field.ErrorList {
	var errs field.ErrorList
	types := []discoveryv1.AddressType{discoveryv1.AddressTypeIPv4, discoveryv1.AddressTypeIPv6, discoveryv1.AddressTypeFQDN}
	if !slices.Contains(types, e.AddressType) {
		errs = append(errs, field.NotSupported(field.NewPath("addressType"), e.AddressType, types))
	}
	for i, endpoint := range e.Endpoints {
		path := field.NewPath("endpoints").Index(i).Child("addresses")
		if len(endpoint.Addresses) == 0 {
			errs = append(errs, field.Required(path, "an endpoint needs an address"))
		}
		for j, a := range endpoint.Addresses {
			errs = append(errs, validateEndpointAddress(e.AddressType, a, path.Index(j))...)
		}
	}
	names := map[string]bool{}
	for i, p := range e.Ports {
		path := field.NewPath("ports").Index(i)
		if names[*p.Name] {
			errs = append(errs, field.Duplicate(path.Child("name"), *p.Name))
		}
		names[*p.Name] = true
		if p.Port != nil {
			errs = append(errs, validatePortNumber(*p.Port, path.Child("port"))...)
		}
		errs = append(errs, validateProtocol(*p.Protocol, path.Child("protocol"))...)
	}
	return errs
}

func validateEndpointAddress(kind discoveryv1.AddressType, address string, path *field.Path) field.ErrorList {
	if kind == discoveryv1.AddressTypeFQDN {
		return invalid(path, address, validation.IsDNS1123Subdomain(address))
	}
	a, err := netip.ParseAddr(address)
	if err != nil || a.Is4() != (kind == discoveryv1.AddressTypeIPv4) {
		return field.ErrorList{field.Invalid(path, address, fmt.Sprintf("must be an %s address", kind))}
	}
	return nil
}

func validatePod(p *corev1.Pod) field.ErrorList {
	errs := validatePodSpec(&p.Spec, field.NewPath("spec"))
	for i, ip := range p.Status.PodIPs {
		if _, err := netip.ParseAddr(ip.IP); err != nil {
			errs = append(errs, field.Invalid(field.NewPath("status", "podIPs").Index(i).Child("ip"), ip.IP, "must be an IP address"))
		}
	}
	if p.Status.PodIP != "" {
		if _, err := netip.ParseAddr(p.Status.PodIP); err != nil {
			errs = append(errs, field.Invalid(field.NewPath("status", "podIP"), p.Status.PodIP, "must be an IP address"))
		}
	}
	return errs
}

func validatePodSpec(s *corev1.PodSpec, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	policies := []corev1.RestartPolicy{corev1.RestartPolicyAlways, corev1.RestartPolicyOnFailure, corev1.RestartPolicyNever}
	if s.RestartPolicy != "" && !slices.Contains(policies, s.RestartPolicy) {
		errs = append(errs, field.NotSupported(path.Child("restartPolicy"), s.RestartPolicy, policies))
	}
	errs = append(errs, invalid(path.Child("serviceAccountName"), s.ServiceAccountName, validation.IsDNS1123Subdomain(s.ServiceAccountName))...)
	if len(s.Containers) == 0 {
		errs = append(errs, field.Required(path.Child("containers"), "a pod needs a container"))
	}
	names := map[string]bool{}
	for i := range s.InitContainers {
		errs = append(errs, validateContainer(&s.InitContainers[i], names, path.Child("initContainers").Index(i))...)
	}
	for i := range s.Containers {
		errs = append(errs, validateContainer(&s.Containers[i], names, path.Child("containers").Index(i))...)
	}
	return errs
}

func validateContainer(c *corev1.Container, names map[string]bool, path *field.Path) field.ErrorList {
	errs := invalid(path.Child("name"), c.Name, validation.IsDNS1123Label(c.Name))
	if names[c.Name] {
		errs = append(errs, field.Duplicate(path.Child("name"), c.Name))
	}
	names[c.Name] = true
	for i, p := range c.Ports {
		at := path.Child("ports").Index(i)
		errs = append(errs, validatePortNumber(p.ContainerPort, at.Child("containerPort"))...)
		errs = append(errs, validateProtocol(p.Protocol, at.Child("protocol"))...)
		if p.Name != "" {
			errs = append(errs, invalid(at.Child("name"), p.Name, validation.IsValidPortName(p.Name))...)
		}
	}
	probes := []struct {
		name  string
		probe *corev1.Probe
	}{{"livenessProbe", c.LivenessProbe}, {"readinessProbe", c.ReadinessProbe}, {"startupProbe", c.StartupProbe}}
	for _, p := range probes {
		if p.probe != nil {
			errs = append(errs, validateProbe(p.probe, path.Child(p.name))...)
		}
	}
	return errs
}

func validateProbe(p *corev1.Probe, path *field.Path) field.ErrorList {
	handlers := 0
	var errs field.ErrorList
	if p.Exec != nil {
		handlers++
	}
	if p.HTTPGet != nil {
		handlers++
		errs = append(errs, validatePortReference(p.HTTPGet.Port, path.Child("httpGet", "port"))...)
	}
	if p.TCPSocket != nil {
		handlers++
		errs = append(errs, validatePortReference(p.TCPSocket.Port, path.Child("tcpSocket", "port"))...)
	}
	if p.GRPC != nil {
		handlers++
		errs = append(errs, validatePortNumber(p.GRPC.Port, path.Child("grpc", "port"))...)
	}
	if handlers != 1 {
		errs = append(errs, field.Required(path, "a probe has exactly one of exec, httpGet, tcpSocket and grpc"))
	}
	return errs
}

// validateTemplate checks a controller's selector against its pods' labels.
func validateTemplate(selector *metav1.LabelSelector, template *corev1.PodTemplateSpec) field.ErrorList {
	path := field.NewPath("spec", "template")
	errs := validatePodSpec(&template.Spec, path.Child("spec"))
	at := field.NewPath("spec", "selector")
	if selector == nil {
		return append(errs, field.Required(at, "it says which pods are of this object"))
	}
	parsed, err := metav1.LabelSelectorAsSelector(selector)
	switch {
	case err != nil:
		errs = append(errs, field.Invalid(at, metav1.FormatLabelSelector(selector), err.Error()))
	case parsed.Empty():
		errs = append(errs, field.Invalid(at, "{}", "an empty selector would take every pod: name a label"))
	case !parsed.Matches(labels.Set(template.Labels)):
		errs = append(errs, field.Invalid(path.Child("metadata", "labels"), template.Labels, "spec.selector does not match the template's labels"))
	}
	return errs
}

func validateReplicas(n *int32) field.ErrorList {
	if n != nil && *n < 0 {
		return field.ErrorList{field.Invalid(field.NewPath("spec", "replicas"), *n, "must not be negative")}
	}
	return nil
}

func validateDeployment(d *appsv1.Deployment) field.ErrorList {
	return append(validateReplicas(d.Spec.Replicas), validateTemplate(d.Spec.Selector, &d.Spec.Template)...)
}

func validateStatefulSet(s *appsv1.StatefulSet) field.ErrorList {
	return append(validateReplicas(s.Spec.Replicas), validateTemplate(s.Spec.Selector, &s.Spec.Template)...)
}

func validateDaemonSet(d *appsv1.DaemonSet) field.ErrorList {
	return validateTemplate(d.Spec.Selector, &d.Spec.Template)
}

func validateReplicaSet(r *appsv1.ReplicaSet) field.ErrorList {
	return append(validateReplicas(r.Spec.Replicas), validateTemplate(r.Spec.Selector, &r.Spec.Template)...)
}

func validateJob(j *batchv1.Job) field.ErrorList {
	path := field.NewPath("spec", "template", "spec")
	errs := validatePodSpec(&j.Spec.Template.Spec, path)
	if p := j.Spec.Template.Spec.RestartPolicy; p != corev1.RestartPolicyOnFailure && p != corev1.RestartPolicyNever {
		errs = append(errs, field.NotSupported(path.Child("restartPolicy"), p, []corev1.RestartPolicy{corev1.RestartPolicyOnFailure, corev1.RestartPolicyNever}))
	}
	return errs
}

func validateIngressClass(c *networkingv1.IngressClass) field.ErrorList {
	if c.Spec.Controller == "" {
		return field.ErrorList{field.Required(field.NewPath("spec", "controller"), "it says who carries out Ingresses of this class")}
	}
	return nil
}

func validateIngress(in *networkingv1.Ingress) field.ErrorList {
	spec := field.NewPath("spec")
	var errs field.ErrorList
	if in.Spec.DefaultBackend == nil && len(in.Spec.Rules) == 0 {
		errs = append(errs, field.Required(spec, "an Ingress needs rules or a defaultBackend"))
	}
	if in.Spec.DefaultBackend != nil {
		errs = append(errs, validateIngressBackend(in.Spec.DefaultBackend, spec.Child("defaultBackend"))...)
	}
	for i, tls := range in.Spec.TLS {
		for j, host := range tls.Hosts {
			errs = append(errs, validateHost(host, spec.Child("tls").Index(i).Child("hosts").Index(j))...)
		}
	}
	for i, rule := range in.Spec.Rules {
		path := spec.Child("rules").Index(i)
		if rule.Host != "" {
			errs = append(errs, validateHost(rule.Host, path.Child("host"))...)
		}
		if rule.HTTP == nil {
			continue
		}
		paths := path.Child("http", "paths")
		if len(rule.HTTP.Paths) == 0 {
			errs = append(errs, field.Required(paths, "a rule needs a path"))
		}
		for j := range rule.HTTP.Paths {
			errs = append(errs, validateIngressPath(&rule.HTTP.Paths[j], paths.Index(j))...)
		}
	}
	return errs
}

func validateIngressPath(p *networkingv1.HTTPIngressPath, path *field.Path) field.ErrorList {
	types := []networkingv1.PathType{networkingv1.PathTypeExact, networkingv1.PathTypePrefix, networkingv1.PathTypeImplementationSpecific}
	errs := validateIngressBackend(&p.Backend, path.Child("backend"))
	switch {
	case p.PathType == nil:
		return append(errs, field.Required(path.Child("pathType"), "Exact, Prefix or ImplementationSpecific"))
	case !slices.Contains(types, *p.PathType):
		return append(errs, field.NotSupported(path.Child("pathType"), *p.PathType, types))
	case *p.PathType == networkingv1.PathTypeImplementationSpecific && p.Path == "":
		return errs
	case !strings.HasPrefix(p.Path, "/"):
		return append(errs, field.Invalid(path.Child("path"), p.Path, "must begin with /"))
	}
	for _, bad := range []string{"//", "/./", "/../", "%2f", "%2F"} {
		if strings.Contains(p.Path, bad) && *p.PathType != networkingv1.PathTypeImplementationSpecific {
			errs = append(errs, field.Invalid(path.Child("path"), p.Path, "must not contain "+bad))
		}
	}
	return errs
}

func validateIngressBackend(b *networkingv1.IngressBackend, path *field.Path) field.ErrorList {
	if b.Resource != nil && b.Service == nil {
		return nil
	}
	if b.Service == nil || b.Resource != nil {
		return field.ErrorList{field.Required(path, "a backend is exactly one of service and resource")}
	}
	errs := invalid(path.Child("service", "name"), b.Service.Name, validation.IsDNS1035Label(b.Service.Name))
	port := path.Child("service", "port")
	switch p := b.Service.Port; {
	case (p.Name == "") == (p.Number == 0):
		errs = append(errs, field.Required(port, "exactly one of name and number"))
	case p.Name != "":
		errs = append(errs, invalid(port.Child("name"), p.Name, validation.IsValidPortName(p.Name))...)
	default:
		errs = append(errs, validatePortNumber(p.Number, port.Child("number"))...)
	}
	return errs
}

// validateHost checks a host name, in which the first label may be a *.
func validateHost(host string, path *field.Path) field.ErrorList {
	if _, err := netip.ParseAddr(host); err == nil {
		return field.ErrorList{field.Invalid(path, host, "must be a DNS name, not an IP address")}
	}
	if strings.Contains(host, "*") {
		return invalid(path, host, validation.IsWildcardDNS1123Subdomain(host))
	}
	return invalid(path, host, validation.IsDNS1123Subdomain(host))
}
