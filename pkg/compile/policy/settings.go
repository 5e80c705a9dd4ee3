package policy

import (
	"slices"
	"time"

	meshv1a1 "github.com/meshd-io/meshd/api/v1alpha1"
	"github.com/meshd-io/meshd/pkg/compile/object"
	"github.com/meshd-io/meshd/pkg/model"
	"github.com/meshd-io/meshd/pkg/report"
)

// Settings are TrafficSettings, read: a field group that was left out is nil.
type Settings struct {
	Timeout          *Timeouts
	Retry            *model.Retry
	CircuitBreaker   *model.CircuitBreaker
	OutlierDetection *model.OutlierDetection
	LoadBalancing    *model.LoadBalancing
	Protocol         model.Protocol // Undeclared = left out
}

// Timeouts of a request; zero is none.
type Timeouts struct {
	Request, Backend, Idle, Connect time.Duration
}

// The defaults that API.md writes beside the fields.
const (
	defaultIdle          = time.Hour
	defaultConnect       = time.Second
	defaultAttempts      = 3
	defaultBackoffBase   = 25 * time.Millisecond
	defaultBackoffMax    = 250 * time.Millisecond
	defaultBudgetPercent = 20
	defaultBudgetMinimum = 3
	defaultLimit         = 1024
	defaultErrors        = 5
	defaultInterval      = 10 * time.Second
	defaultEjection      = 30 * time.Second
	defaultEjected       = 50
)

// builtIn is what holds where nobody says anything: retries only of what was
// provably not processed, no request timeout, no outlier detection.
func builtIn() model.Traffic {
	return model.Traffic{
		IdleTimeout:    defaultIdle,
		ConnectTimeout: defaultConnect,
		Retry: model.Retry{
			Attempts: defaultAttempts, On: defaultOn(),
			BackoffBase: defaultBackoffBase, BackoffMax: defaultBackoffMax,
			BudgetPercent: defaultBudgetPercent, BudgetMinimum: defaultBudgetMinimum,
		},
		CircuitBreaker: model.CircuitBreaker{MaxConnections: defaultLimit, MaxPendingRequests: defaultLimit, MaxRequests: defaultLimit},
	}
}

// defaultOn are the conditions that prove that no server has processed the request, sorted.
func defaultOn() []model.RetryOn {
	return []model.RetryOn{model.ConnectFailure, model.RefusedStream, model.ResetBeforeRequest}
}

// settingsReader reads TrafficSettings and gathers what is wrong with them.
type settingsReader struct {
	origin   report.Origin
	root     string
	findings []report.Finding
}

func (r *settingsReader) refuse(reason report.Reason, field, format string, args ...any) {
	r.findings = append(r.findings, object.Refused(r.origin, reason, r.root+"."+field, format, args...))
}

// ReadSettings reads TrafficSettings at the field root of an object.
func ReadSettings(o report.Origin, root string, s meshv1a1.TrafficSettings) (Settings, []report.Finding) {
	r := &settingsReader{origin: o, root: root}
	var out Settings
	if s.Timeout != nil {
		out.Timeout = r.timeout(*s.Timeout)
	}
	if s.Retry != nil {
		out.Retry = r.retry(*s.Retry)
	}
	if s.CircuitBreaker != nil {
		out.CircuitBreaker = &model.CircuitBreaker{
			MaxConnections:     r.count("circuitBreaker.maxConnections", s.CircuitBreaker.MaxConnections, defaultLimit),
			MaxPendingRequests: r.count("circuitBreaker.maxPendingRequests", s.CircuitBreaker.MaxPendingRequests, defaultLimit),
			MaxRequests:        r.count("circuitBreaker.maxRequests", s.CircuitBreaker.MaxRequests, defaultLimit),
		}
	}
	if o := s.OutlierDetection; o != nil {
		out.OutlierDetection = &model.OutlierDetection{
			ConsecutiveErrors: r.count("outlierDetection.consecutiveErrors", o.ConsecutiveErrors, defaultErrors),
			Interval:          r.positive("outlierDetection.interval", o.Interval, defaultInterval),
			BaseEjection:      r.positive("outlierDetection.baseEjection", o.BaseEjection, defaultEjection),
			MaxEjectedPercent: r.percent("outlierDetection.maxEjectedPercent", r.count("outlierDetection.maxEjectedPercent", o.MaxEjectedPercent, defaultEjected)),
		}
	}
	if s.LoadBalancing != nil {
		out.LoadBalancing = r.loadBalancing(*s.LoadBalancing)
	}
	if s.RateLimit != nil {
		r.refuse(report.Unsupported, "rateLimit", "this version of meshd limits no rates: leave the field out")
	}
	if s.Fault != nil {
		r.refuse(report.Unsupported, "fault", "this version of meshd injects no faults: leave the field out")
	}
	out.Protocol = r.protocol(s.Protocol)
	return out, r.findings
}

func (r *settingsReader) timeout(t meshv1a1.Timeout) *Timeouts {
	out := &Timeouts{
		Request: r.duration("timeout.request", t.Request, 0),
		Backend: r.duration("timeout.backend", t.Backend, 0),
		Idle:    r.duration("timeout.idle", t.Idle, defaultIdle),
		Connect: r.positive("timeout.connect", t.Connect, defaultConnect),
	}
	if out.Request > 0 && out.Backend > out.Request {
		r.refuse(report.Invalid, "timeout.backend", "one try (%s) may not take longer than the request (%s)", t.Backend, t.Request)
	}
	return out
}

func (r *settingsReader) retry(in meshv1a1.Retry) *model.Retry {
	out := builtIn().Retry
	out.NonIdempotent = in.NonIdempotent
	out.Attempts = r.optional("retry.attempts", in.Attempts, defaultAttempts)
	if in.On != nil {
		out.On = r.conditions(in.On)
	}
	if in.Codes != nil && len(in.Codes) == 0 {
		r.refuse(report.Invalid, "retry.codes", "an empty list names nothing: leave the field out")
	}
	for _, code := range in.Codes {
		if code < 400 || code > 599 {
			r.refuse(report.Invalid, "retry.codes", "%d is not a status code from 400 to 599", code)
			continue
		}
		out.Codes = append(out.Codes, uint32(code))
	}
	slices.Sort(out.Codes)
	out.Codes = slices.Compact(out.Codes)
	if b := in.Backoff; b != nil {
		out.BackoffBase = r.positive("retry.backoff.base", b.Base, defaultBackoffBase)
		out.BackoffMax = r.positive("retry.backoff.max", b.Max, max(defaultBackoffMax, out.BackoffBase))
		if out.BackoffMax < out.BackoffBase {
			r.refuse(report.Invalid, "retry.backoff.max", "%s is less than base, %s", out.BackoffMax, out.BackoffBase)
		}
	}
	if b := in.Budget; b != nil {
		out.BudgetPercent = r.percent("retry.budget.percent", r.optional("retry.budget.percent", b.Percent, defaultBudgetPercent))
		out.BudgetMinimum = r.optional("retry.budget.minimum", b.Minimum, defaultBudgetMinimum)
	}
	return &out
}

func (r *settingsReader) conditions(on []string) []model.RetryOn {
	if len(on) == 0 {
		r.refuse(report.Invalid, "retry.on", "an empty list names nothing: leave the field out, or set attempts to 0")
	}
	var out []model.RetryOn
	for _, c := range on {
		switch condition := model.RetryOn(c); condition {
		case model.ConnectFailure, model.RefusedStream, model.ResetBeforeRequest, model.Reset, model.Unavailable,
			model.DeadlineExceeded, model.ResourceExhausted, model.Internal, model.Cancelled:
			out = append(out, condition)
		default:
			r.refuse(report.Invalid, "retry.on", "%q is no condition such as ConnectFailure or Reset", c)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func (r *settingsReader) loadBalancing(in meshv1a1.LoadBalancing) *model.LoadBalancing {
	out := &model.LoadBalancing{SlowStart: r.duration("loadBalancing.slowStart", in.SlowStart, 0)}
	if in.Hash != nil {
		r.refuse(report.Unsupported, "loadBalancing.hash", "this version of meshd balances by no hash: leave the field out")
	}
	switch in.Policy {
	case "", "LeastRequest":
	case "RoundRobin":
		out.Policy = model.RoundRobin
	case "Random":
		out.Policy = model.Random
		if out.SlowStart > 0 {
			r.refuse(report.Invalid, "loadBalancing.slowStart", "Random takes no slow start: use LeastRequest or RoundRobin")
		}
	case "RingHash", "Maglev":
		r.refuse(report.Unsupported, "loadBalancing.policy", "this version of meshd balances by no hash: use LeastRequest, RoundRobin or Random")
	default:
		r.refuse(report.Invalid, "loadBalancing.policy", "%q is not LeastRequest, RoundRobin or Random", in.Policy)
	}
	return out
}

func (r *settingsReader) protocol(p string) model.Protocol {
	switch p {
	case "":
		return model.Undeclared
	case "HTTP":
		return model.HTTP
	case "HTTP2":
		return model.HTTP2
	case "GRPC":
		return model.GRPC
	case "TCP":
		return model.TCP
	}
	r.refuse(report.Invalid, "protocol", "%q is not HTTP, HTTP2, GRPC or TCP", p)
	return model.Undeclared
}

func (r *settingsReader) duration(field string, d meshv1a1.Duration, otherwise time.Duration) time.Duration {
	out, err := object.Duration(d, otherwise)
	if err != nil {
		r.refuse(report.Invalid, field, "%v", err)
	}
	return out
}

func (r *settingsReader) positive(field string, d meshv1a1.Duration, otherwise time.Duration) time.Duration {
	out, err := object.Duration(d, otherwise)
	if err == nil && out <= 0 {
		r.refuse(report.Invalid, field, "must be more than 0")
	}
	if err != nil {
		r.refuse(report.Invalid, field, "%v", err)
	}
	return out
}

// count reads a number whose 0 is "left out".
func (r *settingsReader) count(field string, n int32, otherwise uint32) uint32 {
	if n == 0 {
		return otherwise
	}
	return r.optional(field, &n, otherwise)
}

func (r *settingsReader) optional(field string, n *int32, otherwise uint32) uint32 {
	if n == nil {
		return otherwise
	}
	if *n < 0 {
		r.refuse(report.Invalid, field, "%d is less than 0", *n)
		return otherwise
	}
	return uint32(*n)
}

func (r *settingsReader) percent(field string, n uint32) uint32 {
	if n > 100 {
		r.refuse(report.Invalid, field, "%d is more than 100 percent", n)
	}
	return n
}
