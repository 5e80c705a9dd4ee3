package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptrace"
	"os"
	"strings"
	"time"
)

// question is one HTTP request, as written: its URL is not tidied.
type question struct {
	Method  string      `json:"method"`
	URL     string      `json:"url"`
	Host    string      `json:"host"` // header, and name in TLS
	H2      bool        `json:"h2"`   // by prior knowledge
	Headers http.Header `json:"headers"`
}

// reply is what came of a question.
type reply struct {
	httpAnswer
	Reused      bool     `json:"reused"`      // the connection had carried a request before
	Certificate []string `json:"certificate"` // the names in the server's
}

// askAll reads questions from stdin, a line each, and answers each with a line
// before it reads the next. Connections are kept.
func askAll() error {
	h1, h2 := &http.Transport{}, &http.Transport{Protocols: &http.Protocols{}}
	h2.Protocols.SetUnencryptedHTTP2(true)
	in := json.NewDecoder(bufio.NewReader(os.Stdin))
	for {
		var q question
		if err := in.Decode(&q); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		transport := h1
		switch {
		case q.H2:
			transport = h2
		case strings.HasPrefix(q.URL, "https:"):
			transport = &http.Transport{
				DisableKeepAlives: true,
				TLSClientConfig:   &tls.Config{InsecureSkipVerify: true, ServerName: q.Host}, // whoever answers is to be seen
			}
		}
		out, err := q.ask(transport)
		if err != nil {
			return err
		}
		if err := printJSON(out); err != nil {
			return err
		}
	}
}

func (q question) ask(transport http.RoundTripper) (reply, error) {
	var out reply
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GotConn: func(c httptrace.GotConnInfo) { out.Reused = c.Reused },
		TLSHandshakeDone: func(s tls.ConnectionState, _ error) {
			if len(s.PeerCertificates) > 0 {
				out.Certificate = s.PeerCertificates[0].DNSNames
			}
		},
	})
	req, err := http.NewRequestWithContext(ctx, q.Method, q.URL, nil)
	if err != nil {
		return out, err
	}
	req.Host = q.Host
	for name, values := range q.Headers {
		req.Header[http.CanonicalHeaderKey(name)] = values
	}
	out.httpAnswer = ask(transport, req)
	return out, nil
}
