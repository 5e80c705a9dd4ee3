package main

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	random "math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/spiffetls/tlsconfig"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"

	"github.com/meshd-io/meshd/pkg/ca/cav1"
)

const trustDomain = "cluster.local"

// daemon is a `meshd serve` of its own.
type daemon struct {
	cmd     *exec.Cmd
	address string // of gRPC
	web     string
	admin   string // socket
	anchor  string // file with the roots
	bundle  *x509bundle.Bundle
}

// startDaemon runs meshd with what it keeps in a folder, and waits until it is ready.
func startDaemon(ctx context.Context, bin, dir string, args ...string) (*daemon, error) {
	d := &daemon{admin: filepath.Join(dir, "admin.sock")}
	var err error
	if d.address, err = freeAddress(ctx); err != nil {
		return nil, err
	}
	if d.web, err = freeAddress(ctx); err != nil {
		return nil, err
	}
	d.cmd = exec.CommandContext(ctx, filepath.Join(bin, "meshd"), append([]string{"serve", // our own binary
		"--grpc-address", d.address, "--http-address", d.web, "--admin-socket", d.admin, "--cidrs", cidrs, "--log-level", "error"}, args...)...)
	return d, d.launch(ctx)
}

// trust says by which roots meshd is known.
func (d *daemon) trust(anchor string) error {
	d.anchor = anchor
	var err error
	d.bundle, err = x509bundle.Load(spiffeid.RequireTrustDomainFromString(trustDomain), anchor)
	return err
}

func (d *daemon) launch(ctx context.Context) error {
	d.cmd.Stderr = os.Stderr
	if err := d.cmd.Start(); err != nil {
		return err
	}
	if err := until(ctx, "meshd is ready", d.ready); err != nil {
		d.stop()
		return err
	}
	return nil
}

// kill ends the process without a word to its clients.
func (d *daemon) kill() {
	_ = d.cmd.Process.Kill()
	_ = d.cmd.Wait() // ended by the signal
}

// again starts a process like the last, at the same addresses and with the same state.
func (d *daemon) again(ctx context.Context) error {
	d.cmd = exec.CommandContext(ctx, d.cmd.Path, d.cmd.Args[1:]...) // as before
	return d.launch(ctx)
}

func (d *daemon) ready() bool {
	resp, err := http.Get("http://" + d.web + "/readyz") //nolint:noctx // loopback, within until
	if err != nil {
		return false
	}
	defer resp.Body.Close()               //nolint:errcheck // read only
	_, _ = io.Copy(io.Discard, resp.Body) // its text does not matter
	return resp.StatusCode == http.StatusOK
}

// goMemory is what the runtime says of its memory, in MB; the heap is not collected for this.
type goMemory struct{ heap, stacks, free float64 }

func (d *daemon) goMemory() (goMemory, error) {
	values, err := d.metrics()
	if err != nil {
		return goMemory{}, err
	}
	mb := func(name string) float64 { return values["go_memstats_"+name+"_bytes"] / (1 << 20) }
	return goMemory{heap: mb("heap_inuse"), stacks: mb("stack_inuse"), free: mb("heap_idle") - mb("heap_released")}, nil
}

// proxies are those that meshd has; -1 where it does not say.
func (d *daemon) proxies() int {
	values, err := d.metrics()
	if err != nil {
		return -1
	}
	return int(values["meshd_proxies"])
}

// metrics without labels, by name.
func (d *daemon) metrics() (map[string]float64, error) {
	resp, err := http.Get("http://" + d.web + "/metrics") //nolint:noctx // loopback
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close() //nolint:errcheck // read only
	values := map[string]float64{}
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		name, value, _ := strings.Cut(lines.Text(), " ")
		if strings.ContainsAny(name, "#{") {
			continue
		}
		if values[name], err = strconv.ParseFloat(value, 64); err != nil {
			return nil, err
		}
	}
	return values, nil
}

// collect has the garbage collector run.
func (d *daemon) collect(ctx context.Context) error {
	operator := http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", d.admin)
		},
	}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://meshd/debug/pprof/heap?gc=1", nil)
	if err != nil {
		return err
	}
	resp, err := operator.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", req.URL, resp.Status)
	}
	_, err = io.Copy(io.Discard, resp.Body)
	return err
}

func (d *daemon) signal(s syscall.Signal) error { return d.cmd.Process.Signal(s) }

func (d *daemon) stop() {
	_ = d.signal(syscall.SIGTERM)
	_ = d.cmd.Wait() // ended by the signal
}

// freeAddress is on loopback. Somebody may take it before it is used; the program then fails and is run again.
//
// Its port is below those that the kernel gives to connections: of a thousand proxies that dial
// a meshd which is away, one would be given meshd's own port, and be connected to itself.
func freeAddress(ctx context.Context) (string, error) {
	end, err := firstOfClients()
	if err != nil {
		return "", err
	}
	var errs []error
	for range 10 {
		port := end/2 + random.IntN(end-end/2)
		l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err == nil {
			return l.Addr().String(), l.Close()
		}
		errs = append(errs, err)
	}
	return "", errors.Join(errs...)
}

// firstOfClients is the first port that the kernel gives to connections.
func firstOfClients() (port int, err error) {
	const file = "/proc/sys/net/ipv4/ip_local_port_range"
	raw, err := os.ReadFile(file)
	if err != nil {
		return 0, err
	}
	if _, err := fmt.Sscan(string(raw), &port); err != nil {
		return 0, fmt.Errorf("%s: %w", file, err)
	}
	return port, nil
}

// dial opens a connection as a proxy does; without a certificate as an agent does at first.
func (d *daemon) dial(certificate *tls.Certificate) (*grpc.ClientConn, error) {
	td := spiffeid.RequireTrustDomainFromString(trustDomain)
	config := tlsconfig.TLSClientConfig(d.bundle, tlsconfig.AuthorizeMemberOf(td))
	config.MinVersion = tls.VersionTLS13
	if certificate != nil {
		config.Certificates = []tls.Certificate{*certificate}
	}
	return grpc.NewClient(d.address, grpc.WithTransportCredentials(credentials.NewTLS(config)),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(64<<20)))
}

// signer asks the CA over one open connection.
type signer struct {
	client cav1.CertificateServiceClient
	token  string
	key    *ecdsa.PrivateKey
	csr    []byte
}

func newSigner(conn *grpc.ClientConn, token string) (*signer, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		return nil, err
	}
	return &signer{client: cav1.NewCertificateServiceClient(conn), token: token, key: key, csr: csr}, nil
}

func (s *signer) sign(ctx context.Context) (*tls.Certificate, error) {
	ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+s.token)
	out, err := s.client.Sign(ctx, &cav1.SignRequest{Csr: s.csr})
	if err != nil {
		return nil, fmt.Errorf("sign: %w", err)
	}
	return &tls.Certificate{Certificate: out.GetChain(), PrivateKey: s.key}, nil
}
