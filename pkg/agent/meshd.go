package agent

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/meshd-io/meshd/internal/clock"
	"github.com/meshd-io/meshd/pkg/ca/cav1"
)

const (
	// callTimeout of one signing, name resolution and handshake included.
	callTimeout = 10 * time.Second
	// maxFile bounds the token and trust files.
	maxFile = 256 << 10
)

// meshd is the agent's one connection to meshd, kept open where the next signing
// is near. It is used by one goroutine.
type meshd struct {
	id      spiffeid.ID
	address string
	token   string
	anchor  string
	clock   clock.Clock
	// conn is nil before the first signing and after one that did not reach meshd:
	// then the next one dials at once, at a time that the agent's own back-off has chosen.
	conn *grpc.ClientConn
}

func newMeshd(cfg Config) (*meshd, error) {
	id, err := spiffeid.FromString(cfg.MeshdID)
	if err != nil {
		return nil, fmt.Errorf("meshd's SPIFFE ID: %w", err)
	}
	return &meshd{id: id, address: cfg.Meshd, token: cfg.TokenFile, anchor: cfg.TrustFile, clock: cfg.Clock}, nil
}

func (m *meshd) dial() error {
	if m.conn != nil {
		return nil
	}
	conn, err := grpc.NewClient(m.address,
		grpc.WithTransportCredentials(credentials.NewTLS(m.tls())),
		grpc.WithNoProxy(),
		grpc.WithIdleTimeout(0),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: backoff.DefaultConfig, MinConnectTimeout: 5 * time.Second}),
		grpc.WithReadBufferSize(0), grpc.WithWriteBufferSize(4<<10),
	)
	if err != nil {
		return fmt.Errorf("meshd's address %q: %w", m.address, err)
	}
	m.conn = conn
	return nil
}

func (m *meshd) close() {
	if m.conn != nil {
		_ = m.conn.Close()
		m.conn = nil
	}
}

// tls verifies meshd by the trust anchor file, read at each handshake, and by
// its exact SPIFFE ID: the name that was dialled means nothing.
func (m *meshd) tls() *tls.Config {
	return &tls.Config{
		MinVersion:             tls.VersionTLS13,
		SessionTicketsDisabled: true,
		InsecureSkipVerify:     true, // names are not verified, the chain and SPIFFE ID are, in VerifyConnection
		VerifyConnection: func(cs tls.ConnectionState) error {
			roots, _, err := readAnchor(m.anchor)
			if err != nil {
				return err
			}
			bundle := x509bundle.FromX509Authorities(m.id.TrustDomain(), roots)
			id, _, err := x509svid.Verify(cs.PeerCertificates, bundle, x509svid.WithTime(m.clock.Now()))
			if err != nil {
				return err
			}
			if id != m.id {
				return fmt.Errorf("the server is %s, not %s", id, m.id)
			}
			return nil
		},
	}
}

// sign makes a new key and has it certified. The token file is read each time:
// kubelet replaces it.
func (m *meshd) sign(ctx context.Context) (*SVID, error) {
	if _, _, err := readAnchor(m.anchor); err != nil {
		return nil, err
	}
	token, err := readToken(m.token)
	if err != nil {
		return nil, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	// No names: meshd makes them from what the token proves.
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		return nil, err
	}
	if err := m.dial(); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+token)
	resp, err := cav1.NewCertificateServiceClient(m.conn).Sign(ctx, &cav1.SignRequest{Csr: csr})
	if err != nil {
		if c := status.Code(err); c == codes.Unavailable || c == codes.DeadlineExceeded {
			m.close()
		}
		return nil, err
	}
	return checkSVID(resp.GetChain(), resp.GetRoots(), key, m.id.TrustDomain(), m.clock.Now())
}

func readToken(path string) (string, error) {
	raw, err := readFile(path)
	if err != nil {
		return "", fmt.Errorf("token file: %w", err)
	}
	token := strings.TrimSpace(string(raw))
	if token == "" {
		return "", fmt.Errorf("token file: %s is empty", path)
	}
	if strings.ContainsAny(token, " \t\r\n\x00") {
		return "", fmt.Errorf("token file: %s holds more than a token", path)
	}
	return token, nil
}

func readAnchor(path string) ([]*x509.Certificate, []byte, error) {
	raw, err := readFile(path)
	if err != nil {
		return nil, nil, fmt.Errorf("trust file: %w", err)
	}
	certs, err := parsePEM(raw)
	if err != nil {
		return nil, nil, fmt.Errorf("trust file: %s: %w", path, err)
	}
	return certs, raw, nil
}

func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	raw, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(raw) > maxFile {
		err = errors.New(path + " is too large")
	}
	return raw, err
}
