package envoy

import (
	"strings"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	previousv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/retry/host/previous_hosts/v3"

	"github.com/meshd-io/meshd/pkg/model"
)

// hostSelections is how often another endpoint is drawn when one was tried before.
const hostSelections = 3

// retryPolicies are the policy for every request, and, where some must not be
// sent twice unless it is proven that nobody has processed them, the one for those.
func retryPolicies(t model.Traffic) (careful, all *routev3.RetryPolicy) {
	all = retryPolicy(t, t.Retry.On, t.Retry.Codes)
	if t.Retry.Attempts == 0 || t.Retry.NonIdempotent {
		return nil, all
	}
	var proven []model.RetryOn
	for _, on := range t.Retry.On {
		if on.NotProcessed() {
			proven = append(proven, on)
		}
	}
	if len(proven) == len(t.Retry.On) && len(t.Retry.Codes) == 0 {
		return nil, all
	}
	careful = retryPolicy(t, proven, nil)
	if careful == nil {
		careful = &routev3.RetryPolicy{NumRetries: number(0)}
	}
	return careful, all
}

// retryPolicy is nil where there is nothing to say. A bound on one try needs a
// policy even if there is only one try.
func retryPolicy(t model.Traffic, on []model.RetryOn, codes []uint32) *routev3.RetryPolicy {
	if t.Retry.Attempts == 0 || len(on)+len(codes) == 0 {
		if t.BackendTimeout == 0 {
			return nil
		}
		return &routev3.RetryPolicy{NumRetries: number(0), PerTryTimeout: seconds(t.BackendTimeout)}
	}
	var words []string
	for _, o := range on {
		words = append(words, retryWord(o))
	}
	if len(codes) > 0 {
		words = append(words, "retriable-status-codes")
	}
	p := &routev3.RetryPolicy{
		RetryOn:              strings.Join(words, ","),
		RetriableStatusCodes: codes,
		NumRetries:           number(t.Retry.Attempts),
		PerTryTimeout:        secondsOrUnset(t.BackendTimeout),
		RetryHostPredicate: []*routev3.RetryPolicy_RetryHostPredicate{{
			Name: "envoy.retry_host_predicates.previous_hosts",
			ConfigType: &routev3.RetryPolicy_RetryHostPredicate_TypedConfig{
				TypedConfig: pack(&previousv3.PreviousHostsPredicate{}),
			},
		}},
		HostSelectionRetryMaxAttempts: hostSelections,
	}
	if t.Retry.BackoffBase > 0 {
		p.RetryBackOff = &routev3.RetryPolicy_RetryBackOff{
			BaseInterval: seconds(t.Retry.BackoffBase), MaxInterval: seconds(max(t.Retry.BackoffMax, t.Retry.BackoffBase)),
		}
	}
	return p
}

func retryWord(on model.RetryOn) string {
	switch on {
	case model.ConnectFailure:
		return "connect-failure"
	case model.RefusedStream:
		return "refused-stream"
	case model.ResetBeforeRequest:
		return "reset-before-request"
	case model.Reset:
		return "reset"
	case model.Unavailable:
		return "unavailable"
	case model.DeadlineExceeded:
		return "deadline-exceeded"
	case model.ResourceExhausted:
		return "resource-exhausted"
	case model.Internal:
		return "internal"
	case model.Cancelled:
		return "cancelled"
	}
	return ""
}
