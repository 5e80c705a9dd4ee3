package envoy

import (
	"cmp"
	"strings"

	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/config/accesslog/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	celfilterv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/filters/cel/v3"
	statsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/stats/v3"
	streamv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/stream/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/meshd-io/meshd/pkg/model"
)

// The formats of what is told of a peer and of this proxy.
const (
	upstreamPeer   = "%UPSTREAM_PEER_URI_SAN%"
	downstreamPeer = "%DOWNSTREAM_PEER_URI_SAN%"
)

// defaultSeries bounds the metrics of a proxy where MeshConfig does not.
const defaultSeries = 2000

// reporter is who reports: the proxy that sends, or the one that receives.
type reporter struct {
	name                string
	source, destination string // formats
}

func (t *translation) asSource() reporter {
	return reporter{"source", literal(t.view.Identity), upstreamPeer}
}

func (t *translation) asDestination() reporter {
	return reporter{"destination", downstreamPeer, literal(t.view.Identity)}
}

// literal takes a text for itself where a format is wanted.
func literal(s string) string { return strings.ReplaceAll(cmp.Or(s, "-"), "%", "%%") }

func (t *translation) httpSourceLog() []*accesslogv3.AccessLog { return t.httpLog(t.asSource()) }

func (t *translation) httpDestinationLog() []*accesslogv3.AccessLog {
	return t.httpLog(t.asDestination())
}

// tcpSourceLog leaves the proxy's own hops out: the listener behind them tells
// the same connection with its real peer.
func (t *translation) tcpSourceLog() []*accesslogv3.AccessLog {
	logs := t.tcpLog(t.asSource())
	for _, l := range logs {
		l.Filter = both(l.Filter, notHop())
	}
	return logs
}

func (t *translation) tcpDestinationLog() []*accesslogv3.AccessLog {
	return t.tcpLog(t.asDestination())
}

func (t *translation) httpLog(r reporter) []*accesslogv3.AccessLog {
	tags := append(r.tags(),
		tag("code", "%RESPONSE_CODE%"), tag("flags", "%RESPONSE_FLAGS%"), tag("grpc", "%GRPC_STATUS%"),
		tag("details", "%RESPONSE_CODE_DETAILS%"))
	stats := &statsv3.Config{
		StatsScope: t.statsScope(),
		Counters: []*statsv3.Config_Counter{
			counter("requests_total", tags),
		},
		Histograms: []*statsv3.Config_Histogram{
			histogram("request_duration", statsv3.Config_Histogram_Milliseconds, "%DURATION%", r.tags()),
			histogram("request_bytes", statsv3.Config_Histogram_Bytes, "%BYTES_RECEIVED%", r.tags()),
			histogram("response_bytes", statsv3.Config_Histogram_Bytes, "%BYTES_SENT%", r.tags()),
		},
	}
	fields := r.fields()
	fields["method"] = "%REQ(:METHOD)%"
	fields["authority"] = "%REQ(:AUTHORITY)%"
	fields["path"] = "%PATH(NQ)%" // a query may hold secrets
	fields["protocol"] = "%PROTOCOL%"
	fields["code"] = "%RESPONSE_CODE%"
	fields["details"] = "%RESPONSE_CODE_DETAILS%"
	fields["grpc"] = "%GRPC_STATUS%"
	return t.logs(stats, fields)
}

func (t *translation) tcpLog(r reporter) []*accesslogv3.AccessLog {
	tags := append(r.tags(), tag("flags", "%RESPONSE_FLAGS%"), tag("details", "%CONNECTION_TERMINATION_DETAILS%"))
	sent := counter("tcp_sent_bytes_total", r.tags())
	sent.ValueFixed, sent.ValueFormat = nil, "%BYTES_RECEIVED%"
	received := counter("tcp_received_bytes_total", r.tags())
	received.ValueFixed, received.ValueFormat = nil, "%BYTES_SENT%"
	stats := &statsv3.Config{
		StatsScope: t.statsScope(),
		Counters:   []*statsv3.Config_Counter{counter("tcp_connections_total", tags), sent, received},
	}
	fields := r.fields()
	fields["details"] = "%CONNECTION_TERMINATION_DETAILS%"
	return t.logs(stats, fields)
}

// statsScope is one for all listeners of a proxy, so that its bound holds for all together.
func (t *translation) statsScope() *typev3.Scope {
	return &typev3.Scope{
		Prefix: "meshd", SharingName: "meshd",
		MaxCounters: number(cmp.Or(t.view.Settings.Telemetry.MaxSeries, defaultSeries)),
	}
}

func (r reporter) tags() []*statsv3.Config_Tag {
	return []*statsv3.Config_Tag{
		tag("reporter", r.name), tag("source", r.source), tag("destination", r.destination),
		tag("address", "%DOWNSTREAM_LOCAL_ADDRESS%"), tag("cluster", "%UPSTREAM_CLUSTER_RAW%"),
	}
}

func tag(name, format string) *statsv3.Config_Tag {
	return &statsv3.Config_Tag{Name: name, ValueFormat: format}
}

func counter(name string, tags []*statsv3.Config_Tag) *statsv3.Config_Counter {
	return &statsv3.Config_Counter{
		Stat: &statsv3.Config_Stat{Name: name, Tags: tags}, ValueFixed: wrapperspb.UInt64(1),
	}
}

func histogram(name string, unit statsv3.Config_Histogram_Unit, format string, tags []*statsv3.Config_Tag) *statsv3.Config_Histogram {
	return &statsv3.Config_Histogram{Unit: unit, ValueFormat: format, Stat: &statsv3.Config_Stat{Name: name, Tags: tags}}
}

func (r reporter) fields() map[string]string {
	return map[string]string{
		"time": "%START_TIME%", "reporter": r.name, "source": r.source, "destination": r.destination,
		"address": "%DOWNSTREAM_LOCAL_ADDRESS%", "peer": "%DOWNSTREAM_DIRECT_REMOTE_ADDRESS%",
		"upstream": "%UPSTREAM_HOST%", "cluster": "%UPSTREAM_CLUSTER_RAW%", "route": "%ROUTE_NAME%",
		"duration_ms": "%DURATION%", "bytes_received": "%BYTES_RECEIVED%", "bytes_sent": "%BYTES_SENT%",
		"flags": "%RESPONSE_FLAGS%", "failure": "%UPSTREAM_TRANSPORT_FAILURE_REASON%",
	}
}

// logs are the metrics, and lines on standard output as MeshConfig wants them.
func (t *translation) logs(stats *statsv3.Config, fields map[string]string) []*accesslogv3.AccessLog {
	out := []*accesslogv3.AccessLog{{
		Name:       "envoy.access_loggers.stats",
		ConfigType: &accesslogv3.AccessLog_TypedConfig{TypedConfig: pack(stats)},
	}}
	level := t.view.Settings.Telemetry.AccessLog
	if level == model.AccessLogOff {
		return out
	}
	format := &structpb.Struct{Fields: map[string]*structpb.Value{}}
	for k, v := range fields {
		format.Fields[k] = structpb.NewStringValue(v)
	}
	lines := &accesslogv3.AccessLog{
		Name: "envoy.access_loggers.stdout",
		ConfigType: &accesslogv3.AccessLog_TypedConfig{TypedConfig: pack(&streamv3.StdoutAccessLog{
			AccessLogFormat: &streamv3.StdoutAccessLog_LogFormat{LogFormat: &corev3.SubstitutionFormatString{
				OmitEmptyValues: true,
				Format:          &corev3.SubstitutionFormatString_JsonFormat{JsonFormat: format},
			}},
		})},
	}
	if level == model.AccessLogErrors {
		lines.Filter = errorsOnly()
	}
	return append(out, lines)
}

// errorsOnly lets through what the proxy itself refused or could not do, and 5xx.
func errorsOnly() *accesslogv3.AccessLogFilter {
	return either(
		&accesslogv3.AccessLogFilter{FilterSpecifier: &accesslogv3.AccessLogFilter_ResponseFlagFilter{
			ResponseFlagFilter: &accesslogv3.ResponseFlagFilter{},
		}},
		status(accesslogv3.ComparisonFilter_GE, 500),
		status(accesslogv3.ComparisonFilter_EQ, 403),
	)
}

// notHop is told by where the connection went: to a socket of the proxy itself.
func notHop() *accesslogv3.AccessLogFilter {
	return &accesslogv3.AccessLogFilter{FilterSpecifier: &accesslogv3.AccessLogFilter_ExtensionFilter{
		ExtensionFilter: &accesslogv3.ExtensionFilter{
			Name: "envoy.access_loggers.extension_filters.cel",
			ConfigType: &accesslogv3.ExtensionFilter_TypedConfig{TypedConfig: pack(&celfilterv3.ExpressionFilter{
				Expression: `!has(upstream.address) || !(upstream.address.startsWith("/") || upstream.address == "127.0.0.1:15003")`,
			})},
		},
	}}
}

func status(op accesslogv3.ComparisonFilter_Op, code uint32) *accesslogv3.AccessLogFilter {
	return &accesslogv3.AccessLogFilter{FilterSpecifier: &accesslogv3.AccessLogFilter_StatusCodeFilter{
		StatusCodeFilter: &accesslogv3.StatusCodeFilter{Comparison: &accesslogv3.ComparisonFilter{
			Op: op, Value: &corev3.RuntimeUInt32{DefaultValue: code, RuntimeKey: "meshd.access_log"},
		}},
	}}
}

func either(list ...*accesslogv3.AccessLogFilter) *accesslogv3.AccessLogFilter {
	return &accesslogv3.AccessLogFilter{FilterSpecifier: &accesslogv3.AccessLogFilter_OrFilter{
		OrFilter: &accesslogv3.OrFilter{Filters: list},
	}}
}

func both(a, b *accesslogv3.AccessLogFilter) *accesslogv3.AccessLogFilter {
	if a == nil {
		return b
	}
	return &accesslogv3.AccessLogFilter{FilterSpecifier: &accesslogv3.AccessLogFilter_AndFilter{
		AndFilter: &accesslogv3.AndFilter{Filters: []*accesslogv3.AccessLogFilter{a, b}},
	}}
}
