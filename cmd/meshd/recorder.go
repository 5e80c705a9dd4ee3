package main

import (
	"log/slog"

	"github.com/meshd-io/meshd/pkg/telemetry"
	"github.com/meshd-io/meshd/pkg/xds/acks"
	"github.com/meshd-io/meshd/pkg/xds/envoy"
)

// recorder takes the server's events into the ledger, the metrics and the log.
type recorder struct {
	book    *acks.Book
	log     *slog.Logger
	metrics *telemetry.Metrics
	types   map[envoy.Type]telemetry.Resources
}

func newRecorder(book *acks.Book, log *slog.Logger, metrics *telemetry.Metrics) recorder {
	r := recorder{book: book, log: log, metrics: metrics, types: map[envoy.Type]telemetry.Resources{}}
	for _, t := range acks.Types() {
		r.types[t] = metrics.Resources(shortType(string(t)))
	}
	return r
}

// Record implements server.Recorder.
func (r recorder) Record(e acks.Event) {
	switch e.Kind { // these two change no Ledger
	case acks.Sent:
		r.types[e.Type].Sent(e.Resources)
		return
	case acks.Resumed:
		r.types[e.Type].Resumed(e.Resources)
		return
	}
	r.book.Record(e)
	switch e.Kind {
	case acks.Connected:
		r.log.Info("proxy connected", "proxy", e.Proxy.Name, "identity", e.Proxy.Identity, "certificateExpires", e.Proxy.CertificateExpires)
		r.metrics.Proxies(r.book.Len())
	case acks.Disconnected:
		r.log.Info("proxy disconnected", "proxy", e.Proxy.Name)
		r.metrics.Proxies(r.book.Len())
	case acks.Rejected:
		r.metrics.Rejected()
		r.log.Error("proxy refused a resource", "proxy", e.Proxy.Name, "type", string(e.Resource.Type), "resource", e.Resource.Name,
			"origins", e.Resource.Origins, "message", e.Resource.Message)
	case acks.Refused:
		if e.Destinations > 0 {
			r.metrics.Refused("Destination")
			r.log.Warn("destinations refused", "proxy", e.Proxy.Name, "identity", e.Proxy.Identity, "inUse", e.Destinations, "reason", e.Message)
			return
		}
		r.metrics.Refused("Stream")
		r.log.Warn("stream refused", "proxy", e.Proxy.Name, "identity", e.Proxy.Identity, "reason", e.Message)
	}
}
