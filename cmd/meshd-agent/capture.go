package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"net/netip"
	"os"
	"strconv"
	"strings"

	"github.com/meshd-io/meshd/pkg/capture"
)

// captureTraffic redirects the traffic of this network namespace, and is done.
func captureTraffic(args []string) error {
	cfg, err := captureConfig(args)
	if err != nil {
		return err
	}
	return capture.Apply(cfg)
}

func captureConfig(args []string) (capture.Config, error) {
	var cfg capture.Config
	fs := flag.NewFlagSet("capture", flag.ContinueOnError)
	fs.Func("exclude-inbound-ports", "`ports` of the pod that are reached directly, separated by commas", list(&cfg.InboundPorts, readPort))
	fs.Func("exclude-outbound-ports", "`ports` of destinations that are reached directly", list(&cfg.OutboundPorts, readPort))
	fs.Func("exclude-outbound-cidrs", "`CIDRs` of destinations that are reached directly", list(&cfg.OutboundCIDRs, netip.ParsePrefix))
	fs.Func("exclude-uids", "`IDs` of users whose processes reach every destination directly", list(&cfg.UIDs, readUID))
	// A bad flag is told once, by the error: the reason is to be one line.
	fs.SetOutput(io.Discard)
	if err := fs.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			fs.SetOutput(os.Stderr)
			fs.PrintDefaults()
		}
		return cfg, err
	}
	if fs.NArg() > 0 {
		return cfg, fmt.Errorf("capture takes flags only, not %q", fs.Arg(0))
	}
	return cfg, nil
}

// list reads values separated by commas; an empty text is an empty list.
func list[T any](to *[]T, read func(string) (T, error)) func(string) error {
	return func(text string) error {
		if text == "" {
			return nil
		}
		for part := range strings.SplitSeq(text, ",") {
			v, err := read(strings.TrimSpace(part))
			if err != nil {
				return err
			}
			*to = append(*to, v)
		}
		return nil
	}
}

func readPort(s string) (uint16, error) {
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil || n == 0 {
		return 0, fmt.Errorf("%q is not a port", s)
	}
	return uint16(n), nil
}

func readUID(s string) (uint32, error) {
	n, err := strconv.ParseUint(s, 10, 32)
	if err != nil || n == math.MaxUint32 {
		return 0, fmt.Errorf("%q is not a user ID", s)
	}
	return uint32(n), nil
}
