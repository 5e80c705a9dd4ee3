package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"time"
)

// get makes one request and prints "CODE BODY"; a request without an answer is "000 REASON".
func get(args []string) error {
	flags := flag.NewFlagSet("get", flag.ContinueOnError)
	host := flags.String("host", "", "Host header")
	method := flags.String("method", http.MethodGet, "HTTP method")
	timeout := flags.Duration("timeout", 15*time.Second, "give up after")
	insecure := flags.Bool("insecure", false, "take any certificate")
	if len(args) == 0 {
		return errors.New("usage: eazybank get URL [--host HOST] [--method METHOD] [--insecure]")
	}
	if err := flags.Parse(args[1:]); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), *timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, *method, args[0], nil)
	if err != nil {
		return err
	}
	req.Host = *host
	client := &http.Client{Transport: &http.Transport{
		TLSClientConfig: &tls.Config{ServerName: *host, InsecureSkipVerify: *insecure},
	}}
	resp, err := client.Do(req)
	if err != nil {
		fmt.Printf("000 %v\n", err)
		return nil
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return err
	}
	fmt.Printf("%d %s", resp.StatusCode, body)
	return nil
}

// outcome counts what a load saw.
type outcome struct {
	Requests int            `json:"requests"`
	Failed   int            `json:"failed"` // no answer, or a status that is not 200
	Codes    map[int]int    `json:"codes"`
	Errors   map[string]int `json:"errors,omitempty"`
}

// load makes requests at a steady pace, on new and kept connections in turn, until its time is up.
func load(args []string) error {
	flags := flag.NewFlagSet("load", flag.ContinueOnError)
	length := flags.Duration("for", 10*time.Second, "how long")
	pace := flags.Duration("every", 5*time.Millisecond, "time between requests")
	report := flags.Duration("report", time.Hour, "print how it stands this often, not only at the end")
	if len(args) == 0 {
		return errors.New("usage: eazybank load URL [--for 10s] [--every 5ms] [--report 1s]")
	}
	if err := flags.Parse(args[1:]); err != nil {
		return err
	}
	var (
		mu    sync.Mutex
		group sync.WaitGroup
		out   = outcome{Codes: map[int]int{}, Errors: map[string]int{}}
		kept  = &http.Client{Timeout: 15 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 64}}
		fresh = &http.Client{Timeout: 15 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	)
	tell := func() error {
		mu.Lock()
		defer mu.Unlock()
		return json.NewEncoder(os.Stdout).Encode(out)
	}
	tick, stand := time.NewTicker(*pace), time.NewTicker(*report)
	defer tick.Stop()
	defer stand.Stop()
	end := time.After(*length)
	for n := 0; ; {
		select {
		case <-tick.C:
			client := kept
			if n++; n%2 == 1 {
				client = fresh
			}
			group.Go(func() {
				code, err := request(client, args[0])
				mu.Lock()
				defer mu.Unlock()
				out.count(code, err)
			})
		case <-stand.C:
			if err := tell(); err != nil {
				return err
			}
		case <-end:
			group.Wait()
			return tell()
		}
	}
}

func request(client *http.Client, url string) (int, error) {
	resp, err := client.Get(url) //nolint:noctx // the client has a timeout
	if err != nil {
		return 0, err
	}
	defer func() { _ = resp.Body.Close() }()
	_, err = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode, err
}

func (o *outcome) count(code int, err error) {
	o.Requests++
	if err != nil {
		o.Errors[cause(err)]++
	} else {
		o.Codes[code]++
	}
	if err != nil || code != http.StatusOK {
		o.Failed++
	}
}

// cause is what went wrong, without the addresses of one connection: equal faults are counted together.
func cause(err error) string {
	if op := (*net.OpError)(nil); errors.As(err, &op) {
		return op.Op + ": " + op.Err.Error()
	}
	return err.Error()
}
