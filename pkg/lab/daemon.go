package lab

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/meshd-io/meshd/pkg/console"
	"github.com/meshd-io/meshd/pkg/lab/dns"
	"github.com/meshd-io/meshd/pkg/lab/kubelet"
	"github.com/meshd-io/meshd/pkg/lab/network"
	"github.com/meshd-io/meshd/pkg/lab/sandbox"
	"github.com/meshd-io/meshd/pkg/lab/store"
	"github.com/meshd-io/meshd/pkg/lab/token"
	"github.com/meshd-io/meshd/pkg/report"
)

const (
	dnsPort = 53
	// closeTime is how long pods have to end when the lab is taken down.
	closeTime = 3 * time.Second
)

// daemon is a running lab.
type daemon struct {
	options Options
	log     *slog.Logger

	store   *store.Store
	kubelet *kubelet.Kubelet
	network *network.Network
	dns     *dns.Server
	issuer  *token.Issuer
	meshd   *console.Client // nil without a mesh

	mu     sync.Mutex // held while the files, rules and pods are brought in line with the store
	mirror *store.Mirror
	trust  string                // meshd's trust anchor, "" until it is known
	ports  []network.ServicePort // in force
	names  dns.Records           // in force
	// notes of the injector, by the object that the user gave.
	notes map[report.Object][]string

	closing context.Context
	close   context.CancelFunc
}

// Run is the lab's daemon. It returns when ctx is done and every pod has ended.
func Run(ctx context.Context, o Options, log *slog.Logger) error {
	d, err := newDaemon(o, log)
	if err != nil {
		return err
	}
	// Pods keep their names while they end.
	serving, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	if err := d.open(serving); err != nil {
		return err
	}
	listener, err := listen(ctx, o.socket())
	if err != nil {
		return err
	}
	var group sync.WaitGroup
	group.Go(func() { d.loop(serving) })
	if d.meshd != nil {
		group.Go(func() { d.watchTrust(serving) })
	}
	err = d.serve(ctx, listener)
	d.close()
	end, cancel := context.WithTimeout(context.Background(), closeTime)
	defer cancel()
	d.kubelet.Close(end)
	stop()
	group.Wait()
	return errors.Join(err, d.dns.Close(), d.network.Close())
}

func newDaemon(o Options, log *slog.Logger) (*daemon, error) {
	d := &daemon{options: o, log: log, notes: map[report.Object][]string{}}
	d.closing, d.close = context.WithCancel(context.Background())
	addresses := store.NewAddresses(o.Network.Services.V4, o.Network.Services.V6)
	d.store = store.New(store.Options{Addresses: addresses, Mutate: d.mutate})
	for _, dir := range []string{o.stateDir(), o.logDir()} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, fmt.Errorf("lab's folder: %w", err)
		}
	}
	var err error
	if d.mirror, err = store.NewMirror(o.configDir()); err != nil {
		return nil, err
	}
	if d.issuer, err = token.New(d.accountUID); err != nil {
		return nil, err
	}
	if o.Meshd != "" {
		d.meshd = console.NewClient(o.adminSocket())
	}
	return d, nil
}

// open makes the node and what it serves.
func (d *daemon) open(ctx context.Context) error {
	box, err := sandbox.Open()
	if err != nil {
		return err
	}
	if d.network, err = network.New(d.options.Network); err != nil {
		return err
	}
	node := d.options.Network.Node()
	var at []netip.AddrPort
	for _, a := range node {
		at = append(at, netip.AddrPortFrom(a, dnsPort))
	}
	if d.dns, err = dns.Start(ctx, dns.Config{Listen: at}); err != nil {
		return err
	}
	d.kubelet = kubelet.New(kubelet.Config{
		Sandbox: box, Network: d.network, Store: d.store, Tokens: d.issuer,
		Dir: filepath.Join(box.Private(), "pods"), LogDir: d.options.logDir(), Path: d.options.Path, Programs: d.options.Programs,
		NodeName: "lab", NodeAddresses: node,
		ResolvConf: func(namespace string) string { return dns.ResolvConf(node, namespace) },
		Trusted:    isMeshd, Drain: d.drain, Log: d.log,
	})
	return d.begin()
}

func (d *daemon) accountUID(namespace, name string) string {
	v, _ := d.store.View()
	if sa, ok := store.Get[*corev1.ServiceAccount](v, "ServiceAccount", namespace, name); ok {
		return string(sa.UID)
	}
	return ""
}

// drain returns when the proxies have heard that the pod is about to end.
func (d *daemon) drain(ctx context.Context, p *corev1.Pod) {
	if d.meshd == nil || d.closing.Err() != nil || isMeshd(p) {
		return
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(d.closing, cancel)()
	if _, err := d.meshd.State(ctx, drainWait); err != nil {
		d.log.Debug("pod ends without word from meshd", "pod", p.Name, "error", err)
	}
}

const drainWait = 2 * time.Second

// suffix is the random part of a pod's name.
func suffix() string {
	return strings.ToLower(rand.Text()[:5])
}
