package main

import (
	"log/slog"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/meshd-io/meshd/pkg/telemetry"
	"github.com/meshd-io/meshd/pkg/xds/acks"
	"github.com/meshd-io/meshd/pkg/xds/envoy"
)

func TestRecorderCounts(t *testing.T) {
	metrics := telemetry.New()
	r := newRecorder(acks.NewBook(), slog.New(slog.DiscardHandler), metrics)
	for _, name := range []string{"a", "b"} {
		r.Record(acks.Event{Kind: acks.Connected, At: time.Unix(1, 0), Proxy: proxyOf(name)})
	}
	r.Record(acks.Event{Kind: acks.Disconnected, Proxy: proxyOf("b")})
	for _, typ := range acks.Types() {
		r.Record(acks.Event{Kind: acks.Sent, Proxy: proxyOf("a"), Type: typ, Resources: 3})
	}
	r.Record(acks.Event{Kind: acks.Resumed, Proxy: proxyOf("a"), Type: envoy.OnDemandType, Resources: 2})
	answer := httptest.NewRecorder()
	metrics.Handler().ServeHTTP(answer, httptest.NewRequestWithContext(t.Context(), "GET", "/metrics", nil))
	for _, want := range []string{
		"meshd_proxies 1",
		`meshd_xds_resources_sent_total{type="Listener"} 3`,
		`meshd_xds_resources_sent_total{type="OnDemandCluster"} 3`,
		`meshd_xds_resources_resumed_total{type="OnDemandCluster"} 2`,
		`meshd_xds_resources_resumed_total{type="Cluster"} 0`,
	} {
		if !strings.Contains(answer.Body.String(), want+"\n") {
			t.Errorf("no %s in\n%s", want, answer.Body)
		}
	}
}
