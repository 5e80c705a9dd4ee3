package object

import (
	"fmt"
	"net/netip"
	"regexp"
	"strings"
	"time"

	meshv1a1 "github.com/meshd-io/meshd/api/v1alpha1"
)

// gep2257 is the Gateway API's duration (GEP-2257).
var gep2257 = regexp.MustCompile(`^([0-9]{1,5}(h|m|s|ms)){1,4}$`)

// Duration reads a Gateway API duration; one that is left out is otherwise.
func Duration(d meshv1a1.Duration, otherwise time.Duration) (time.Duration, error) {
	if d == "" {
		return otherwise, nil
	}
	if !gep2257.MatchString(string(d)) {
		return 0, fmt.Errorf("%q is not a duration such as 1h30m or 250ms", d)
	}
	return time.ParseDuration(string(d))
}

// Prefix reads a CIDR such as 10.1.0.0/16 and clears the bits behind its mask.
func Prefix(s string) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(s)
	if err != nil || p.Addr().Is4In6() {
		return netip.Prefix{}, fmt.Errorf("%q is not a CIDR such as 10.1.0.0/16 or fd00::/64", s)
	}
	return p.Masked(), nil
}

// hostname is RFC 1123's subdomain in lower case.
var hostname = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?(\.[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)*$`)

// maxHostname is DNS's limit on a name, in bytes.
const maxHostname = 253

// Host reads a name such as example.com or *.example.com, in lower case.
func Host(s string) (string, error) {
	h := strings.ToLower(s)
	bare := strings.TrimPrefix(h, "*.")
	_, notAddress := netip.ParseAddr(bare)
	if len(bare) > maxHostname || !hostname.MatchString(bare) || notAddress == nil {
		return "", fmt.Errorf("%q is not a name such as example.com or *.example.com", s)
	}
	return h, nil
}
