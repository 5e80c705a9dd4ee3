package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"time"
)

// probed is what a probe prints: durations in nanoseconds.
type probed struct {
	First []time.Duration `json:"first"` // of each URL, on a connection of its own
	Again []time.Duration `json:"again"` // the same a second time, on a new connection
	Warm  []time.Duration `json:"warm"`  // of the first URL, on one open connection
}

// probe runs inside of a pod: `bench probe [-warm N] URL...`. Names are
// resolved beforehand: DNS is not what is measured.
func probe(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("probe", flag.ContinueOnError)
	warm := flags.Int("warm", 1000, "requests on the open connection")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() == 0 {
		return errors.New("probe: no URL")
	}
	addresses := map[string]string{}
	for _, u := range flags.Args() {
		if err := resolve(ctx, u, addresses); err != nil {
			return err
		}
	}
	dial := func(ctx context.Context, network, address string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, addresses[address])
	}
	fresh := &http.Client{Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}}
	kept := &http.Client{Transport: &http.Transport{DialContext: dial}}
	var out probed
	for _, list := range []*[]time.Duration{&out.First, &out.Again} {
		for _, u := range flags.Args() {
			d, err := timed(ctx, fresh, u)
			if err != nil {
				return err
			}
			*list = append(*list, d)
		}
	}
	for i := range *warm + 10 {
		d, err := timed(ctx, kept, flags.Arg(0))
		if err != nil {
			return err
		}
		if i >= 10 {
			out.Warm = append(out.Warm, d)
		}
	}
	return json.NewEncoder(os.Stdout).Encode(out)
}

func resolve(ctx context.Context, raw string, into map[string]string) error {
	u, err := url.Parse(raw)
	if err != nil {
		return err
	}
	ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip4", u.Hostname())
	if err != nil {
		return err
	}
	into[u.Host] = net.JoinHostPort(ips[0].String(), u.Port())
	return nil
}

func timed(ctx context.Context, client *http.Client, u string) (time.Duration, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u, nil)
	if err != nil {
		return 0, err
	}
	began := time.Now()
	resp, err := client.Do(req)
	if err != nil {
		return 0, err
	}
	_, err = io.Copy(io.Discard, resp.Body)
	took := time.Since(began)
	if err = errors.Join(err, resp.Body.Close()); err != nil {
		return 0, err
	}
	if resp.StatusCode != http.StatusOK {
		return 0, fmt.Errorf("GET %s: %s", u, resp.Status)
	}
	return took, nil
}
