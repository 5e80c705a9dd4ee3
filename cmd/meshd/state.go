package main

import (
	"context"
	"path"
	"strings"
	"sync"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/meshd-io/meshd/pkg/console"
	"github.com/meshd-io/meshd/pkg/model"
	"github.com/meshd-io/meshd/pkg/report"
	"github.com/meshd-io/meshd/pkg/status"
	"github.com/meshd-io/meshd/pkg/xds/acks"
	"github.com/meshd-io/meshd/pkg/xds/cache"
	"github.com/meshd-io/meshd/pkg/xds/scope"
)

// rescanner reads the sources anew and returns when they have been offered to the pipeline.
type rescanner interface {
	Rescan(ctx context.Context) error
}

// stater answers the operator: what objects, proxies and findings there are.
type stater struct {
	pipeline  *pipeline
	book      *acks.Book
	cache     *cache.Cache
	source    rescanner
	authority func() status.Authority
	formers   formers

	mu       sync.Mutex
	previous map[report.Object][]metav1.Condition // conditions as they were last told
}

// Settle implements console.Source.
func (s *stater) Settle(ctx context.Context) error {
	if err := s.source.Rescan(ctx); err != nil {
		return err
	}
	return s.pipeline.Settled(ctx)
}

// State implements console.Source.
func (s *stater) State() console.State {
	findings, snapshot := s.pipeline.allFindings()
	ledger := s.book.Ledger()
	out := console.State{Ready: snapshot != nil, Findings: findings, Proxies: []console.Proxy{}, Objects: []console.Object{}}
	idle, _ := s.pipeline.idle()
	out.Synced = idle && s.pipeline.synced()
	for _, p := range ledger.Proxies() {
		out.Proxies = append(out.Proxies, consoleProxy(p))
	}
	if snapshot != nil {
		out.Objects = s.objects(snapshot, findings, ledger)
	}
	return out
}

func consoleProxy(p acks.ProxyState) console.Proxy {
	out := console.Proxy{
		Name: p.Name, Kind: p.Kind, Identity: p.Identity, Workload: workloadName(p.Key), Connected: p.Connected.UTC(),
		CertificateExpires: p.CertificateExpires.UTC(), Synced: p.Synced, Destinations: p.Destinations, Refused: p.Refused, Types: []console.ProxyType{},
	}
	for _, t := range p.Types {
		ct := console.ProxyType{
			Type: shortType(string(t.Type)), Resources: t.Resources, Version: t.Published, Acknowledged: t.Acknowledged,
		}
		for _, r := range t.Rejected {
			ct.Rejected = append(ct.Rejected, console.Rejection{Resource: r.Name, Version: r.Version, Message: r.Message, Origins: r.Origins})
		}
		out.Types = append(out.Types, ct)
	}
	return out
}

// shortType turns a type URL into a word: listener, cluster, secret.
func shortType(url string) string {
	name := path.Ext(url)
	if name == "" {
		name = url
	}
	word := strings.TrimPrefix(name, ".")
	if strings.HasPrefix(url, "on-demand/") {
		word = "OnDemand" + word
	}
	return word
}

func workloadName(key scope.Key) string {
	kind := "sidecar"
	if key.Kind == model.GatewayProxy {
		kind = "gateway"
	}
	name := kind + " " + key.Namespace + "/" + key.ServiceAccount
	if key.Labels != "" {
		name += " {" + key.Labels + "}"
	}
	return name
}
