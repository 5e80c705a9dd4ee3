package cache

import (
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"regexp/syntax"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/meshd-io/meshd/pkg/xds/envoy"
)

// references are the names that a resource cannot do without.
type references []envoy.Ref

// check looks at one resource and everything packed into it. It gives what the
// resource refers to, or says what is wrong with it.
func check(t envoy.Type, r envoy.Resource) (references, error) {
	if err := checkName(t, r); err != nil {
		return nil, err
	}
	w := walker{names: isDNS(r.Proto)}
	if err := w.message(r.Proto); err != nil {
		return nil, err
	}
	if a := assignment(r.Proto); a != "" {
		w.refs = append(w.refs, envoy.Ref{Type: envoy.EndpointType, Name: a})
	}
	return w.refs, nil
}

// wire is the type's URL in an Any.
func wire(t envoy.Type) envoy.Type {
	if t == envoy.OnDemandType {
		return envoy.ClusterType
	}
	return t
}

// checkName: Envoy takes the name inside of the message, streams go by the one outside.
func checkName(t envoy.Type, r envoy.Resource) error {
	m := r.Proto.ProtoReflect()
	if got := "type.googleapis.com/" + string(m.Descriptor().FullName()); got != string(wire(t)) {
		return fmt.Errorf("is a %s", got)
	}
	field := protoreflect.Name("name")
	if t == envoy.EndpointType {
		field = "cluster_name"
	}
	if got := m.Get(m.Descriptor().Fields().ByName(field)).String(); got != r.Name {
		return fmt.Errorf("calls itself %q", got)
	}
	return nil
}

// isDNS reports whether the cluster resolves host names itself: its endpoints may be names.
func isDNS(m proto.Message) bool {
	c, ok := m.(*clusterv3.Cluster)
	return ok && (c.GetType() == clusterv3.Cluster_STRICT_DNS || c.GetType() == clusterv3.Cluster_LOGICAL_DNS)
}

// walker visits every message of a resource, inside of Anys too.
type walker struct {
	names bool // socket addresses may be host names
	refs  references
}

func (w *walker) message(m proto.Message) error {
	// ValidateAll does not look into Anys, hence once for each of them.
	if v, ok := m.(interface{ ValidateAll() error }); ok {
		if err := v.ValidateAll(); err != nil {
			return err
		}
	}
	return w.walk(m.ProtoReflect())
}

func (w *walker) walk(m protoreflect.Message) error {
	if err := w.visit(m.Interface()); err != nil {
		return err
	}
	var err error
	m.Range(func(fd protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case fd.IsMap():
			if fd.MapValue().Message() != nil {
				v.Map().Range(func(_ protoreflect.MapKey, v protoreflect.Value) bool {
					err = w.walk(v.Message())
					return err == nil
				})
			}
		case fd.Message() == nil:
		case fd.IsList():
			for i := 0; i < v.List().Len() && err == nil; i++ {
				err = w.walk(v.List().Get(i).Message())
			}
		default:
			err = w.walk(v.Message())
		}
		return err == nil
	})
	return err
}

func (w *walker) visit(m proto.Message) error {
	switch m := m.(type) {
	case *anypb.Any:
		inner, err := m.UnmarshalNew()
		if err != nil {
			return fmt.Errorf("%s cannot be decoded: %w", m.GetTypeUrl(), err)
		}
		return w.message(inner)
	case *matcherv3.RegexMatcher:
		return checkRegex(m.GetRegex())
	case *corev3.SocketAddress:
		if _, err := netip.ParseAddr(m.GetAddress()); err != nil && !w.names {
			return fmt.Errorf("address %q is not an IP address", m.GetAddress())
		}
	case *corev3.CidrRange:
		return checkCIDR(m)
	case *listenerv3.Filter:
		w.extension(m.GetName(), m.GetConfigDiscovery())
	case *listenerv3.ListenerFilter:
		w.extension(m.GetName(), m.GetConfigDiscovery())
	case *hcmv3.HttpFilter:
		w.extension(m.GetName(), m.GetConfigDiscovery())
	case *routev3.ScopedRouteConfiguration:
		if name := m.GetRouteConfigurationName(); name != "" {
			w.refs = append(w.refs, envoy.Ref{Type: envoy.RouteType, Name: name})
		}
	case *hcmv3.Rds:
		if m.GetConfigSource().GetAds() != nil {
			w.refs = append(w.refs, envoy.Ref{Type: envoy.RouteType, Name: m.GetRouteConfigName()})
		}
	}
	return nil
}

func (w *walker) extension(name string, d *corev3.ExtensionConfigSource) {
	if d.GetConfigSource().GetAds() != nil && d.GetDefaultConfig() == nil {
		w.refs = append(w.refs, envoy.Ref{Type: envoy.ExtensionType, Name: name})
	}
}

// checkRegex compiles as Envoy does, with RE2: Go's syntax is the same language,
// except for \C, which Go has not.
func checkRegex(s string) error {
	if _, err := regexp.Compile(s); err != nil {
		var se *syntax.Error
		if errors.As(err, &se) {
			return fmt.Errorf("regex %q: %s: %q", s, se.Code, se.Expr)
		}
		return fmt.Errorf("regex %q: %w", s, err)
	}
	return nil
}

func checkCIDR(m *corev3.CidrRange) error {
	a, err := netip.ParseAddr(m.GetAddressPrefix())
	if err != nil {
		return fmt.Errorf("address %q is not an IP address", m.GetAddressPrefix())
	}
	if n := m.GetPrefixLen().GetValue(); n > uint32(a.BitLen()) {
		return fmt.Errorf("prefix %s/%d is longer than the address", a, n)
	}
	return nil
}
