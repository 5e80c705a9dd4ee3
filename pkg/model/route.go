package model

import (
	"cmp"
	"slices"

	"github.com/meshd-io/meshd/pkg/report"
)

// RoutingKey names the routes of a Service: those of its own namespace, which
// are for every client, or those that another namespace has for its own clients.
type RoutingKey struct {
	Service Name
	// Client is the namespace of the clients; "" is everyone.
	Client string
}

// Compare orders by Service, then client.
func (k RoutingKey) Compare(l RoutingKey) int {
	return cmp.Or(k.Service.Compare(l.Service), cmp.Compare(k.Client, l.Client))
}

// Consumed are Services to which a namespace has routes of its own.
type Consumed struct{ Services []Name } // sorted

// Has reports whether a Service is among them; none are in nil.
func (c *Consumed) Has(service Name) bool {
	if c == nil {
		return false
	}
	_, found := slices.BinarySearchFunc(c.Services, service, Name.Compare)
	return found
}

// Routing is what becomes of requests to a Service that routes are attached to.
type Routing struct {
	Ports []PortRouting // sorted by port; others are not routed
}

// PortRouting are the routes of a Service's port, instead of the one to the Service itself.
type PortRouting struct {
	Port   uint16
	Routes []Route // what none of them matches is answered 404
	// Origins are the objects that are attached, sorted, whether one of their rules is in force or not.
	Origins []report.Origin
}

// At is the routing of a port; nil where it has none.
func (r *Routing) At(port uint16) *PortRouting {
	if r == nil {
		return nil
	}
	for i := range r.Ports {
		if r.Ports[i].Port == port {
			return &r.Ports[i]
		}
	}
	return nil
}

// Route decides where a request goes. Routes are tried in order.
type Route struct {
	// Name is stable and unique in its list: KIND/NAMESPACE/NAME|RULE, or "default".
	Name     string
	Match    RouteMatch
	Backends []WeightedBackend
	// Nowhere is the status by which requests are answered that belong to no
	// backend, or to one that is none; 0 is 503.
	Nowhere uint32
	// Redirect answers every request; nil is none.
	Redirect *Redirect
	Rewrite  Rewrite
	// Headers are changed whichever backend a request goes to.
	Headers HeaderChanges
	// Mirrors get copies of requests, whose answers nobody waits for.
	Mirrors []Mirror
	Traffic Traffic
	// Backend of `default` routes takes Traffic from the Backend itself.
	Origins []report.Origin
}

// PathMatch says how RouteMatch.Path is compared.
type PathMatch uint8

// The kinds of path match.
const (
	// PathPrefix matches whole segments: /x matches /x and /x/y, not /xy. "/" matches all.
	PathPrefix PathMatch = iota
	PathExact
	// PathRegex is a regular expression of RE2 that matches the whole path.
	PathRegex
)

// RouteMatch says which requests a Route is for: all of it must match.
type RouteMatch struct {
	PathMatch PathMatch
	Path      string       // starts with "/", but for PathRegex
	Method    string       // "" is any
	Headers   []ValueMatch // by names in lower case, each once
	Query     []ValueMatch // parameters, by name, each once
}

// ValueMatch compares a header's or a parameter's value.
type ValueMatch struct {
	Name, Value string
	// Regex: Value is a regular expression of RE2 that matches the whole value.
	Regex bool
}

// WeightedBackend is a share of a Route.
type WeightedBackend struct {
	// Ref is zero where there is no such backend: this share is answered with Route.Nowhere.
	Ref    BackendRef
	Weight uint32
	// Headers are changed for this backend only, after the Route's.
	Headers HeaderChanges
}

// Mirror is a backend that gets copies of Numerator in Denominator of the requests.
type Mirror struct {
	Ref                    BackendRef
	Numerator, Denominator uint32
}

// HeaderChanges are made on the way to a backend and on the way back.
type HeaderChanges struct{ Request, Response HeaderChange }

// HeaderChange sets, adds and removes headers; names are in lower case.
type HeaderChange struct {
	Set, Add []Header
	Remove   []string
}

// Header is a name, and a value that is taken literally.
type Header struct{ Name, Value string }

// PathChangeKind says what of a path is replaced.
type PathChangeKind uint8

// The kinds of path change.
const (
	KeepPath PathChangeKind = iota
	// ReplacePath replaces all but the query.
	ReplacePath
	// ReplacePrefix replaces what a Route's PathPrefix has matched.
	ReplacePrefix
)

// PathChange replaces a path, or its beginning.
type PathChange struct {
	Kind  PathChangeKind
	Value string
}

// Rewrite changes a request on its way to a backend; the zero value does not.
type Rewrite struct {
	Host string // "" stays
	Path PathChange
}

// Redirect is where a client is sent to; what is not said is as in its request.
type Redirect struct {
	Scheme, Host string
	Port         uint16 // 0 is the request's, or the scheme's own
	Path         PathChange
	Status       uint32
}

// Empty reports whether nothing is changed.
func (c HeaderChanges) Empty() bool { return c.Request.empty() && c.Response.empty() }

func (c HeaderChange) empty() bool { return len(c.Set)+len(c.Add)+len(c.Remove) == 0 }
