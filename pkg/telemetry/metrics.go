package telemetry

import (
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Metrics are meshd's own. The nil value records nothing.
type Metrics struct {
	registry *prometheus.Registry
	compile  prometheus.Histogram
	findings prometheus.Gauge
	proxies  prometheus.Gauge
	sent     *prometheus.CounterVec
	resumed  *prometheus.CounterVec
	rejected prometheus.Counter
	refused  *prometheus.CounterVec
	signed   prometheus.Counter
	answered *prometheus.CounterVec
	reviewed *prometheus.HistogramVec
	missing  prometheus.Gauge
	leads    prometheus.Gauge
}

// New registers every metric.
func New() *Metrics {
	m := &Metrics{
		registry: prometheus.NewRegistry(),
		compile: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "meshd_compile_seconds",
			Help: "Time to compile a snapshot.", Buckets: prometheus.ExponentialBuckets(0.0005, 4, 8)}),
		findings: prometheus.NewGauge(prometheus.GaugeOpts{Name: "meshd_findings",
			Help: "What users should know about their objects, counted."}),
		proxies: prometheus.NewGauge(prometheus.GaugeOpts{Name: "meshd_proxies",
			Help: "Connected proxies."}),
		sent: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "meshd_xds_resources_sent_total",
			Help: "Resources sent to proxies."}, []string{"type"}),
		resumed: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "meshd_xds_resources_resumed_total",
			Help: "Resources that proxies held already when they connected again."}, []string{"type"}),
		rejected: prometheus.NewCounter(prometheus.CounterOpts{Name: "meshd_xds_rejected_total",
			Help: "Resources that proxies have refused (NACK)."}),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "meshd_refused_total",
			Help: "Calls that were refused, by reason."}, []string{"reason"}),
		signed: prometheus.NewCounter(prometheus.CounterOpts{Name: "meshd_ca_signed_total",
			Help: "Certificates issued."}),
		answered: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "meshd_pod_certificates_total",
			Help: "PodCertificateRequests answered; reason is empty for those that were signed."}, []string{"reason"}),
		reviewed: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "meshd_webhook_seconds",
			Help: "Time to answer an admission review, by outcome.", Buckets: prometheus.ExponentialBuckets(0.0001, 4, 8)}, []string{"outcome"}),
		missing: prometheus.NewGauge(prometheus.GaugeOpts{Name: "meshd_pods_without_sidecar",
			Help: "Pods that should carry a sidecar and do not."}),
		leads: prometheus.NewGauge(prometheus.GaugeOpts{Name: "meshd_leader",
			Help: "1 while this replica is the one that writes to the API server."}),
	}
	m.registry.MustRegister(m.compile, m.findings, m.proxies, m.sent, m.resumed, m.rejected, m.refused, m.signed, m.answered, m.reviewed, m.missing, m.leads,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// Handler serves them in the Prometheus text format.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{})
}

// Compiled records one compilation.
func (m *Metrics) Compiled(took time.Duration, findings int) {
	if m != nil {
		m.compile.Observe(took.Seconds())
		m.findings.Set(float64(findings))
	}
}

// Proxies sets how many are connected.
func (m *Metrics) Proxies(n int) {
	if m != nil {
		m.proxies.Set(float64(n))
	}
}

// Resources counts those of one type: for every response to every proxy, so that
// nothing is looked up. The zero value records nothing.
type Resources struct{ sent, resumed prometheus.Counter }

// Resources are the counters of a type.
func (m *Metrics) Resources(typ string) Resources {
	if m == nil {
		return Resources{}
	}
	return Resources{sent: m.sent.WithLabelValues(typ), resumed: m.resumed.WithLabelValues(typ)}
}

// Sent records resources that were sent.
func (r Resources) Sent(n int) {
	if r.sent != nil {
		r.sent.Add(float64(n))
	}
}

// Resumed records resources that a proxy held already when it connected.
func (r Resources) Resumed(n int) {
	if r.resumed != nil {
		r.resumed.Add(float64(n))
	}
}

// Rejected records a resource that a proxy has refused.
func (m *Metrics) Rejected() {
	if m != nil {
		m.rejected.Inc()
	}
}

// Refused records a refused call.
func (m *Metrics) Refused(reason string) {
	if m != nil {
		m.refused.WithLabelValues(reason).Inc()
	}
}

// Signed records an issued certificate.
func (m *Metrics) Signed() {
	if m != nil {
		m.signed.Inc()
	}
}

// Answered records an answer to a PodCertificateRequest; reason is "" for a certificate.
func (m *Metrics) Answered(reason string) {
	if m != nil {
		m.answered.WithLabelValues(reason).Inc()
		if reason == "" {
			m.signed.Inc()
		}
	}
}

// Reviewed records an admission review.
func (m *Metrics) Reviewed(outcome string, took time.Duration) {
	if m != nil {
		m.reviewed.WithLabelValues(outcome).Observe(took.Seconds())
	}
}

// Uninjected sets how many pods should carry a sidecar and do not.
func (m *Metrics) Uninjected(n int) {
	if m != nil {
		m.missing.Set(float64(n))
	}
}

// Leads records that this replica has begun or ceased to lead.
func (m *Metrics) Leads(leads bool) {
	if m == nil {
		return
	}
	m.leads.Set(0)
	if leads {
		m.leads.Set(1)
	}
}
