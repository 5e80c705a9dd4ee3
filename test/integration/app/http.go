package main

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"
)

// serveHTTP answers HTTP/1.1 and, by prior knowledge, HTTP/2.
func serveHTTP(l net.Listener) error {
	protocols := &http.Protocols{}
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	mux := http.NewServeMux()
	mux.HandleFunc("/", describe)
	mux.HandleFunc("/counted", counted())
	mux.HandleFunc("/echo", echoBody)
	mux.HandleFunc("/status/{code}", answerStatus)
	mux.HandleFunc("/slow", slow)
	mux.HandleFunc("/ws", echoWebsocket)
	new(moods).handle(mux)
	return (&http.Server{Handler: mux, Protocols: protocols, ReadHeaderTimeout: time.Minute}).Serve(l)
}

// seen is what a server says of a request.
type seen struct {
	Pod     string      `json:"pod"`
	Peer    string      `json:"peer"`
	Proto   string      `json:"proto"`
	Host    string      `json:"host"`
	Path    string      `json:"path"`
	Headers http.Header `json:"headers"`
}

func describe(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	err := json.NewEncoder(w).Encode(seen{hostname(), r.RemoteAddr, r.Proto, r.Host, r.URL.Path, r.Header})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
}

// counted says how often it was asked: by ?peek without counting.
func counted() http.HandlerFunc {
	var n atomic.Int64
	return func(w http.ResponseWriter, r *http.Request) {
		if !r.URL.Query().Has("peek") {
			n.Add(1)
		}
		fmt.Fprint(w, n.Load())
	}
}

// echoBody sends the body back while it comes.
func echoBody(w http.ResponseWriter, r *http.Request) {
	err := http.NewResponseController(w).EnableFullDuplex()
	if r.ProtoMajor > 1 {
		err = nil // it is always so
	}
	if err == nil {
		_, err = io.Copy(w, r.Body)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "echo:", err)
	}
}

func answerStatus(w http.ResponseWriter, r *http.Request) {
	code, err := strconv.Atoi(r.PathValue("code"))
	if err != nil {
		code = http.StatusBadRequest
	}
	w.WriteHeader(code)
}

// slow answers never: it waits for the caller to give up.
func slow(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }

func echoWebsocket(w http.ResponseWriter, r *http.Request) {
	c, err := websocket.Accept(w, r, nil)
	if err != nil {
		fmt.Fprintln(os.Stderr, "websocket:", err)
		return
	}
	defer c.CloseNow()
	c.SetReadLimit(1 << 20)
	for {
		kind, data, err := c.Read(r.Context())
		if err != nil {
			return
		}
		if err := c.Write(r.Context(), kind, data); err != nil {
			return
		}
	}
}

type httpAnswer struct {
	Code    int             `json:"code"` // 0 without an answer
	Proto   string          `json:"proto"`
	Body    string          `json:"body"`
	Seen    json.RawMessage `json:"seen,omitempty"`
	Headers http.Header     `json:"headers"`
	Error   string          `json:"error"`
}

func get(args []string) error {
	flags := flag.NewFlagSet("get", flag.ContinueOnError)
	host := flags.String("host", "", "Host header, and name in TLS")
	h2 := flags.Bool("h2", false, "HTTP/2 by prior knowledge")
	method := flags.String("method", http.MethodGet, "HTTP method")
	body := flags.Int("body", 0, "send so many bytes; the answer's body is said to be the \"same\" or not")
	tell := flags.Bool("tell", false, "print a line to stderr when connected")
	socket := flags.String("unix", "", "connect to this socket, whatever host the URL names")
	again := flags.Bool("again", false, "with -tell: ask once more, on the same connection, when there is a line on stdin, and print that answer")
	wait := flags.Duration("timeout", 30*time.Second, "give up after")
	if err := flags.Parse(args); err != nil {
		return err
	}
	transport := &http.Transport{
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true, ServerName: *host}, // whoever answers is to be seen
	}
	if *h2 {
		transport.Protocols = &http.Protocols{}
		transport.Protocols.SetUnencryptedHTTP2(true)
	}
	if *socket != "" {
		transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", *socket)
		}
	}
	if *tell {
		transport.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
			conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
			if err == nil {
				fmt.Fprintln(os.Stderr, "connected")
			}
			return conn, err
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), *wait)
	defer cancel()
	sent := strings.Repeat("0123456789abcdef", *body/16)
	req, err := http.NewRequestWithContext(ctx, *method, flags.Arg(0), strings.NewReader(sent))
	if err != nil {
		return err
	}
	req.Host = *host
	out := ask(transport, req)
	if *again {
		fmt.Fprintln(os.Stderr, "answered", out.Code)
		if _, err := bufio.NewReader(os.Stdin).ReadString('\n'); err != nil {
			return err
		}
		out = ask(transport, req)
	}
	if *body > 0 && out.Body == sent {
		out.Body = "same"
	} else if *body > 0 {
		out.Body = fmt.Sprintf("different: %d bytes", len(out.Body))
	}
	return printJSON(out)
}

func ask(transport http.RoundTripper, req *http.Request) httpAnswer {
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return httpAnswer{Error: err.Error()}
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	out := httpAnswer{Code: resp.StatusCode, Proto: resp.Proto, Body: string(body), Headers: resp.Header, Error: text(err)}
	if resp.Header.Get("Content-Type") == "application/json" {
		out.Seen = body
	}
	return out
}

type messages struct {
	Messages []string `json:"messages"`
	Error    string   `json:"error"`
}

// callWebsocket sends messages of several sizes and notes what comes back.
func callWebsocket(args []string) error {
	if len(args) != 1 {
		return errors.New("usage: app ws URL")
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	out := messages{}
	err := func() error {
		c, resp, err := websocket.Dial(ctx, args[0], nil)
		if resp != nil && resp.Body != nil {
			defer func() { _ = resp.Body.Close() }()
		}
		if err != nil {
			return err
		}
		defer c.CloseNow()
		c.SetReadLimit(1 << 20)
		for _, m := range []string{"one", "two", strings.Repeat("x", 100_000)} {
			if err := c.Write(ctx, websocket.MessageText, []byte(m)); err != nil {
				return err
			}
			_, data, err := c.Read(ctx)
			if err != nil {
				return err
			}
			if string(data) != m {
				return fmt.Errorf("sent %d bytes, got others (%d)", len(m), len(data))
			}
			out.Messages = append(out.Messages, m[:3])
		}
		return c.Close(websocket.StatusNormalClosure, "")
	}()
	out.Error = text(err)
	return printJSON(out)
}

// selfSigned is a certificate that says nothing.
func selfSigned() (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, err
}
