package main

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/meshd-io/meshd/pkg/capture"
)

func TestCaptureFlags(t *testing.T) {
	got, err := captureConfig([]string{
		"--exclude-inbound-ports=9090,22", "--exclude-outbound-ports=5432", "--exclude-outbound-cidrs=192.0.2.0/24,2001:db8::/32", "--exclude-uids=0,101",
	})
	if err != nil {
		t.Fatal(err)
	}
	want := capture.Config{
		InboundPorts: []uint16{9090, 22}, OutboundPorts: []uint16{5432}, UIDs: []uint32{0, 101},
		OutboundCIDRs: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("2001:db8::/32")},
	}
	if d := cmp.Diff(want, got, cmpopts.EquateComparable(netip.Prefix{})); d != "" {
		t.Error(d)
	}
	if got, err := captureConfig(nil); err != nil || !cmp.Equal(got, capture.Config{}) {
		t.Errorf("no flags: %+v, %v", got, err)
	}
}

func TestCaptureFlagsThatAreWrong(t *testing.T) {
	for _, tc := range []struct{ arg, names string }{
		{"--exclude-inbound-ports=http", `"http" is not a port`},
		{"--exclude-outbound-ports=0", `"0" is not a port`},
		{"--exclude-outbound-ports=1,,2", `"" is not a port`},
		{"--exclude-outbound-cidrs=10.0.0.0/33", "10.0.0.0/33"},
		{"--exclude-uids=-1", `"-1" is not a user ID`},
		{"now", `"now"`},
	} {
		if _, err := captureConfig([]string{tc.arg}); err == nil || !strings.Contains(err.Error(), tc.names) {
			t.Errorf("%s: %v", tc.arg, err)
		}
	}
}
